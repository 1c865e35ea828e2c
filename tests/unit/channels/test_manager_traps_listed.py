"""Where each known trap of objects shared by processes is tested; a lost or renamed test is missed."""

import pytest

from tests.trap_lists import missing

LOCKS = "unit/channels/test_broker_locks.py"
QUEUES = "unit/channels/test_broker_queues.py"
MEETING = "unit/channels/test_broker_meeting.py"
FACES = "unit/channels/test_manager_faces.py"
SERVER = "unit/channels/test_manager_server.py"
INTERRUPTS = "unit/channels/test_manager_interrupts.py"
ORDERS = "schedules/test_manager.py"
MODELS = "properties/test_manager.py"
SYSTEM = "system/test_manager.py"
KILLS = "system/test_manager_kills.py"
PRIMITIVES = "contracts/test_sync_primitives.py"
SYNC_QUEUES = "contracts/test_sync_queues.py"

# Trap -> file and the name of a test after `test_`. Those of the contracts run for shared objects
# too, in `contracts/test_manager.py`.
LISTED: dict[str, list[tuple[str, str]]] = {
    "a cancel after the grant and before the waiter goes on loses the wake-up": [
        (LOCKS, "cancelled_after_the_grant_it_goes_to_the_next"),
        (LOCKS, "a_permit_that_is_not_wanted_any_more_goes_on"),
        (LOCKS, "a_notification_of_one_that_gives_up_wakes_another"),
        (ORDERS, "nothing_is_lost_at_any_cancel_of_a_holder"),
        (ORDERS, "the_lock_is_held_after_any_cancel_of_a_condition"),
        (MODELS, "permits_are_conserved"),
    ],
    "a cancelled waiter is still in the queue when the release comes": [
        (LOCKS, "cancel_and_release_cross_on_the_way"),
        (LOCKS, "a_cancelled_request_leaves_the_queue"),
        (PRIMITIVES, "who_gives_up_leaves_the_others_their_order"),
    ],
    "an item is lost by a cancelled get, or doubled by a cancelled put": [
        (QUEUES, "items_that_were_not_taken_come_back_to_their_place"),
        (QUEUES, "a_putter_that_goes_away_leaves_no_item"),
        (QUEUES, "the_bound_counts_what_is_on_its_way"),
        (ORDERS, "nothing_is_lost_at_any_cancel_of_a_queue"),
        (MODELS, "items_are_conserved_within_the_bound"),
        (SYNC_QUEUES, "who_gives_up_leaves_items_and_places_to_others"),
    ],
    "a task blocks the thread of its own loop": [
        (FACES, "the_blocking_face_refuses_a_running_loop"),
    ],
    "the loop of a waiter is closed": [
        (SERVER, "an_answer_that_nobody_waits_for_is_taken_back"),
        (SERVER, "a_manager_whose_loop_was_closed_is_closed"),
    ],
    "those who wait are overtaken": [
        (LOCKS, "a_lock_is_handed_over_in_the_order_of_arrival"),
        (PRIMITIVES, "it_is_handed_over_in_the_order_of_arrival"),
        (MODELS, "a_lock_has_one_owner_and_forgets_nobody"),
    ],
    "calls that never wait starve the loop": [
        (FACES, "a_queue_that_never_waits_leaves_the_loop_its_turn"),
        (SERVER, "the_loop_turns_while_others_ask_without_end"),
    ],
    "a holder is killed": [
        (LOCKS, "the_death_of_the_holder_is_told_to_all_who_want_it"),
        (LOCKS, "a_recovery_that_fails_leaves_the_lock_as_it_was"),
        (LOCKS, "all_who_wait_hear_of_the_death_of_who_has_the_lock"),
        (LOCKS, "permits_of_the_dead_are_free"),
        (MEETING, "who_dies_at_a_barrier_breaks_it"),
        (SYSTEM, "others_go_on_when_the_holder_is_killed"),
        (SYSTEM, "a_cancelled_call_is_killed_and_what_it_held_is_told"),
        (SYSTEM, "a_call_that_returns_with_a_lock_has_ended_like_one_that_dies"),
        (KILLS, "a_lock_survives_a_death_at_any_step"),
        (KILLS, "permits_survive_a_death_at_any_step"),
        (KILLS, "a_notification_survives_a_death_at_any_step"),
        (KILLS, "others_go_on_after_hundreds_of_kills"),
    ],
    "a writer is killed in the middle of a message": [
        (SERVER, "a_message_that_was_cut_off_is_none"),
        (KILLS, "a_queue_survives_the_death_of_a_producer_at_any_step"),
    ],
    "a copy of the descriptor somewhere keeps the end of the stream away": [
        (SYSTEM, "a_forked_child_is_refused_and_keeps_nothing_open"),
        (SERVER, "a_connection_that_is_not_used_is_nobody"),
    ],
    "the end of the stream comes with an error, of which a loop tells once": [
        (SERVER, "a_death_with_unread_answers_is_heard"),
        (SERVER, "a_manager_that_dies_with_unread_messages_is_heard"),
    ],
    "a process ends before all it said was sent": [
        (SYSTEM, "what_a_process_said_last_is_heard"),
    ],
    "what was on its way at a death": [
        (QUEUES, "an_item_that_comes_back_is_for_who_waits"),
        (QUEUES, "join_tells_of_items_that_died_with_a_process"),
        (SYSTEM, "join_tells_of_an_item_that_died_with_its_worker"),
        (KILLS, "items_survive_the_death_of_a_consumer_at_any_step"),
    ],
    "a pill for each consumer, which overtakes items": [
        (QUEUES, "shutdown_reaches_every_waiter"),
        (QUEUES, "what_was_let_in_before_the_shutdown_is_put"),
        (SYNC_QUEUES, "shutdown_reaches_every_consumer"),
    ],
    "the manager ends while others wait": [
        (LOCKS, "who_waits_hears_of_the_end_and_who_comes"),
        (FACES, "after_the_end_all_is_refused_but_release"),
        (SYSTEM, "workers_that_wait_hear_of_the_end_of_the_manager"),
    ],
    "use after a fork": [(SYSTEM, "a_forked_child_is_refused_and_keeps_nothing_open")],
    "items that cannot be pickled, or are too large": [
        (FACES, "a_queue_takes_what_can_be_pickled"),
        (FACES, "a_value_that_is_too_large_is_refused"),
    ],
    "Ctrl+C in a call leaves something held by nobody": [
        (INTERRUPTS, "an_interrupt_at_any_line_leaves_nothing_behind"),
        (INTERRUPTS, "an_interrupt_while_it_waits_for_a_condition_takes_the_lock_again"),
    ],
    "a condition that gives up waits for itself": [
        (FACES, "who_gives_up_before_it_waits_holds_the_lock_again"),
        (LOCKS, "who_gave_up_before_it_was_told_takes_the_lock_in_its_own_place"),
    ],
    "a value of a class that the broker does not know costs a process its connection": [
        (SERVER, "numbers_of_other_classes_are_sent_as_numbers"),
    ],
    "for and in over a table never end": [
        (FACES, "a_table_is_not_looked_through_without_the_broker"),
    ],
    "equal priorities compare their payloads": [
        (FACES, "a_priority_queue_compares_what_needs_no_code_of_others"),
        (QUEUES, "priorities_that_cannot_be_compared_are_refused_at_the_put"),
        (QUEUES, "priorities_that_fit_only_the_first_stay_in_the_queue"),
    ],
}


@pytest.mark.parametrize("trap", LISTED)
def test_trap_has_its_tests(trap: str) -> None:
    """Each test that is named for a trap exists."""
    assert LISTED[trap]
    assert not missing(LISTED[trap])
