"""What is particular to `InterpreterExecutor`; the rest is in the contract suite."""

import asyncio
import importlib
import sys
from pathlib import Path

import pytest

from aioconc.errors import SerializationError
from aioconc.executors import InterpreterExecutor, _interpreter
from tests.contracts import executor_work as work

needs_interpreters = pytest.mark.skipif(
    sys.version_info < (3, 13), reason="subinterpreters came with Python 3.13"
)


def import_numpy() -> None:
    importlib.import_module("numpy")


def who() -> int:
    import _interpreters  # type: ignore[import-not-found]  # private; since Python 3.13

    return _interpreters.get_current()[0]  # type: ignore[no-any-return]


def interpreters() -> int:
    import _interpreters

    return len(_interpreters.list_all())


def remember(value: int) -> list[int]:
    """What this interpreter was given so far."""
    seen: list[int] = sys.modules.setdefault("remembered", [])  # type: ignore[arg-type]
    seen.append(value)
    return seen


def test_an_older_python_is_told_what_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names what is needed, what is there, and what to use."""
    monkeypatch.setattr(_interpreter, "_PYTHON", (3, 12, 4))
    with pytest.raises(RuntimeError, match=r"3\.13 or newer, this is 3\.12\.4; use ProcessExec"):
        InterpreterExecutor()


@needs_interpreters
async def test_calls_run_in_other_interpreters_which_are_kept() -> None:
    """State of a module stays from call to call, and is not that of this interpreter."""
    async with InterpreterExecutor(1) as pool:
        first = await pool.run(who)
        assert first != who()
        assert await pool.run(who) == first
        assert await pool.run(remember, 1) == [1]
        assert await pool.run(remember, 2) == [1, 2]
    assert "remembered" not in sys.modules


@needs_interpreters
async def test_no_interpreter_outlives_its_executor() -> None:
    """Closing ends them."""
    before = interpreters()
    async with InterpreterExecutor(2) as pool:
        await asyncio.gather(pool.run(sum, range(1000)), pool.run(sum, range(1000)))
        assert interpreters() > before
    assert interpreters() == before


@needs_interpreters
async def test_an_abandoned_call_ends_its_interpreter_itself(tmp_path: Path) -> None:
    """Closing does not wait for it, and it leaves nothing when it has ended."""
    before = interpreters()
    async with InterpreterExecutor(1) as pool:
        call = asyncio.create_task(
            pool.options(on_cancel="abandon").run(work.hold, str(tmp_path / "a"))
        )
        while not (tmp_path / "a.started").exists():
            await asyncio.sleep(0.001)
        call.cancel()
        await asyncio.wait([call])
    assert interpreters() == before + 1
    (tmp_path / "a.go").touch()
    while interpreters() != before:
        await asyncio.sleep(0.001)


@needs_interpreters
async def test_modules_are_found_as_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What was added to `sys.path` since the start holds there as well."""
    (tmp_path / "only_here_for_interpreters.py").write_text("answer = 42\n")
    monkeypatch.syspath_prepend(tmp_path)
    async with InterpreterExecutor(1) as pool:
        assert await pool.run(eval, "__import__('only_here_for_interpreters').answer") == 42


@needs_interpreters
async def test_a_module_that_refuses_says_what_to_do() -> None:
    """NumPy cannot be loaded in a subinterpreter; the error has a note that names the remedy."""
    numpy = pytest.importorskip("numpy")
    async with InterpreterExecutor(1) as pool:
        with pytest.raises(ImportError) as inside:
            await pool.run(import_numpy)
        with pytest.raises(SerializationError) as argument:
            await pool.run(len, numpy.zeros(3))
        assert await pool.run(len, "abc") == 3
    for caught in (inside, argument):
        assert "run it in a ProcessExecutor" in caught.value.__notes__[-1]
