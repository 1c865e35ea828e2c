"""Where each known trap of bridges between threads and loops is tested; a lost test is missed."""

import pytest

from tests.trap_lists import missing

PORTAL = "unit/runtime/test_portal.py"
BLOCKING = "unit/runtime/test_iterate_blocking.py"
THREAD = "unit/executors/test_iterate_in_thread.py"
CALLS = "unit/bridge/test_loop_calls.py"
STREAMS = "contracts/test_executor.py"

# Trap -> file and the name of a test after `test_`.
LISTED: dict[str, list[tuple[str, str]]] = {
    "a call into the loop from the loop's own thread": [
        (PORTAL, "a_call_from_the_loops_own_thread_is_refused"),
        (BLOCKING, "wrong_use_is_refused_with_the_right_line"),
    ],
    "a portal closes with calls in flight": [
        (PORTAL, "the_end_of_the_block_waits_for_calls_that_have_begun"),
        (PORTAL, "a_block_that_does_not_end_well_cancels_its_calls"),
        (PORTAL, "waiting_at_the_end_may_be_cancelled_and_cancels_each_call_once"),
        (PORTAL, "calls_from_many_threads_while_the_portal_closes_all_end"),
        (PORTAL, "what_was_posted_and_has_not_begun_is_refused_at_the_end"),
        (PORTAL, "a_block_that_is_destroyed_answers_all_calls"),
    ],
    "a thread waits for a loop that is closed": [
        (PORTAL, "a_loop_that_is_closed_leaves_no_thread_waiting"),
        (BLOCKING, "a_closed_loop_ends_the_iteration_with_an_error"),
        (CALLS, "a_closed_loop_leaves_no_thread_waiting"),
    ],
    "context variables of the thread": [
        (PORTAL, "a_call_sees_a_copy_of_the_context_of_its_thread"),
        (BLOCKING, "the_source_sees_the_context_of_the_thread"),
    ],
    "one side of an iteration ends, and the other goes on": [
        (BLOCKING, "leaving_early_ends_the_reading"),
        (BLOCKING, "leaving_while_the_source_waits_cancels_it_there"),
        (BLOCKING, "a_cancelled_reading_is_an_error_in_the_thread"),
        (BLOCKING, "an_iteration_that_nobody_has_any_more_is_closed"),
        (THREAD, "leaving_early_closes_a_generator_in_its_thread"),
        (THREAD, "leaving_while_the_thread_is_inside_waits_or_abandons"),
        (STREAMS, "a_reader_cancelled_in_a_stream_loses_no_item"),
    ],
    "the parent of a worker dies while the worker calls into its loop": [
        ("system/test_bridges.py", "a_worker_that_waits_for_the_loop_ends_with_its_program"),
        ("system/test_process_exit.py", "no_worker_outlives_its_program"),
    ],
}


@pytest.mark.parametrize("trap", LISTED)
def test_trap_has_its_tests(trap: str) -> None:
    """Each test that is named for a trap exists."""
    assert LISTED[trap]
    assert not missing(LISTED[trap])
