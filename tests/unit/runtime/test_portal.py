"""`open_portal`: threads call into a loop, and nothing hangs when either side ends."""

import asyncio
import concurrent.futures
import contextvars
import gc
import threading
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from aioconc import fail_after
from aioconc.errors import TaskCancelled
from aioconc.runtime import _portal, open_portal

pytestmark = pytest.mark.loops("all")

color = contextvars.ContextVar("color", default="none")


async def see_color() -> str:
    await asyncio.sleep(0)
    return color.get()


async def test_a_thread_calls_functions_and_async_functions() -> None:
    """Both run in the thread of the loop, and what they raise is raised in the thread."""

    async def fail() -> None:
        raise KeyError("lost")

    def work(portal: Any) -> tuple[int, str]:
        with pytest.raises(KeyError, match="lost"):
            portal.call(fail)
        return portal.call(threading.get_ident), portal.call(see_color)

    async with open_portal() as portal:
        found = await asyncio.to_thread(work, portal)
    assert found == (threading.get_ident(), "none")


async def test_what_a_plain_function_raises_is_raised_in_the_thread() -> None:
    """It runs in one turn of the loop; an awaitable that it gives is awaited there."""

    class Later:
        def __await__(self) -> Any:
            yield from asyncio.sleep(0, "later").__await__()
            return "awaited"

    def fail() -> None:
        raise KeyError("lost")

    def work(portal: Any) -> str:
        with pytest.raises(KeyError, match="lost"):
            portal.call(fail)
        return portal.call(Later)  # type: ignore[no-any-return]

    async with open_portal() as portal:
        assert await asyncio.to_thread(work, portal) == "awaited"


@pytest.mark.parametrize("way", ["plain", "async"])
def test_an_exit_ends_the_loop_and_is_told_to_the_thread(way: str) -> None:
    """As when a callback or a task of the loop raises it."""

    def leave() -> None:
        raise SystemExit(3)

    async def leave_later() -> None:
        await asyncio.sleep(0)
        raise SystemExit(3)

    calls: list[concurrent.futures.Future[Any]] = []

    async def main() -> None:
        async with open_portal() as portal:
            fn: Any = leave if way == "plain" else leave_later
            calls.append(portal.start_task_soon(fn))
            await asyncio.Event().wait()

    with pytest.raises(SystemExit):
        asyncio.run(main())
    assert isinstance(calls[0].exception(timeout=0), SystemExit)


async def test_an_interrupted_thread_cancels_its_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """KeyboardInterrupt ends the wait in the thread, and what ran for it in the loop."""
    begun, cleaned = asyncio.Event(), asyncio.Event()

    async def endless() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    interrupted = threading.Event()

    def interrupt(*_: object, **__: object) -> None:
        interrupted.wait(30)
        raise KeyboardInterrupt

    def work(portal: Any) -> None:
        with pytest.raises(KeyboardInterrupt):
            portal.call(endless)

    monkeypatch.setattr(_portal, "wait", interrupt)
    async with open_portal() as portal:
        thread = asyncio.ensure_future(asyncio.to_thread(work, portal))
        await begun.wait()
        interrupted.set()
        await cleaned.wait()
        await thread


async def test_a_slow_call_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than the thread goes without a look at the loop."""
    monkeypatch.setattr(_portal, "_LOOK", 0.001)
    async with open_portal() as portal:
        assert await asyncio.to_thread(portal.call, asyncio.sleep, 0.02, "slept") == "slept"


async def test_a_call_from_the_loops_own_thread_is_refused() -> None:
    """It would wait for itself."""
    async with open_portal() as portal:
        with pytest.raises(RuntimeError, match=r"would block the event loop.*`await fn\(...\)`"):
            portal.call(see_color)
        assert await asyncio.wrap_future(portal.start_task_soon(see_color)) == "none"


async def test_a_call_sees_a_copy_of_the_context_of_its_thread() -> None:
    """What it sets is seen neither in the thread nor in the task that opened the portal."""

    async def paint() -> str:
        seen = color.get()
        color.set("blue")
        return seen

    def work(portal: Any) -> tuple[str, str]:
        color.set("red")
        return portal.call(paint), color.get()

    async with open_portal() as portal:
        assert await asyncio.to_thread(work, portal) == ("red", "red")
    assert color.get() == "none"


async def test_the_end_of_the_block_waits_for_calls_that_have_begun() -> None:
    """They end as they would, and a call that comes too late is refused in its thread."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> str:
        begun.set()
        await go_on.wait()
        return "done"

    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        async with open_portal() as portal:
            call = threads.submit(portal.call, slow)
            await begun.wait()
            asyncio.get_running_loop().call_later(0.01, go_on.set)
        assert await asyncio.wrap_future(call) == "done"
        with pytest.raises(RuntimeError, match="this portal is closed; nothing can be called in"):
            threads.submit(portal.call, slow).result(timeout=10)


@pytest.mark.parametrize("how", ["failed", "cancelled", "timed out at its end"])
async def test_a_block_that_does_not_end_well_cancels_its_calls(how: str) -> None:
    """They end before the block, no thread goes on waiting, and the block's error leaves bare."""
    begun, cleaned = asyncio.Event(), asyncio.Event()

    async def endless() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        calls: list[concurrent.futures.Future[None]] = []

        async def block() -> None:
            async with open_portal() as portal:
                calls.append(threads.submit(portal.call, endless))
                await begun.wait()
                if how == "failed":
                    raise KeyError("lost")
                if how == "cancelled":
                    await asyncio.Event().wait()

        task = asyncio.create_task(block())
        await begun.wait()
        if how == "failed":
            with pytest.raises(KeyError, match="lost"):
                await task
        elif how == "cancelled":
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            with pytest.raises(TimeoutError), fail_after(0.01):
                await task
        assert cleaned.is_set()
        error = await asyncio.to_thread(calls[0].exception, 30)
        assert isinstance(error, TaskCancelled)
        assert "endless was cancelled in the loop" in str(error)


async def test_calls_from_many_threads_while_the_portal_closes_all_end() -> None:
    """Each has its result, or hears that the portal is closed; none waits for ever."""
    results: list[str] = []

    def work(portal: Any) -> str:
        try:
            while True:
                assert portal.call(see_color) == "none"
                results.append("ok")
        except RuntimeError as error:
            return type(error).__name__

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        async with open_portal() as portal:
            calls = [threads.submit(work, portal) for _ in range(4)]
            async with asyncio.timeout(30):
                while len(results) < 20:
                    await asyncio.sleep(0)
        done, waiting = await asyncio.to_thread(concurrent.futures.wait, calls, 30)
    assert not waiting
    assert {each.result() for each in done} == {"RuntimeError"}


async def test_a_future_of_a_call_cancels_what_runs_in_the_loop() -> None:
    """The clean-up runs there; one that has not begun never does."""
    begun, cleaned, called = asyncio.Event(), asyncio.Event(), list[int]()

    async def endless() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    async with open_portal() as portal:
        future = await asyncio.to_thread(portal.start_task_soon, endless)
        await begun.wait()
        assert repr(portal) == "<Portal open, 1 running, 0 posted>"
        assert future.cancel()
        await cleaned.wait()
        never = portal.start_task_soon(called.append, 1)
        never.cancel()
        await asyncio.sleep(0.001)
        assert not called
        assert concurrent.futures.wait([future, never], timeout=0).done == {future, never}
    assert repr(portal) == "<Portal closed, 0 running, 0 posted>"


async def test_what_was_posted_and_has_not_begun_is_refused_at_the_end() -> None:
    """Its function is not called, and its thread is told."""
    called = list[int]()
    async with open_portal() as portal:
        future = portal.start_task_soon(called.append, 1)
    await asyncio.sleep(0)
    assert not called
    with pytest.raises(RuntimeError, match="this portal is closed"):
        future.result(timeout=0)


async def test_waiting_at_the_end_may_be_cancelled_and_cancels_each_call_once() -> None:
    """A call that needs long to clean up is not disturbed in it by a second cancellation."""
    begun, cleaning, go_on, ends = asyncio.Event(), asyncio.Event(), asyncio.Event(), list[str]()

    async def endless() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            await go_on.wait()
            ends.append("call")

    async def block() -> None:
        try:
            async with open_portal() as portal:
                portal.start_task_soon(endless)
                await begun.wait()
        finally:
            ends.append("block")

    task = asyncio.create_task(block())
    await begun.wait()
    await asyncio.sleep(0)
    for _ in range(2):
        task.cancel()
        await cleaning.wait()
        await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ends == ["call", "block"]


def test_a_loop_that_is_closed_leaves_no_thread_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed with the portal open: in a call, before a call, and with the block destroyed."""
    monkeypatch.setattr(_portal, "_LOOK", 0.001)
    loop = asyncio.new_event_loop()
    block = open_portal()
    portal = loop.run_until_complete(block.__aenter__())
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        call = threads.submit(portal.call, see_color)
        while not portal._posted:
            pass
        loop.close()
        for each in (call, threads.submit(portal.call, see_color)):
            with pytest.raises(RuntimeError, match="the event loop of this portal is closed"):
                each.result(timeout=30)
    del block
    gc.collect()


def test_a_loop_that_is_closed_in_the_middle_of_a_call_answers_its_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What runs there will never end."""
    monkeypatch.setattr(_portal, "_LOOK", 0.001)
    loop = asyncio.new_event_loop()
    begun = asyncio.Event()

    async def endless() -> None:
        begun.set()
        task = asyncio.current_task()
        assert task is not None
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        await asyncio.Event().wait()

    block = open_portal()
    portal = loop.run_until_complete(block.__aenter__())
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        call = threads.submit(portal.call, endless)
        loop.run_until_complete(begun.wait())
        loop.close()
        with pytest.raises(RuntimeError, match="the event loop of this portal is closed"):
            call.result(timeout=30)
    del block
    gc.collect()


def test_a_call_into_a_loop_that_was_closed_is_refused() -> None:
    """Nobody has looked before: the first call finds it out."""
    loop = asyncio.new_event_loop()
    block = open_portal()
    portal = loop.run_until_complete(block.__aenter__())
    loop.close()
    with pytest.raises(RuntimeError, match="the event loop of this portal is closed"):
        portal.call(see_color)
    del block
    gc.collect()


async def test_no_call_outlives_a_block_in_an_async_generator_that_is_closed() -> None:
    """There is a task that can wait: calls are cancelled, and have ended when `aclose` returns."""
    log = []

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            log.append("clean")

    async def items() -> AsyncGenerator["concurrent.futures.Future[None]", None]:
        async with open_portal() as portal:
            yield portal.start_task_soon(endless)

    source = items()
    call = await anext(source)
    await asyncio.sleep(0.001)
    await source.aclose()
    assert log == ["clean"]
    with pytest.raises(TaskCancelled):
        call.result(timeout=0)


@pytest.mark.parametrize("careless", [True, False])
async def test_a_block_that_is_destroyed_answers_all_calls(careless: bool) -> None:
    """No future is left without an answer."""

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            if careless:
                raise KeyError("nobody hears this")

    block = open_portal()
    portal = await asyncio.create_task(
        block.__aenter__()
    )  # whose task has ended, and waits no more
    running = portal.start_task_soon(endless)
    await asyncio.sleep(0.001)
    posted = portal.start_task_soon(see_color)
    await block.gen.aclose()  # type: ignore[attr-defined]
    for each in (running, posted):
        with pytest.raises(RuntimeError, match="this portal is closed"):
            each.result(timeout=0)
    await asyncio.sleep(0)
