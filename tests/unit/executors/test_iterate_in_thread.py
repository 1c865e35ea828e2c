"""`iterate_in_thread`: a loop reads what blocks; all else is a stream's, whose contract has it."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aioconc import ThreadExecutor, use
from aioconc.executors import iterate_in_thread


def idents(made: list[int], closed: list[int]) -> Iterator[int]:
    made.append(threading.get_ident())
    try:
        while True:
            yield threading.get_ident()
    finally:
        closed.append(threading.get_ident())


async def test_iterables_generators_and_functions_are_read_in_order() -> None:
    """A list, a generator, an iterator and a function that makes one."""
    for source in ("abc", (each for each in "abc"), iter("abc"), lambda: "abc"):
        async with iterate_in_thread(source, buffer=1) as items:
            assert [item async for item in items] == ["a", "b", "c"]


@pytest.mark.parametrize("way", ["generator", "function"])
async def test_leaving_early_closes_a_generator_in_its_thread(way: str) -> None:
    """One thread makes, reads and closes it."""
    made: list[int] = []
    closed: list[int] = []
    source: Any = idents(made, closed)
    if way == "function":
        unused, source = source, lambda: idents(made, closed)
        unused.close()
    async with iterate_in_thread(source) as items:
        ident = await anext(items)
    assert made == closed == [ident]
    assert ident != threading.get_ident()


async def test_what_is_passed_in_stays_open_and_what_a_function_made_does_not(
    tmp_path: Path,
) -> None:
    """A file that is the caller's is left to the caller."""
    path = tmp_path / "lines"
    path.write_text("one\ntwo\n")
    opened: list[Any] = []

    def lines() -> Any:
        opened.append(path.open())
        return opened[0]

    with path.open() as file:
        for source in (file, lines):
            async with iterate_in_thread(source) as items:
                assert [item async for item in items] == ["one\n", "two\n"]
        assert not file.closed
    assert opened[0].closed


async def test_an_error_of_the_iterable_comes_after_its_items() -> None:
    """It is the same exception; one of `iter` comes at once."""
    error = KeyError("lost")

    def failing() -> Iterator[int]:
        yield 1
        raise error

    async with iterate_in_thread(failing) as items:
        assert await anext(items) == 1
        with pytest.raises(KeyError) as caught:
            await anext(items)
    assert caught.value is error

    class Bad:
        def __iter__(self) -> Iterator[int]:
            raise error

    async with iterate_in_thread(Bad()) as items:
        with pytest.raises(KeyError):
            await anext(items)


@pytest.mark.parametrize("on_cancel", ["wait", "abandon"])
async def test_leaving_while_the_thread_is_inside_waits_or_abandons(on_cancel: Any) -> None:
    """As the word says; an abandoned thread closes the generator when it comes back."""
    go_on, closed, inside = threading.Event(), threading.Event(), threading.Event()

    def holding() -> Iterator[int]:
        try:
            yield 1
            inside.set()
            go_on.wait(30)
            yield 2
        finally:
            closed.set()

    async def read() -> None:
        async with iterate_in_thread(holding, on_cancel=on_cancel) as items:
            await anext(items)
            await anext(items)

    async with use(ThreadExecutor(1)):
        task = asyncio.create_task(read())
        await asyncio.to_thread(inside.wait, 30)
        task.cancel()
        if on_cancel == "wait":
            for _ in range(20):
                await asyncio.sleep(0)
            assert not task.done()
            go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert closed.is_set() == (on_cancel == "wait")
        go_on.set()
    assert await asyncio.to_thread(closed.wait, 30)


async def test_wrong_use_is_refused_before_a_thread_starts() -> None:
    """With the line that was meant."""

    async def later() -> Any:
        yield 1

    with pytest.raises(TypeError, match="which is async; write `async for item in source`"):
        iterate_in_thread(later())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="async generator function"):
        iterate_in_thread(later)  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match="expected an iterable, or a function that makes one, got 3"
    ):
        iterate_in_thread(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="buffer must be an int >= 1, got 0"):
        iterate_in_thread([], buffer=0)
    with pytest.raises(ValueError, match="on_cancel must be one of 'wait', 'abandon', got 'kill'"):
        iterate_in_thread([], on_cancel="kill")  # type: ignore[arg-type]
