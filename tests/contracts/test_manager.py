"""What locks, events, barriers and queues promise holds for tasks and threads of any process.

The tests are those of `aioconc.sync`, with objects of a manager, and with actors in its process, in
others, and in turn.
"""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from aioconc.channels import open_manager
from tests.contracts.manager_actors import SCOPES, Children, Kit, cast_of, children
from tests.contracts.sync_actors import GAVE_UP, Cast, wait_for_waiters
from tests.contracts.test_sync_primitives import (  # noqa: F401  # collected here
    test_a_barrier_lets_a_party_through,
    test_a_broken_barrier_is_an_error_until_it_is_reset,
    test_a_reentrant_lock_belongs_to_its_owner,
    test_an_event_lets_all_go,
    test_blocks_hold_it,
    test_it_is_handed_over_in_the_order_of_arrival,
    test_notified_waiters_hold_the_lock,
    test_one_holder_at_a_time,
    test_permits_are_counted,
    test_released_it_can_be_taken_again,
    test_who_gives_up_a_condition_holds_the_lock,
    test_who_gives_up_leaves_the_others_their_order,
)
from tests.contracts.test_sync_queues import (  # noqa: F401  # collected here
    test_get_waits_for_an_item,
    test_immediate_shutdown_throws_away_what_is_left,
    test_items_come_in_the_order_of_the_queue,
    test_put_waits_for_room,
    test_shutdown_lets_take_what_is_left,
    test_shutdown_reaches_every_consumer,
    test_who_gives_up_leaves_items_and_places_to_others,
)

# The other loops have their turn in `system/test_manager`.
pytestmark = pytest.mark.loops("asyncio")

# Actors take turns in them.
PROCESSES = 3


@pytest.fixture(scope="module")
def processes() -> Iterator[Children]:
    with children(PROCESSES) as found:
        yield found


@pytest.fixture
async def kit() -> AsyncIterator[Kit]:
    async with open_manager() as manager:
        yield Kit(manager)


@pytest.fixture(params=SCOPES)
async def actor(
    request: pytest.FixtureRequest, processes: Children, kit: Kit
) -> AsyncIterator[Cast]:
    async with cast_of(request.param, kit.manager, processes) as make:
        yield make


@pytest.fixture(params=["Lock", "RLock", "Semaphore", "BoundedSemaphore"])
def exclusive(request: pytest.FixtureRequest, kit: Kit) -> Any:
    return getattr(kit, request.param)()


@pytest.fixture(params=["Queue", "LifoQueue", "PriorityQueue"])
def kind(request: pytest.FixtureRequest, kit: Kit) -> Any:
    return getattr(kit, request.param)


async def test_join_waits_until_all_is_done(actor: Cast, kind: Any) -> None:
    """`task_done` once for each item, by the process that took it, and not once more."""
    items, who = kind(), actor()
    await who.do(items, "join")
    items.put_nowait(1)
    items.put_nowait(2)
    assert await actor().give_up(items, "join") == GAVE_UP
    joined = actor().do(items, "join")
    await wait_for_waiters(items, 1)
    await who.do(items, "get_many", 2)
    await who.do(items, "task_done")
    assert not joined.done()
    await who.do(items, "task_done")
    await joined
    with pytest.raises(ValueError, match="too many times"):
        await who.do(items, "task_done")
