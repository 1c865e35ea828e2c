"""What `import aioconc` loads: next to nothing, and touching a name loads what that name needs.

Each check runs in a fresh interpreter and reads `sys.modules`, so that no timing is involved.
"""

import json
import subprocess
import sys

import pytest

HEAVY = (
    "asyncio",
    "multiprocessing",
    "concurrent.futures",
    "threading",
    "socket",
    "ssl",
    "logging",
    "anyio",
    "cloudpickle",
    "uvloop",
    "aiohttp",
    "tqdm",
    "rich",
    "numpy",
)


def modules_after(code: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after `code`, beyond those of a bare one."""
    program = "import json, sys\nbefore = set(sys.modules)\n{}\nprint(json.dumps([*sys.modules.keys() - before]))"
    done = subprocess.run(
        [sys.executable, "-I", "-c", program.format(code)],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_package_loads_no_engine() -> None:
    """`import aioconc` loads the root module, and of the standard library nothing heavy."""
    loaded = modules_after("import aioconc")
    assert {each for each in loaded if each.startswith("aioconc")} == {"aioconc"}
    assert not loaded & {*HEAVY}
    # Not even `typing`, which with what it loads costs four times as much as all the rest.
    standard = {each.partition(".")[0] for each in loaded - {"aioconc"}}
    assert standard <= {"importlib", "warnings", "_warnings"}, sorted(loaded)


def test_listing_the_names_loads_nothing() -> None:
    """`dir(aioconc)` and `aioconc.__all__` do not touch the packages."""
    assert "aioconc.tasks" not in modules_after("import aioconc; dir(aioconc); aioconc.__all__")


@pytest.mark.parametrize(
    "name", ["gather_limited", "map_limited", "race", "TaskGroup", "fail_after"]
)
def test_task_layer_loads_no_executor(name: str) -> None:
    """The names of the task layer need asyncio, and neither processes nor any engine."""
    loaded = modules_after(f"from aioconc import {name}")
    assert "asyncio" in loaded
    assert not loaded & {
        "aioconc.executors",
        "multiprocessing.process",
        "concurrent.futures.process",
        "anyio",
        "cloudpickle",
        "uvloop",
        "tqdm",
        "rich",
    }


def test_threads_load_no_processes() -> None:
    """`offload_io` works in threads, so it loads nothing of processes or pickling."""
    loaded = modules_after("from aioconc import offload_io")
    assert not loaded & {"multiprocessing.context", "concurrent.futures.process", "cloudpickle"}


def test_process_executor_name_starts_nothing() -> None:
    """Touching `offload_cpu` starts no process and loads no third-party package."""
    code = "from aioconc import offload_cpu\nimport threading\nassert threading.active_count() == 1"
    assert not modules_after(code) & {"cloudpickle", "loky", "uvloop"}


def test_errors_load_no_event_loop() -> None:
    """A worker process may raise every error of the package without loading asyncio."""
    assert "asyncio" not in modules_after("import aioconc.errors, aioconc._internal._check")


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_command_line_answers_without_loading(option: str) -> None:
    """`--help` and `--version` load no package below the root but the errors."""
    code = f"import sys\nsys.argv = ['aioconc', {option!r}]\nimport runpy\n"
    code += "try:\n    runpy.run_module('aioconc', run_name='__main__')\nexcept SystemExit as e:\n    assert e.code == 0"
    loaded = modules_after(code)
    assert not loaded & {*HEAVY}
    ours = {each for each in loaded if each.startswith("aioconc")}
    assert ours <= {"aioconc", "aioconc.errors", "aioconc.__main__"}
