"""Where each known trap of channels between processes is tested; a lost or renamed test is missed."""

import pytest

from tests.trap_lists import missing

CONTRACT = "contracts/test_channels.py"
FACES = "unit/channels/test_channel_faces.py"
KILLS = "system/test_channel_kills.py"
ORDERS = "schedules/test_channels.py"
MODEL = "unit/wire/test_channel_machine.py"
HEARTBEAT = "system/test_channel_heartbeat.py"

# Trap -> file and the name of a test after `test_`.
LISTED: dict[str, list[tuple[str, str]]] = {
    "an item is lost by a cancelled receive, or sent by a cancelled send": [
        (FACES, "a_receiver_cancelled_in_the_tick_of_its_item_loses_none"),
        (FACES, "a_sender_cancelled_in_the_tick_of_its_room_sends_nothing"),
        (FACES, "a_large_send_cancelled_while_it_is_copied_sends_nothing"),
        (FACES, "a_large_receive_cancelled_while_it_is_unpickled_loses_nothing"),
        (ORDERS, "a_receive_cancelled_anywhere_takes_nothing"),
        (ORDERS, "a_send_cancelled_anywhere_sends_all_or_nothing"),
        (MODEL, "items_are_conserved_in_order_and_credits_bounded"),
    ],
    "a task blocks the thread of its own loop": [
        (FACES, "blocking_a_running_loop_is_refused_with_the_right_line"),
    ],
    "one reader starves the others, or the loop": [
        (FACES, "receivers_share_evenly"),
        (FACES, "a_channel_that_never_waits_leaves_the_loop_its_turn"),
        (HEARTBEAT, "a_heartbeat_slips_by_less_than_ten_milliseconds"),
    ],
    "a writer is killed in the middle of a frame": [
        (KILLS, "a_process_that_is_killed_is_told_from_one_that_closes"),
        (KILLS, "two_hundred_kills_leave_nothing_behind"),
    ],
    "a copy of the descriptor somewhere keeps the end of the stream away": [
        (KILLS, "a_third_process_that_lives_keeps_no_death_from_showing"),
        (FACES, "use_in_a_forked_child_raises"),
        (FACES, "an_end_that_nobody_takes_is_a_death"),
    ],
    "both ends only send, and wait for each other": [
        (CONTRACT, "both_sides_send_a_hundred_thousand_before_they_receive"),
        (CONTRACT, "both_send_more_than_the_system_buffers_before_one_receives"),
    ],
    "a worker cannot end while its items are not taken": [
        (KILLS, "a_worker_that_leaves_with_items_unsent_holds_nobody_up"),
        (FACES, "close_has_the_time_it_was_given_to_send_the_rest"),
    ],
    "what was on its way at a death": [
        (KILLS, "what_a_process_took_and_died_with_is_not_sent_again"),
        (KILLS, "a_process_that_is_killed_is_told_from_one_that_closes"),
    ],
    "what a close of one end means at the other": [
        (CONTRACT, "half_a_close_ends_one_direction_after_the_last_item"),
        (CONTRACT, "close_of_the_peer_lets_take_what_it_sent"),
        (CONTRACT, "close_here_ends_all_who_wait"),
        (FACES, "an_end_that_is_dropped_warns_and_is_a_death"),
    ],
    "use after a fork": [(FACES, "use_in_a_forked_child_raises")],
    "items that cannot be pickled, or unpickled, or are too large": [
        (CONTRACT, "what_cannot_be_sent_raises_in_the_sender"),
        (CONTRACT, "what_cannot_be_received_fails_one_receive"),
    ],
}


@pytest.mark.parametrize("trap", LISTED)
def test_trap_has_its_tests(trap: str) -> None:
    """Each test that is named for a trap exists."""
    assert LISTED[trap]
    assert not missing(LISTED[trap])
