"""`iterate_blocking`: a thread reads what is async; either side that ends, ends the other."""

import asyncio
import contextvars
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest

from aioconc.errors import TaskCancelled
from aioconc.runtime import _iterate_blocking, iterate_blocking, open_portal

pytestmark = pytest.mark.loops("all")

R = TypeVar("R")
color = contextvars.ContextVar("color", default="none")


class Source:
    """Numbers, and what happened to it."""

    def __init__(self, end: int = 1_000_000, fails: Exception | None = None) -> None:
        self.end = end
        self.fails = fails
        self.given = 0
        self.closed_in: list[int] = []
        self.hold = asyncio.Event()
        self.hold.set()

    async def items(self) -> AsyncIterator[int]:
        try:
            while self.given < self.end:
                await self.hold.wait()
                self.given += 1
                yield self.given - 1
            if self.fails is not None:
                raise self.fails
        finally:
            await asyncio.sleep(0)
            self.closed_in.append(threading.get_ident())


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


def here() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


@pytest.mark.parametrize("way", ["loop", "portal"])
async def test_a_thread_gets_all_items_in_order(way: str) -> None:
    """More of them than the buffer holds; the source is closed in the loop."""
    source = Source(100)

    def work(where: Any) -> list[int]:
        return list(iterate_blocking(source.items(), where, buffer=3))

    if way == "loop":
        found = await asyncio.to_thread(work, here())
    else:
        async with open_portal() as portal:
            found = await asyncio.to_thread(work, portal)
    assert found == list(range(100))
    assert source.closed_in == [threading.get_ident()]


@pytest.mark.parametrize("buffer", [1, 3])
async def test_no_more_are_read_ahead_than_the_buffer_holds(buffer: int) -> None:
    """A thread that does not take leaves the source where it is."""
    source, taken = Source(), threading.Event()
    go_on = threading.Event()

    def work(loop: asyncio.AbstractEventLoop) -> None:
        with iterate_blocking(source.items(), loop, buffer=buffer) as items:
            next(items)
            taken.set()
            go_on.wait(30)

    thread = asyncio.ensure_future(asyncio.to_thread(work, here()))
    await until(lambda: source.given == 1 + buffer)
    for _ in range(20):
        await asyncio.sleep(0)
    assert source.given == 1 + buffer
    go_on.set()
    await thread


@pytest.mark.parametrize("way", ["loop", "portal"])
async def test_leaving_early_ends_the_reading(way: str) -> None:
    """The source is closed, in the loop, before the thread goes on; there are no more items."""
    source = Source()

    def work(where: Any) -> tuple[int, list[int], list[int], str]:
        with iterate_blocking(source.items(), where) as items:
            for item in items:
                if item == 5:
                    break
        items.close()
        return item, [*source.closed_in], list(items), repr(items)

    if way == "loop":
        found = await asyncio.to_thread(work, here())
    else:
        async with open_portal() as portal:
            found = await asyncio.to_thread(work, portal)
    name = "Source.items"
    assert found == (5, [threading.get_ident()], [], f"<iterate_blocking of {name}, ended>")


async def test_leaving_while_the_source_waits_cancels_it_there() -> None:
    """It need not give one more item first."""
    source = Source()
    source.hold.clear()
    begun = threading.Event()

    def work(loop: asyncio.AbstractEventLoop) -> None:
        items = iterate_blocking(source.items(), loop)
        thread = threading.Thread(target=lambda: [begun.set(), list(items)])
        thread.start()
        begun.wait(30)
        while items._reading.state != "reading":
            pass
        items.close()
        thread.join()

    await asyncio.to_thread(work, here())
    assert source.given == 0


async def test_an_error_of_the_source_comes_after_its_items_and_once() -> None:
    """It is the same exception, and then the iteration has ended."""
    error = KeyError("lost")
    source = Source(3, error)

    def work(loop: asyncio.AbstractEventLoop) -> list[int]:
        found = []
        with iterate_blocking(source.items(), loop) as items:
            with pytest.raises(KeyError) as caught:
                found += items
            assert not [*items]
        assert caught.value is error
        return found

    assert await asyncio.to_thread(work, here()) == [0, 1, 2]


async def test_an_error_of_the_clean_up_is_raised_where_it_is_closed() -> None:
    """As with a generator."""

    async def careless() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            raise KeyError("lost")

    def work(loop: asyncio.AbstractEventLoop) -> int:
        items = iterate_blocking(careless(), loop)
        found = next(items)
        with pytest.raises(KeyError, match="lost"):
            items.close()
        return found

    assert await asyncio.to_thread(work, here()) == 1


async def test_what_is_no_generator_is_iterated_and_left_alone() -> None:
    """It has nothing to close."""

    class Numbers:
        def __init__(self) -> None:
            self.given = 0

        def __aiter__(self) -> "Numbers":
            return self

        async def __anext__(self) -> int:
            self.given += 1
            if self.given > 3:
                raise StopAsyncIteration
            return self.given

    def work(loop: asyncio.AbstractEventLoop) -> list[int]:
        return [*iterate_blocking(Numbers(), loop)]

    assert await asyncio.to_thread(work, here()) == [1, 2, 3]


async def test_a_clean_up_that_fails_when_the_thread_leaves_early_is_heard_there() -> None:
    """Cancelled or closed, in the middle of its items."""

    async def careless() -> AsyncIterator[int]:
        try:
            for number in range(10):
                yield number
        finally:
            raise KeyError("lost")

    def leave(loop: asyncio.AbstractEventLoop) -> None:
        with pytest.raises(KeyError, match="lost"), iterate_blocking(careless(), loop) as items:
            next(items)

    await asyncio.to_thread(leave, here())


async def test_a_source_that_is_slow_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than the thread goes without a look at the loop."""
    monkeypatch.setattr(_iterate_blocking, "_LOOK", 0.001)
    source = Source(1)
    source.hold.clear()
    here().call_later(0.02, source.hold.set)
    work = asyncio.to_thread(lambda loop: [*iterate_blocking(source.items(), loop)], here())
    assert await work == [0]


async def test_a_source_that_swallows_its_cancellation_ends_with_its_next_item() -> None:
    """The item is for nobody."""
    swallowed = asyncio.Event()

    async def stubborn() -> AsyncIterator[int]:
        yield 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            swallowed.set()
        yield 2
        raise AssertionError("read on")

    def work(loop: asyncio.AbstractEventLoop) -> list[int]:
        with iterate_blocking(stubborn(), loop) as items:
            next(items)
            while items._reading._task is None or not items._reading._interruptible:
                pass
        return [*items]

    assert await asyncio.to_thread(work, here()) == []
    assert swallowed.is_set()


async def test_a_portal_that_closes_before_the_reading_begins_is_an_error() -> None:
    """It is not taken for a source without items."""

    def work(portal: Any) -> None:
        with pytest.raises(RuntimeError, match="portal is closed"):
            next(iterate_blocking(Source().items(), portal))

    with ThreadPoolExecutor(1) as threads:
        async with open_portal() as portal:
            call = threads.submit(work, portal)
            while not portal._posted:  # the loop does not turn
                pass
        await asyncio.wrap_future(call)


async def test_a_clean_up_that_is_slow_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing returns when it has ended, however often the thread looks at the loop meanwhile."""
    monkeypatch.setattr(_iterate_blocking, "_LOOK", 0.001)
    ends: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0.02)
            ends.append("cleaned up")

    def work(loop: asyncio.AbstractEventLoop) -> None:
        with iterate_blocking(numbers(), loop, buffer=1) as items:
            next(items)
        ends.append("closed")

    await asyncio.to_thread(work, here())
    assert ends == ["cleaned up", "closed"]


def test_closing_after_the_loop_was_closed_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody will tell the end; what is left of the task is destroyed in silence."""
    monkeypatch.setattr(_iterate_blocking, "_LOOK", 0.001)
    loop = asyncio.new_event_loop()
    first: list[int] = []
    items = iterate_blocking(Source().items(), loop, buffer=1)

    def take(items: Iterator[int]) -> None:
        first.append(next(items))

    thread = threading.Thread(target=take, args=(items,))
    thread.start()

    async def until_taken() -> None:
        await until(lambda: first)

    loop.run_until_complete(until_taken())
    thread.join()
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    items.close()
    assert first == [0]
    del items, task
    gc.collect()


async def test_the_collector_may_drop_an_iteration_anywhere() -> None:
    """Also in a thread that holds one of its locks just then; the reading ends all the same."""
    source = Source()
    over = threading.Event()

    def work(loop: asyncio.AbstractEventLoop) -> None:
        items = iterate_blocking(source.items(), loop, buffer=1)
        next(items)
        reading = items._reading
        with reading._lock, reading._items._mutex, reading._room._mutex:
            del items
            gc.collect()
        over.set()

    thread = threading.Thread(target=work, args=(here(),), daemon=True)
    thread.start()
    await until(over.is_set)
    thread.join()
    await until(lambda: source.closed_in)


async def test_the_source_sees_the_context_of_the_thread() -> None:
    """A copy, at the time of the first item."""

    async def colors() -> AsyncIterator[str]:
        yield color.get()

    def work(loop: asyncio.AbstractEventLoop) -> list[str]:
        color.set("red")
        return list(iterate_blocking(colors(), loop))

    assert await asyncio.to_thread(work, here()) == ["red"]


async def test_a_cancelled_reading_is_an_error_in_the_thread() -> None:
    """As when `asyncio.run` ends; the thread is not left waiting, nor told that all was read."""
    source = Source()
    source.hold.clear()

    def work(loop: asyncio.AbstractEventLoop) -> None:
        with pytest.raises(TaskCancelled, match=r"reading of Source\.items was cancelled"):
            list(iterate_blocking(source.items(), loop))

    thread = asyncio.ensure_future(asyncio.to_thread(work, here()))

    def readers() -> list[Any]:
        return [each for each in asyncio.all_tasks() if "reader of" in each.get_name()]

    await until(readers)
    readers()[0].cancel()
    await thread


async def test_a_portal_that_ends_ends_the_iteration_in_the_thread() -> None:
    """Its block was cancelled, so the reading is."""
    source = Source()
    source.hold.clear()
    with ThreadPoolExecutor(1) as threads:

        def work(portal: Any) -> None:
            with pytest.raises(TaskCancelled):
                list(iterate_blocking(source.items(), portal))

        with pytest.raises(KeyError):
            async with open_portal() as portal:
                call = threads.submit(work, portal)
                await asyncio.sleep(0.01)
                raise KeyError
        await asyncio.wrap_future(call)

        def late() -> None:
            items = iterate_blocking(source.items(), portal)
            with pytest.raises(RuntimeError, match="portal is closed"):
                next(items)
            items.close()

        await asyncio.wrap_future(threads.submit(late))


def test_a_closed_loop_ends_the_iteration_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed before it begins, or in the middle of it: no thread waits for ever."""
    monkeypatch.setattr(_iterate_blocking, "_LOOK", 0.001)
    loop = asyncio.new_event_loop()

    async def numbers() -> AsyncIterator[int]:
        yield 1

    source: AsyncIterator[int] = numbers()
    found: list[Any] = []

    def work() -> None:
        with iterate_blocking(source, loop) as items:
            try:
                next(items)
            except RuntimeError as error:
                found.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    while not _iterate_blocking.mailbox_of(loop)._letters:
        pass
    loop.close()
    thread.join(30)
    work()
    assert len(found) == 2
    assert all("numbers was closed before its last item" in each for each in found)


async def test_an_iteration_that_nobody_has_any_more_is_closed() -> None:
    """Its source is closed in the loop although nobody said so."""
    source = Source()

    def work(loop: asyncio.AbstractEventLoop) -> int:
        return next(iterate_blocking(source.items(), loop))

    assert await asyncio.to_thread(work, here()) == 0
    gc.collect()
    await until(lambda: source.closed_in)


async def test_an_iteration_that_never_began_reads_nothing() -> None:
    """Closing it before the first item starts no task."""
    source = Source()
    given = source.items()

    def work(loop: asyncio.AbstractEventLoop) -> list[int]:
        with iterate_blocking(given, loop) as items:
            pass
        return list(items)

    before = asyncio.all_tasks()
    assert await asyncio.to_thread(work, here()) == []
    assert (source.given, asyncio.all_tasks()) == (0, before)
    await given.aclose()  # type: ignore[attr-defined]


async def test_wrong_use_is_refused_with_the_right_line() -> None:
    """In the loop's thread, without a loop, with a function in place of its result."""
    source = Source()
    with pytest.raises(RuntimeError, match=r"would block the event loop.*`async for item in"):
        next(iterate_blocking(source.items(), here()))
    with pytest.raises(TypeError, match=r"iterate_blocking\(fn\(\), loop\)"):
        iterate_blocking(source.items, here())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="loop of the source, or a portal, got None"):
        iterate_blocking(source.items(), None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="buffer must be an int >= 1, got 0"):
        iterate_blocking(source.items(), here(), buffer=0)


@pytest.mark.parametrize("ended", [True, False])
async def test_an_error_that_nobody_can_hear_is_told_to_the_loop(
    ended: bool, loop_errors: list[Any]
) -> None:
    """Closed in the thread of a loop, which cannot wait: the clean-up's error is reported there."""

    async def careless() -> AsyncIterator[int]:
        try:
            yield 1
            if not ended:
                await asyncio.Event().wait()
        finally:
            raise KeyError("lost")

    items = iterate_blocking(careless(), here())
    assert await asyncio.to_thread(next, items) == 1
    await until(lambda: items._reading.state == "ended" or not ended)
    items.close()
    await until(lambda: loop_errors)
    assert "careless raised when nobody read it any more" in str(loop_errors.pop())
    assert not loop_errors
