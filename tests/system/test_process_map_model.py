"""Maps over processes against a plain loop: random items that return, fail, kill and break rules.

Whatever the items do and however they are cut into chunks, each ends once and with its own
outcome, and the pool serves the next map.
"""

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from aioconc.errors import SerializationError, WorkerCrashed, WorkerExit
from aioconc.executors import ProcessExecutor
from aioconc.testing import cancel_everywhere
from tests.system import map_work as work

KINDS = {
    "value": "value",
    "array": ["array"] * 100,
    "large": bytes(100_000),
    "error": ValueError,
    "exit": WorkerExit,
    "lock": SerializationError,
    "crash": WorkerCrashed,
    "unsendable": SerializationError,
    "unloadable": SerializationError,
}
# Crashes cost a new worker each, so they are rare.
ITEMS = st.lists(
    st.sampled_from(["value"] * 12 + ["error"] * 3 + [each for each in KINDS if each != "crash"])
    | st.integers(0, 30).map(lambda number: "crash" if number == 0 else "value"),
    max_size=40,
)
WAYS = st.sampled_from([{}, {}, {"buffer": 5}, {"limit": 3}, {"limit": 1}])
CHUNKS = st.sampled_from(["auto", 1, 2, 7, 100])


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessExecutor]:
    """Workers belong to no loop, so all examples share them."""
    with ProcessExecutor(max_workers=2, name="model") as executor:
        yield executor


def item_of(kind: str) -> Any:
    if kind == "unsendable":
        return work.Unsendable()
    return work.Unloadable() if kind == "unloadable" else kind


def outcome(found: Any) -> Any:
    return type(found) if isinstance(found, Exception) else found


@pytest.mark.slow
@pytest.mark.timeout(300)
@settings(max_examples=120)
@given(
    kinds=ITEMS,
    way=WAYS,
    chunk=CHUNKS,
    ordered=st.booleans(),
    streamed=st.booleans(),
    on_error=st.sampled_from(["return", "skip", "raise"]),
)
def test_a_map_gives_what_a_loop_gives(
    pool: ProcessExecutor,
    kinds: list[str],
    way: dict[str, Any],
    chunk: Any,
    ordered: bool,
    streamed: bool,
    on_error: Any,
) -> None:
    """Values and errors are those of the items, in their order if asked; none twice, none lost."""
    expected = [KINDS[kind] for kind in kinds]
    failures = {each for each in expected if isinstance(each, type)}

    async def main() -> list[Any]:
        run: Any = pool.map(
            work.behave,
            [item_of(kind) for kind in kinds],
            chunk=chunk,
            ordered=ordered,
            on_error=on_error,
            **way,
        )
        if not streamed:
            return list(await run)
        async with run as results:
            return [each async for each in results]

    if on_error == "raise" and failures:
        with pytest.raises(tuple(failures)):
            asyncio.run(main())
    else:
        found = [*map(outcome, asyncio.run(main()))]
        if on_error == "skip":
            expected = [each for each in expected if not isinstance(each, type)]
        if not ordered:
            found.sort(key=repr)
            expected.sort(key=repr)
        assert found == expected
    now = pool.statistics()
    assert (now.busy, now.queued, now.abandoned) == (0, 0, 0)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", [{}, {"buffer": 4}], ids=["chunks", "items"])
def test_a_map_may_be_cancelled_at_each_await(pool: ProcessExecutor, way: dict[str, Any]) -> None:
    """No call of it runs on, nothing is left, and the next map gives what it should."""

    async def read() -> None:
        async with pool.map(work.same, range(12), chunk=2, **way) as results:
            assert [each async for each in results] == [*range(12)]

    async def collect() -> None:
        assert await pool.map(work.same, range(12), chunk=2, **way) == [*range(12)]

    def check() -> None:
        now = pool.statistics()
        assert (now.busy, now.queued, now.abandoned) == (0, 0, 0)

    for program in (read, collect):
        cancel_everywhere(program, check=check, loop_factory=asyncio.new_event_loop)


def test_the_model_runs_in_the_parent_of_its_workers() -> None:
    """What kills is only ever run by a worker: the depth is not set here."""
    assert "AIOCONC_DEPTH" not in os.environ
