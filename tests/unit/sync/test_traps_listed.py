"""Where each known trap of locks and queues is tested; a test that is renamed or lost is missed."""

import pytest

from tests.trap_lists import missing

TRAPS = "unit/sync/test_traps.py"
STRESS = "unit/sync/test_thread_stress.py"
QUEUES = "contracts/test_sync_queues.py"
LOCKS = "contracts/test_sync_primitives.py"
ORDERS = "schedules/test_sync.py"
MODELS = "properties/test_sync.py"

# Trap -> file and the name of a test after `test_`.
LISTED: dict[str, list[tuple[str, str]]] = {
    "a cancel after the grant and before the waiter goes on loses the wake-up": [
        (TRAPS, "cancelled_in_the_tick_of_the_grant_it_goes_to_the_next"),
        (TRAPS, "all_granted_waiters_cancelled_it_is_free"),
        (TRAPS, "a_notification_of_a_cancelled_waiter_wakes_another"),
        (ORDERS, "nothing_is_lost_at_any_cancel_of_a_holder"),
        (STRESS, "permits_are_conserved_between_threads_and_loops"),
    ],
    "a cancelled waiter is still in the queue when the release comes": [
        (TRAPS, "cancel_and_release_in_one_tick_wake_the_next"),
        (LOCKS, "who_gives_up_leaves_the_others_their_order"),
    ],
    "an item is lost by a cancelled get, or doubled by a cancelled put": [
        (TRAPS, "a_getter_cancelled_in_the_tick_of_its_item_loses_none"),
        (TRAPS, "a_putter_cancelled_in_the_tick_of_its_place_leaves_no_item"),
        (TRAPS, "items_keep_their_order_where_a_getter_is_cancelled"),
        (TRAPS, "the_bound_holds_while_a_granted_item_waits_to_be_taken"),
        (QUEUES, "who_gives_up_leaves_items_and_places_to_others"),
        (MODELS, "items_are_conserved_within_the_bound"),
        (STRESS, "items_are_conserved_between_threads_and_loops"),
    ],
    "a task blocks the thread of its own loop": [
        (TRAPS, "blocking_a_running_loop_is_refused_with_the_right_line"),
    ],
    "the loop of a waiter is closed": [
        (TRAPS, "a_waiter_of_a_closed_loop_is_skipped"),
        (TRAPS, "an_item_granted_to_a_closed_loop_goes_to_the_next"),
        (TRAPS, "a_chain_of_dead_waiters_is_no_recursion"),
    ],
    "those who wait are overtaken": [
        (TRAPS, "consumers_share_evenly"),
        (TRAPS, "nobody_overtakes_those_who_wait_for_a_lock"),
        (TRAPS, "who_comes_before_a_getter_goes_on_takes_the_first_item"),
        (TRAPS, "room_made_without_the_mutex_belongs_to_who_waits"),
        (LOCKS, "it_is_handed_over_in_the_order_of_arrival"),
        (MODELS, "permits_are_conserved_and_granted_in_order"),
    ],
    "a queue that never waits starves the loop": [
        (TRAPS, "a_queue_that_never_waits_leaves_the_loop_its_turn"),
        (TRAPS, "a_million_items_leave_the_loop_a_turn_after_each_64"),
    ],
    "a wake-up falls between a flag and the look at it": [
        (TRAPS, "threads_and_tasks_hand_a_lock_around_under_injected_switches"),
        (TRAPS, "room_made_while_a_putter_queues_up_is_seen_by_it"),
        (STRESS, "items_are_conserved_between_threads_and_loops"),
        ("unit/bridge/test_mailbox.py", "no_order_of_a_post_and_a_delivery_loses_a_wake_up"),
    ],
    "a pill for each consumer, which overtakes items": [
        (QUEUES, "shutdown_reaches_every_consumer"),
        (QUEUES, "shutdown_lets_take_what_is_left"),
        (TRAPS, "an_item_that_comes_back_after_shutdown_is_for_who_waits"),
    ],
    "use after a fork": [
        (TRAPS, "use_in_a_forked_child_raises"),
        ("unit/sync/test_faces.py", "nothing_of_the_parent_is_used_in_a_forked_child"),
    ],
    "equal priorities compare their payloads": [
        (TRAPS, "items_that_cannot_be_compared_go_in_order"),
        ("unit/sync/test_faces.py", "a_queue_gives_what_cannot_be_compared"),
    ],
}


@pytest.mark.parametrize("trap", LISTED)
def test_trap_has_its_tests(trap: str) -> None:
    """Each test that is named for a trap exists."""
    assert LISTED[trap]
    assert not missing(LISTED[trap])
