"""Type checkers infer exactly what users need, and refuse every wrong use."""

import json
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

# The session `types` has the checkers and selects these; the default run, which does not install
# them, leaves them out with the other slow ones.
pytestmark = [pytest.mark.typing, pytest.mark.slow, pytest.mark.timeout(300)]


def expected() -> set[int]:
    lines = (HERE / "must_fail.py").read_text().splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# error")}


def mypy(file: str) -> tuple[set[int], str]:
    """The lines of `file` with an error, and the whole output."""
    if find_spec("mypy") is None:
        pytest.skip("mypy is not installed; `nox -s types` has it")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-pretty", "--show-error-end", str(HERE / file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    found = re.findall(rf"{re.escape(file)}:(\d+):\S* error:", done.stdout)
    return {int(line) for line in found}, done.stdout


def pyright(file: str) -> tuple[set[int], str]:
    """The lines of `file` with an error, and the whole output."""
    program = shutil.which("pyright", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("pyright is not installed; `nox -s types` has it")
    done = subprocess.run(
        [program, "--outputjson", "--pythonpath", sys.executable, str(HERE / file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(done.stdout)
    errors = [each for each in report["generalDiagnostics"] if each["severity"] == "error"]
    shown = "\n".join(f"{e['range']['start']['line'] + 1}: {e['message']}" for e in errors)
    return {each["range"]["start"]["line"] + 1 for each in errors}, shown


@pytest.mark.parametrize("check", [mypy, pyright])
def test_inference_is_exact(check) -> None:
    """Every `assert_type` of api.py holds."""
    lines, output = check("api.py")
    assert not lines, output


@pytest.mark.parametrize("check", [mypy, pyright])
def test_wrong_uses_are_refused(check) -> None:
    """Each line marked in must_fail.py is an error, and no other line is."""
    lines, output = check("must_fail.py")
    assert lines == expected(), (
        f"not refused: {sorted(expected() - lines)}; refused too: {sorted(lines - expected())}\n"
        f"{output}"
    )
