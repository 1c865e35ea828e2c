"""A model of the window: random items, policies and interruptions, checked against a plain loop.

Each example runs one map in a loop of its own. Whatever happens, the calls stay within their
limits, each started call has ended when the block ends, the source is closed once, and the results
are those of a sequential loop: nothing lost, nothing doubled, nothing left running.
"""

import asyncio
import math
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings, strategies as st

from aioconc import map_limited
from aioconc.errors import TaskCancelled
from tests.conftest import loop_variants

KEYS = 3

KINDS = st.sampled_from(["returns"] * 5 + ["fails", "third party", "swallows", "dies slowly"])
ITEMS = st.lists(st.tuples(st.integers(0, 3), KINDS), max_size=20)


@dataclass
class World:
    """What the items do, and what was seen of them."""

    items: list[tuple[int, str]]
    limit: float
    limit_per_key: int | None
    retries: bool
    live: int = 0
    live_of_key: dict[int, int] = field(default_factory=dict)
    attempts: dict[int, int] = field(default_factory=dict)
    ended: int = 0
    closed: int = 0
    broken: list[str] = field(default_factory=list)

    def expected(self, item: int) -> Any:
        """The outcome of an item that nobody interrupts: its result, or the class of its error."""
        kind = self.items[item][1]
        if kind == "third party":
            return TaskCancelled
        if kind == "fails" and not (self.retries and item % 2 == 0):
            return ValueError
        return item

    async def call(self, item: int) -> int:
        key = item % KEYS
        self.live += 1
        self.live_of_key[key] = self.live_of_key.get(key, 0) + 1
        attempt = self.attempts[item] = self.attempts.get(item, 0) + 1
        if self.live > self.limit:
            self.broken.append("limit")
        if self.limit_per_key is not None and self.live_of_key[key] > self.limit_per_key:
            self.broken.append("limit per key")
        try:
            return await self._act(item, attempt)
        finally:
            self.live -= 1
            self.live_of_key[key] -= 1
            self.ended += 1

    async def _act(self, item: int, attempt: int) -> int:
        hops, kind = self.items[item]
        for _ in range(hops):
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                if kind == "swallows":
                    return item
                if kind == "dies slowly":
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
                raise
        if kind == "fails" and (self.expected(item) is ValueError or attempt < 3):
            raise ValueError(item)
        if kind == "third party":
            other = asyncio.ensure_future(asyncio.sleep(60))
            other.cancel()
            await other
        return item

    def plain_source(self):
        try:
            yield from range(len(self.items))
        finally:
            self.closed += 1

    async def async_source(self):
        try:
            for item in range(len(self.items)):
                if item % 3 == 0:
                    await asyncio.sleep(0)
                yield item
        finally:
            self.closed += 1


@settings(max_examples=200)
@given(
    items=ITEMS,
    limit=st.sampled_from([1, 2, 3, 7, math.inf]),
    limit_per_key=st.sampled_from([None, 1, 2]),
    buffer=st.sampled_from([None, 0, 1, 4]),
    ordered=st.booleans(),
    reads_async=st.booleans(),
    streams=st.booleans(),
    retries=st.booleans(),
    isolate=st.sampled_from(["context", "task"]),
    on_error=st.sampled_from(["raise", "return", "skip"]),
    breaks_after=st.none() | st.integers(0, 20),
    cancelled_after=st.none() | st.integers(0, 25),
    loop=st.sampled_from([*loop_variants()]),
)
def test_window_keeps_its_promises(
    items,
    limit,
    limit_per_key,
    buffer,
    ordered,
    reads_async,
    streams,
    retries,
    isolate,
    on_error,
    breaks_after,
    cancelled_after,
    loop,
):
    """Limits hold, every call ends inside the block, and the results are those of a plain loop."""
    world = World(items, limit, limit_per_key, retries)
    got: list[Any] = []

    async def owner() -> bool:
        """Whether the map came to its end."""
        run = map_limited(
            world.call,
            world.async_source() if reads_async else world.plain_source(),
            limit=limit,
            ordered=ordered,
            on_error=on_error,
            buffer=buffer,
            isolate=isolate,
            key=(lambda item: item % KEYS) if limit_per_key else None,
            limit_per_key=limit_per_key,
            retry=(lambda attempt, error: 0.0 if attempt < 3 else None) if retries else None,
        )
        task = asyncio.current_task()
        assert task is not None
        before = task.cancelling()
        try:
            if not streams:
                got.extend(await run)
                return True
            async with run as results:
                async for result in results:
                    got.append(result)
                    if breaks_after is not None and len(got) > breaks_after:
                        return False
            return True
        finally:
            assert world.live == 0
            assert world.ended == sum(world.attempts.values())
            if world.attempts:
                assert world.closed == 1
            if cancelled_after is None:
                assert task.cancelling() == before

    async def main() -> None:
        task = asyncio.ensure_future(owner())
        if cancelled_after is not None:
            for _ in range(cancelled_after):
                await asyncio.sleep(0)
            task.cancel()
        await asyncio.wait([task], timeout=20)
        assert task.done(), "the map hangs"
        assert asyncio.all_tasks() == {asyncio.current_task()}
        check(task)

    def check(task: "asyncio.Task[bool]") -> None:
        expected = [world.expected(item) for item in range(len(items))]
        failures = [each for each in expected if isinstance(each, type)]
        outcomes = [type(each) if isinstance(each, Exception) else each for each in got]
        complete = False
        if task.cancelled():
            assert cancelled_after is not None
        elif (error := task.exception()) is not None:
            if on_error != "raise" or type(error) not in failures:
                raise error
        else:
            complete = task.result()
        if on_error == "skip":
            expected = [each for each in expected if not isinstance(each, type)]
        if complete:
            assert on_error != "raise" or not failures
            if not ordered:
                outcomes, expected = sorted(map(str, outcomes)), sorted(map(str, expected))
            assert outcomes == expected
        elif ordered:
            assert outcomes == expected[: len(outcomes)]
        else:
            results = [each for each in outcomes if isinstance(each, int)]
            assert len(results) == len(set(results))
        assert not world.broken

    with asyncio.Runner(loop_factory=loop_variants()[loop]) as runner:
        runner.run(main())
