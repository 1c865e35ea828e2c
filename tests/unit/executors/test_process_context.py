"""Context variables in worker processes: those that are named go along, and nothing stays."""

from collections.abc import AsyncIterator
from contextvars import ContextVar

import pytest

from aioconc.errors import SerializationError
from aioconc.executors import ProcessExecutor
from tests.unit.executors import process_work as work

at_nobody: "ContextVar[str]" = ContextVar("at_nobody")


@pytest.fixture
async def pool() -> AsyncIterator[ProcessExecutor]:
    async with ProcessExecutor(1, context=[work.user, work.request]) as executor:
        yield executor


async def test_named_variables_are_set_for_the_call(pool: ProcessExecutor) -> None:
    """The function sees the values of the moment of the call; what has none keeps its default."""
    assert await pool.run(work.see) == ("nobody", None)
    work.user.set("anna")
    work.request.set([1, 2])
    assert await pool.run(work.see) == ("anna", [1, 2])
    assert await pool.run(work.see_later) == "anna"
    assert pool.futures.submit(work.see).result() == ("anna", [1, 2])


async def test_nothing_reaches_the_next_call(pool: ProcessExecutor) -> None:
    """What one call sets, or was given, the next one does not see."""
    token = work.user.set("anna")
    assert await pool.run(work.change) == "changed"
    work.user.reset(token)
    assert await pool.run(work.see) == ("nobody", None)


async def test_streams_and_maps_have_them_too(pool: ProcessExecutor) -> None:
    """Every verb carries the variables."""
    work.user.set("anna")
    async with pool.stream(work.see) as items:
        assert [item async for item in items] == ["anna", None]
    seen = await pool.map(lambda _: work.see()[0], range(3))
    assert seen == ["anna"] * 3


async def test_a_value_that_cannot_be_pickled_fails_the_call(pool: ProcessExecutor) -> None:
    """As an argument would."""
    work.request.set(each for each in ())
    with pytest.raises(SerializationError, match="see or its arguments or the context variables"):
        await pool.run(work.see)


def test_a_variable_that_no_worker_could_find_is_refused() -> None:
    """It must be a global of a module, or nothing could be set there."""
    local: ContextVar[int] = ContextVar("local")
    with pytest.raises(ValueError, match="'local' is not a global of any module"):
        ProcessExecutor(1, context=[local])
    with pytest.raises(TypeError, match="context must be context variables, got 'user'"):
        ProcessExecutor(1, context=["user"])  # type: ignore[list-item]
