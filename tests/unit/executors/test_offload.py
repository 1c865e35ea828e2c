"""offload_io, offload_cpu and use: which executor a call reaches, and what is refused."""

import asyncio
import threading
from typing import Any

import pytest

from aioconc.errors import ExecutorClosed, UnsupportedOption
from aioconc.executors import InlineExecutor, ThreadExecutor, offload_cpu, offload_io, use


def thread_name() -> str:
    return threading.current_thread().name


def test_the_default_serves_one_loop_after_another() -> None:
    """Two runs of asyncio use the same threads."""
    assert asyncio.run(offload_io(pow, 2, 3)) == 8
    first = offload_io.executor
    assert asyncio.run(offload_io(pow, 2, 4)) == 16
    assert offload_io.executor is first


async def test_use_replaces_the_default_of_its_kind() -> None:
    """Inside the block and in tasks started there; outside, all is as before; then it is closed."""
    async with use(ThreadExecutor(1, name="mine")) as pool:
        assert (await offload_io(thread_name)).startswith("mine")
        assert (await asyncio.create_task(offload_io(thread_name))).startswith("mine")
        async with use(InlineExecutor(), "io"):
            assert await offload_io(thread_name) == thread_name()
        assert (await offload_io(thread_name)).startswith("mine")
    assert (await offload_io(thread_name)).startswith("offload_io")
    with pytest.raises(ExecutorClosed):
        await pool.run(thread_name)


async def test_use_by_name_replaces_another_kind() -> None:
    """Threads may stand in for processes."""
    async with ThreadExecutor(1, name="mine") as pool:
        async with use(pool, "cpu", close=False):
            assert (await offload_cpu(thread_name)).startswith("mine")
            assert (await offload_io(thread_name)).startswith("offload_io")
        assert (await pool.run(thread_name)).startswith("mine")


async def test_options_are_checked_when_they_can_be() -> None:
    """Values at once, and what the executor in use cannot honour when it is called."""
    with pytest.raises(ValueError, match="timeout must be"):
        offload_io.options(timeout=-1)
    with pytest.raises(TypeError, match="no option"):
        offload_io.options(tiemout=1)  # type: ignore[call-arg]
    killing = offload_io.options(on_cancel="kill")
    with pytest.raises(UnsupportedOption, match="no thread can be killed"):
        await killing(thread_name)
    with pytest.raises(TimeoutError):
        await offload_io.options(timeout=5).options(timeout=0.001)(threading.Event().wait, 0.02)
    assert repr(offload_io.options(timeout=5)) == "<offload_io with timeout=5>"


async def test_common_slips_get_the_right_line() -> None:
    """A coroutine function, a coroutine or a result in place of a function."""

    async def fetch() -> None: ...

    call: Any = offload_cpu
    with pytest.raises(TypeError, match=r"offload_cpu expected a plain function, got the async"):
        await call(fetch)
    with pytest.raises(TypeError, match=r"got coroutine .*fetch"):
        await call(fetch())
    with pytest.raises(TypeError, match=r"did you mean offload_cpu\(fn, arg\)"):
        await call("parsed")


def test_use_refuses_what_is_no_executor_of_ours() -> None:
    """The message names the adapter, and the kinds."""
    wrong: Any = "pool"
    with pytest.raises(TypeError, match=r"wrap one of concurrent\.futures in FuturesExecutor"):
        use(wrong)
    with pytest.raises(ValueError, match="kind must be one of 'io', 'cpu', 'gpu', got 'disk'"):
        use(InlineExecutor(), "disk")  # type: ignore[arg-type]
