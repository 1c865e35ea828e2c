"""Thousands of calls while workers are killed at random moments: every call ends rightly."""

import asyncio
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from aioconc.errors import WorkerCrashed
from aioconc.executors import ProcessExecutor
from aioconc.testing import kill_worker
from tests.system.process_tools import STARTS, executor_started_by, kill, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.soak,
    pytest.mark.timeout(600),
    pytest.mark.loops("uvloop"),
]

CALLS = 10_000
KILLS = 1_000

# Bytes of an argument or a result: in one frame, in several reads, in an arena.
SIZES = (0, 100, 5_000, 100_000, 2_000_000)
WEIGHTS = (40, 40, 15, 4, 1)


def work(number: int, seconds: float, data: bytes, answer: int) -> tuple[int, int, bytes]:
    if seconds:
        time.sleep(seconds)
    return number, len(data), bytes(answer)


class Chaos:
    """The calls, the kills, and the books of both."""

    def __init__(self, pool: ProcessExecutor, seed: int) -> None:
        self.pool = pool
        self.random = random.Random(seed)
        self.outcomes: Counter[str] = Counter()
        self.kills = 0
        self.suicides = 0

    async def call(self, number: int) -> None:
        chance = self.random
        size, answer = chance.choices(SIZES, WEIGHTS, k=2)
        args: Any = (number, chance.choice((0, 0, 0, 0.001, 0.005)), bytes(size), answer)
        # Some of the kills are of the call's own choosing, at a known step of the protocol; the
        # others come from outside, and hit whatever is there.
        suicidal = chance.random() < KILLS * 0.4 / CALLS
        fn: Any = work
        if suicidal:
            fn = kill_worker(work, when=chance.choice(("before", "during", "after")), delay=0.001)
            self.suicides += 1
        try:
            found = await self.pool.run(fn, *args)
        except WorkerCrashed:
            self.outcomes["crashed, by itself" if suicidal else "crashed, from outside"] += 1
        else:
            assert found == (number, size, bytes(answer))
            assert not suicidal
            self.outcomes["value"] += 1

    async def caller(self, numbers: Any) -> None:
        for number in numbers:
            await self.call(number)

    async def kill_at_random(self) -> None:
        while self.kills < KILLS * 0.6:
            await asyncio.sleep(self.random.expovariate(15))
            # Now and then one that starts: three of those in a row would fail a call that waits.
            starting = self.random.random() < 0.05
            launcher: Any = self.pool._processes.starts.launcher
            template = getattr(launcher, "_template", None)
            alive = [
                each.pid
                for each in [*self.pool._processes.workers]
                if not each.dead and each.ready is not starting
            ]
            if template is not None and self.random.random() < 0.03:
                # Costs no call; three in a row that have forked nothing would.
                if template.is_up and not template._asked:
                    template.process.kill()
            elif alive:
                try:
                    kill(self.random.choice(alive))
                except ProcessLookupError:
                    continue
                self.kills += 1


def arenas() -> int:
    """Descriptors of this process that lead to memory of ours."""
    count = 0
    for each in Path("/proc/self/fd").iterdir():
        try:
            count += str(each.readlink()).startswith("/memfd:aioconc")
        except OSError:
            pass  # the descriptor of the listing itself
    return count


@pytest.mark.parametrize("start", STARTS)
async def test_every_call_ends_rightly_whatever_is_killed(start: str) -> None:
    """A crash costs at most the call that was in flight; nothing is left afterwards."""
    pool: ProcessExecutor
    async with executor_started_by(start)(2, spares=2) as pool:
        await pool.run(len, "")
        chaos = Chaos(pool, seed=random.randrange(2**32))
        killer = asyncio.ensure_future(chaos.kill_at_random())
        numbers = iter(range(CALLS))
        began = time.monotonic()
        await asyncio.gather(*(chaos.caller(numbers) for _ in range(6)))
        killer.cancel()
        await asyncio.wait([killer])
        shown = (
            f"{chaos.outcomes}, {chaos.kills} kills from outside, {chaos.suicides} from inside, "
            f"{time.monotonic() - began:.0f} s"
        )
        print(shown)
        assert chaos.outcomes.total() == CALLS, shown
        assert chaos.outcomes["crashed, by itself"] == chaos.suicides, shown
        # No bystander: each kill from outside costs one call at most.
        assert chaos.outcomes["crashed, from outside"] <= chaos.kills, shown
        now = pool.statistics()
        crashed = CALLS - chaos.outcomes["value"]
        assert (now.completed, now.failed) == (chaos.outcomes["value"] + 1, crashed), shown
        assert (now.busy, now.queued, now.abandoned, now.cancelled) == (0, 0, 0, 0)
        await until(lambda: all(not each.dead for each in pool._processes.workers))
    assert not pool._processes.workers
    assert arenas() == 0
