"""How workers are to be started: what is refused before anything starts."""

import os
import sys
from typing import Any

import pytest

from aioconc.errors import UnsupportedOption
from aioconc.executors import ProcessExecutor
from aioconc.executors.process import _crash_loop
from aioconc.executors.process._crash_loop import FREE, CrashLoop
from aioconc.executors.process._template import why_not_forked


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"start": "fork"}, ValueError, "'exec', 'forkserver', got 'fork'"),
        ({"preload": ("numpy",)}, ValueError, 'needs start="forkserver"'),
        (
            {"start": "forkserver", "preload": "numpy"},
            TypeError,
            r'preload=\("numpy", "my.module"\)',
        ),
        ({"start": "forkserver", "preload": (os,)}, TypeError, "names of modules, got .<module"),
        ({"start": "forkserver", "preload": ("a b",)}, TypeError, "names of modules"),
        ({"start": "forkserver", "preload": ("",)}, TypeError, "names of modules"),
        ({"start": "forkserver", "preload": ("__main__",)}, ValueError, "module of its own"),
    ],
)
def test_what_makes_no_sense_is_refused(
    options: dict[str, Any], error: type[Exception], text: str
) -> None:
    """The message gives the value, the rule and the remedy."""
    with pytest.raises(error, match=text):
        ProcessExecutor(1, **options)


@pytest.mark.parametrize("name", ["fork", "memfd_create", "pidfd_open"])
def test_a_system_that_cannot_do_it_is_told_from_one_that_can(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The error says what is missing, and what works."""
    monkeypatch.delattr(os, name, raising=False)
    with pytest.raises(UnsupportedOption, match=f"needs os.{name}.*leave it out"):
        ProcessExecutor(1, start="forkserver")
    ProcessExecutor(1).close()


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="there is none to be forbidden")
def test_a_sandbox_that_forbids_it_counts_as_a_system_that_cannot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is there but fails when it is called helps nobody."""

    def refuse(pid: int) -> int:
        raise PermissionError("not here")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    assert why_not_forked() == "os.pidfd_open (not here)"


@pytest.mark.skipif(sys.platform != "linux", reason="templates need Linux")
async def test_a_forked_worker_has_what_was_preloaded() -> None:
    """It is a child of the template, which has imported the module already."""
    loaded = "'colorsys' in __import__('sys').modules"
    async with ProcessExecutor(1, start="forkserver", preload=("colorsys",)) as pool:
        assert await pool.run(eval, loaded)
        assert await pool.run(os.getppid) != os.getpid()
    async with ProcessExecutor(1) as pool:
        assert not await pool.run(eval, loaded)
        assert await pool.run(os.getppid) == os.getpid()


def test_pauses_begin_with_the_fifth_crash_and_double_to_a_second() -> None:
    """And a call that ends begins anew."""
    loop = CrashLoop()
    assert FREE == 5
    assert [loop.crashed() for _ in range(10)] == [0, 0, 0, 0, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    loop.count = 0
    assert loop.crashed() == 0
    assert _crash_loop._LONGEST == 1.0
