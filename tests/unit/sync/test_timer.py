"""`every` and `Timer`, in virtual time."""

import asyncio
from typing import Any

import pytest

from aioconc.sync import Timer, every
from aioconc.testing import cancel_everywhere, run as simulate


def now() -> float:
    return round(asyncio.get_running_loop().time(), 6)


def test_every_calls_at_multiples_and_leaves_out_what_has_passed() -> None:
    """Slow calls neither shift the others nor pile up."""

    async def main() -> list[float]:
        start, times = now(), list[float]()

        async def tick() -> None:
            times.append(now() - start)
            await asyncio.sleep(2.5 if len(times) == 2 else 0.3)

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(7.5):
                await every(1, tick)
        return times

    assert simulate(main) == pytest.approx([1, 2, 5, 6, 7])


def test_every_ends_with_the_error_of_its_function() -> None:
    """A plain function with arguments; its error is the call's."""

    async def main() -> None:
        items = [1, 2]
        with pytest.raises(IndexError):
            await every(1, items.pop)
        assert now() >= 3
        with pytest.raises(ValueError, match="seconds must be a number of seconds > 0"):
            await every(0, items.pop)

    simulate(main)


def test_a_timer_fires_once_and_not_after_its_block() -> None:
    """It can be cancelled, begun anew, and ends with the block."""

    async def main() -> None:
        calls: list[Any] = []
        async with Timer(1, calls.append, "first") as timer:
            assert repr(timer).endswith("waiting>")
            await asyncio.sleep(0.9)
            assert timer.reset()
            await asyncio.sleep(0.9)
            assert not timer.done
            await asyncio.sleep(0.2)
            assert timer.done
            assert not timer.cancel()
            assert not timer.reset(1)
        async with Timer(1, calls.append, "second") as timer:
            assert timer.cancel()
            await asyncio.sleep(2)
        async with Timer(1, calls.append, "third") as timer:
            pass
        await asyncio.sleep(2)
        assert calls == ["first"]
        assert repr(timer).endswith("cancelled>")
        with pytest.raises(RuntimeError, match="used once"):
            await timer.__aenter__()

    simulate(main)


def test_the_error_of_a_timer_is_raised_at_the_end_of_its_block() -> None:
    """It is not lost in the loop."""

    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            async with Timer(1, lambda: 1 / 0):
                await asyncio.sleep(2)

    simulate(main)


async def test_a_timer_refuses_what_it_cannot_call() -> None:
    """An async function, no function, a time below zero."""

    async def late() -> None: ...

    with pytest.raises(TypeError, match=r"got the async function .*start that in a task group"):
        Timer(1, late)
    with pytest.raises(TypeError, match="fn must be a function, got 5"):
        Timer(1, 5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="seconds must be a number of seconds >= 0"):
        Timer(-1, print)


def test_cancelled_anywhere_nothing_is_left() -> None:
    """Neither leaves anything in the loop."""

    async def main() -> None:
        async with Timer(1, print):
            async with asyncio.timeout(3.5):
                await every(1, asyncio.sleep, 0)

    async def program() -> None:
        try:
            await main()
        except TimeoutError:
            pass

    cancel_everywhere(program)
