"""The lock of a shared array, in one process, promises what other locks promise."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from aioconc.channels import SharedArray
from tests.contracts.sync_actors import Cast, cast
from tests.contracts.test_sync_primitives import (  # noqa: F401  # collected here
    test_blocks_hold_it,
    test_it_is_handed_over_in_the_order_of_arrival,
    test_one_holder_at_a_time,
    test_released_it_can_be_taken_again,
    test_who_gives_up_leaves_the_others_their_order,
)

pytestmark = [
    pytest.mark.loops("all"),
    pytest.mark.skipif("not hasattr(__import__('os'), 'eventfd')", reason="needs Linux"),
]


@pytest.fixture(params=["task", "thread", "mixed"])
async def actor(request: pytest.FixtureRequest) -> AsyncIterator[Cast]:
    async with cast(request.param) as make:
        yield make


@pytest.fixture
def exclusive() -> Iterator[Any]:
    with SharedArray(1, lock=True) as shared:
        yield shared.lock
