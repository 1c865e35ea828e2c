"""The files around the code agree with it and with one another."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import aioconc

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def marked(name: str) -> str:
    """The one command under `<!-- run: name -->` in the README."""
    blocks = re.findall(
        rf"^<!-- run: {name} -->\n```sh\n(.*?)\n```$",
        (ROOT / "README.md").read_text(),
        re.MULTILINE | re.DOTALL,
    )
    assert len(blocks) == 1, f"README.md needs one command marked `<!-- run: {name} -->`"
    return blocks[0]


def test_readme_has_two_commands_of_one_line() -> None:
    """One command runs the demo and one the tests; each is a single line that sets all up."""
    for name, last in [
        ("demo", "python -m aioconc demo"),
        ("tests", "-m pytest -q -n 2 --dist loadfile"),
    ]:
        command = marked(name)
        assert "\n" not in command
        assert command.startswith("python3 -m venv ")
        assert command.endswith(last)


def test_ci_runs_the_command_of_the_readme() -> None:
    """`.ci/run` takes the test command out of the README and gets exactly that line."""
    script = (ROOT / ".ci" / "run").read_text()
    function = re.search(r"^readme_command\(\) \{\n.*?^\}$", script, re.MULTILINE | re.DOTALL)
    assert function is not None
    assert "readme_command tests" in script
    done = subprocess.run(
        ["bash", "-c", f"{function[0]}\nreadme_command tests"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == marked("tests")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_extras_of_the_commands_exist() -> None:
    """Every extra and group that a page tells to install is in pyproject.toml."""
    extras = {*PROJECT["project"]["optional-dependencies"]}
    groups = {*PROJECT["dependency-groups"]}
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*/*.md")]
    for page in pages:
        text = page.read_text()
        for listed in re.findall(r"(?:aioconc|'\.|\"\.)\[([a-z,]+)\]", text):
            assert set(listed.split(",")) <= extras, (page, listed)
        assert set(re.findall(r"--group (\w+)", text)) <= groups, page


def test_all_is_every_extra() -> None:
    """`[all]` installs what all the other extras do."""
    extras = PROJECT["project"]["optional-dependencies"]
    (everything,) = extras["all"]
    assert set(everything.removeprefix("aioconc[").removesuffix("]").split(",")) == {*extras} - {
        "all"
    }


def test_extras_named_in_errors_exist() -> None:
    """An error that names an extra to install names one that exists."""
    extras = {*PROJECT["project"]["optional-dependencies"]}
    for file in (ROOT / "src").rglob("*.py"):
        named = set(re.findall(r"aioconc\[(\w+)\]", file.read_text()))
        assert named <= extras, (file, named)


def test_core_needs_two_packages() -> None:
    """anyio and cloudpickle are all that the core depends on."""
    names = {re.split(r"[<>=!~; ]", each)[0] for each in PROJECT["project"]["dependencies"]}
    assert names == {"anyio", "cloudpickle"}


def test_pythons_agree() -> None:
    """The Pythons of the classifiers, of nox and of CI are the same."""
    text = "\n".join(PROJECT["project"]["classifiers"])
    pythons = re.findall(r":: (3\.\d+)$", text, re.MULTILINE)
    listed = ", ".join(f'"{each}"' for each in pythons)
    assert f"PYTHONS = ({listed})" in (ROOT / "noxfile.py").read_text()
    assert f"for version in {' '.join(pythons)};" in (ROOT / ".ci" / "run").read_text()
    assert PROJECT["project"]["requires-python"] == f">={pythons[0]}"


def test_package_is_typed() -> None:
    """The marker file that tells type checkers to read the annotations is there."""
    assert (Path(aioconc.__file__).parent / "py.typed").is_file()


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*/**/*.md")), ids=lambda p: p.stem)
def test_page_starts_with_its_title(page: Path) -> None:
    """Each page of the documentation has one title, on its first line."""
    lines = page.read_text().splitlines()
    assert lines[0].startswith("# "), page
