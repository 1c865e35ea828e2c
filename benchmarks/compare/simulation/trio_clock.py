"""trio on its clock for tests; it runs trio programs, so it answers only for the clock."""

import trio
import trio.testing

from compare.simulation import seconds_of


async def _many_sleeps(count: int) -> float:
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(trio.sleep, seconds_of(number))
    return trio.current_time() - began


def sleeps(count: int) -> float:
    return trio.run(_many_sleeps, count, clock=trio.testing.MockClock(autojump_threshold=0))
