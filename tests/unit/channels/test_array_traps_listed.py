"""Where each known trap of memory between processes is tested; a lost or renamed test is missed."""

import pytest

from tests.trap_lists import missing

ARRAYS = "unit/channels/test_shared_array.py"
PROCESSES = "system/test_shared_arrays.py"
LOCKS = "contracts/test_array_lock.py"

# Trap -> file and the name of a test after `test_`.
LISTED: dict[str, list[tuple[str, str]]] = {
    "a process that only uses the memory unlinks it, or leaves it behind": [
        (PROCESSES, "killed_or_not_nothing_is_left_and_nobody_is_warned"),
        (PROCESSES, "a_process_that_multiprocessing_starts_has_it"),
        (PROCESSES, "it_outlives_the_process_that_made_it"),
        (PROCESSES, "an_argument_and_a_result_are_the_same_memory"),
        (ARRAYS, "closed_it_says_so"),
    ],
    "the memory is closed under a view, or cut off under a reader": [
        (ARRAYS, "a_view_that_is_kept_holds_the_array_open"),
        (ARRAYS, "a_block_that_fails_keeps_its_error"),
        (ARRAYS, "dropped_it_is_freed_with_its_last_view"),
        (ARRAYS, "nobody_can_make_the_memory_shorter"),
    ],
    "a fork shares what the parent holds": [
        (ARRAYS, "a_fork_has_the_array_and_a_lock_that_it_does_not_hold"),
    ],
    "a process dies with the lock": [
        (PROCESSES, "the_death_of_the_holder_is_told_to_all_until_it_is_recovered"),
        (PROCESSES, "a_holder_that_had_passed_the_array_on_is_missed_as_well"),
        (PROCESSES, "who_dies_in_the_recovery_leaves_it_as_it_was"),
        (PROCESSES, "a_call_that_forgets_the_lock_leaves_it_as_a_death_does"),
        (PROCESSES, "a_kill_at_any_step_keeps_nobody_out"),
        (PROCESSES, "kills_at_any_moment_keep_nobody_out"),
    ],
    "a cancelled waiter takes the lock along": [
        (PROCESSES, "a_wait_for_another_process_leaves_the_loop_alone"),
        (LOCKS, "who_gives_up_leaves_the_others_their_order"),
    ],
    "one process keeps the others out": [
        (PROCESSES, "who_takes_it_again_and_again_keeps_nobody_out_for_long"),
    ],
}


@pytest.mark.parametrize("trap", LISTED)
def test_trap_has_its_tests(trap: str) -> None:
    """Each test that is named for a trap exists, or is collected there from a contract."""
    assert LISTED[trap]
    assert not missing(LISTED[trap], imported=True)
