"""The wait graph against the program itself: what it calls lost is lost, whatever happens next.

Random programs of nested locks, semaphores and awaited tasks run on a real loop until nothing
moves. Then the graph is drawn, everything that anybody outside could do is done, and those that
still wait are the ones that were lost.
"""

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, strategies as st

from aioconc.testing._owners import record_owners
from aioconc.testing._wait_graph import WaitGraph, cycle_key, wait_graph


@dataclass(frozen=True)
class Step:
    """Enter a resource by a block, or acquire it by hand; wait for the gate; await a task."""

    do: str
    which: int = 0


STEPS = st.one_of(
    st.builds(Step, st.just("block"), st.integers(0, 3)),
    st.builds(Step, st.just("hand"), st.integers(0, 3)),
    st.builds(Step, st.just("gate")),
    st.builds(Step, st.just("pause")),
    st.builds(Step, st.just("task"), st.integers(0, 3)),
    st.builds(Step, st.sampled_from(["all", "failing"]), st.integers(0, 3)),
)
PROGRAMS = st.lists(st.lists(STEPS, min_size=1, max_size=5), min_size=2, max_size=4)


class World:
    """Four resources, a gate, and tasks that each run one list of steps."""

    def __init__(self, programs: list[list[Step]]) -> None:
        self.resources: list[Any] = [
            asyncio.Lock(),
            asyncio.Lock(),
            asyncio.Semaphore(2),
            asyncio.Condition(),
        ]
        self.gate = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []
        for index, program in enumerate(programs):
            task = asyncio.create_task(self.run(index, program), name=f"t{index}")
            self.tasks.append(task)

    async def run(self, index: int, steps: list[Step]) -> None:
        if not steps:
            return
        step, rest = steps[0], steps[1:]
        others = [task for task in self.tasks if task is not asyncio.current_task()]
        match step.do:
            case "block":
                async with self.resources[step.which]:
                    await self.run(index, rest)
                return
            case "hand":
                await self.resources[step.which].acquire()
                try:
                    await self.run(index, rest)
                finally:
                    self.resources[step.which].release()
                return
            case "gate":
                await self.gate.wait()
            case "pause":
                await asyncio.sleep(0)
            case "task" if others:
                # Shielded, since cancelling tasks that await each other recurses without end.
                await asyncio.shield(others[step.which % len(others)])
            case "all" if others:
                shields = [asyncio.shield(each) for each in others[: step.which + 1]]
                await asyncio.gather(*shields, return_exceptions=True)
            case "failing" if others:
                await asyncio.gather(*[asyncio.shield(each) for each in others[: step.which + 1]])
            case _:
                pass
        await self.run(index, rest)


async def settle() -> WaitGraph:
    quiet = 0
    while True:
        graph = wait_graph()
        quiet = 0 if any(node.state == "ready" for node in graph.tasks) else quiet + 1
        if quiet > 6:
            return graph
        await asyncio.sleep(0)


@given(programs=PROGRAMS, eager=st.booleans())
@pytest.mark.parametrize("recording", [True, False])
def test_circles_are_true_and_complete(
    programs: list[list[Step]], eager: bool, recording: bool
) -> None:
    """A circle never moves again; and if no lock is held by hand, every deadlock has one."""

    async def main() -> None:
        if eager and hasattr(asyncio, "eager_task_factory"):
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        world = World(programs)
        before = await settle()
        world.gate.set()
        after = await settle()
        left = {task.get_name() for task in world.tasks if not task.done()}
        try:
            lost = {node.name for node in before.knot if node.kind == "task"}
            assert lost <= left
            assert (cycle_key(before) is not None) == bool(lost)
            by_hand = any(step.do == "hand" for program in programs for step in program)
            if recording or not by_hand:
                assert bool(after.likely_cycle) == bool(left)
            semaphores = any(step.which == 2 for program in programs for step in program)
            if not by_hand and (recording or not semaphores):
                assert bool(after.cycle) == bool(left)
        finally:
            for task in world.tasks:
                task.cancel()
            await asyncio.gather(*world.tasks, return_exceptions=True)

    with record_owners() if recording else contextlib.nullcontext():
        asyncio.run(main())
