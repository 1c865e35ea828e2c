"""Where each known trap of coroutines under asyncio is tested.

The traps are what other libraries, and asyncio itself in some version, got wrong. Each has tests
of its own; one that is renamed or lost is missed here.
"""

import pytest

from tests.trap_lists import missing

COUNTING = "unit/tasks/test_cancel_counting.py"
HOSTS = "unit/tasks/test_hosts.py"
LIMIT = "unit/tasks/test_group_limit.py"
EAGER = "unit/tasks/test_eager_children.py"
ERRORS = "unit/tasks/test_group_errors.py"
OVERDUE = "unit/tasks/test_overdue.py"
SUPERVISOR = "unit/tasks/test_supervisor.py"
WINDOW = "unit/flow/test_window_traps.py"
MAPS = "unit/flow/test_map_traps.py"
RACE = "unit/flow/test_race.py"
RATE = "unit/flow/test_rate_limiter.py"
BACKOFF = "unit/flow/test_backoff.py"

# Trap -> file and the end of a test's name after `test_`, one or more.
TRAPS: dict[str, list[tuple[str, str]]] = {
    # ------------------------------------------------------------------ counting cancels
    "a cancel is taken back although the body swallowed it": [
        (COUNTING, "a_swallowed_cancel_of_a_scope_is_taken_back"),
    ],
    "the count of cancels at entry is the baseline, not zero": [
        (COUNTING, "an_old_swallowed_cancel_does_not_disturb_a_scope_or_a_group"),
    ],
    "an outer cancel and an inner timeout in the same tick": [
        (COUNTING, "outer_cancel_beats_a_timeout_in_the_same_tick"),
    ],
    "nested groups that fail together; the inner one swallows the outer one's cancel": [
        (COUNTING, "nested_groups_that_fail_in_the_same_tick"),
    ],
    "a cancel from outside during the join of a group that was cancelled quietly": [
        (COUNTING, "an_outer_timeout_during_the_join_of_a_cancelled_group_surfaces"),
    ],
    "errors are raised while a cancel is pending, which must strike later": [
        (COUNTING, "a_handled_error_leaves_the_outer_cancel_armed"),
        (SUPERVISOR, "a_failure_and_a_cancel_in_the_same_tick_keep_both"),
    ],
    "KeyboardInterrupt or SystemExit of a child, with other errors beside it": [
        (ERRORS, "a_base_error_of_a_child_leaves_and_the_error_beside_it_is_reported"),
        (WINDOW, "exit_raised_by_an_item_leaves_bare_after_all_have_ended"),
        (RACE, "exits_leave_bare_after_the_join"),
        (SUPERVISOR, "system_exit_of_a_child_ends_the_program"),
    ],
    "GeneratorExit in the body of a group": [(COUNTING, "generator_exit_leaves_bare")],
    "an awaited task that somebody else cancelled": [
        (COUNTING, "awaiting_a_child_that_somebody_cancelled"),
        (WINDOW, "item_cancelled_by_somebody_else_is_an_error_of_that_item"),
        (RACE, "a_third_party_cancellation_is_that_functions_failure"),
        (SUPERVISOR, "a_child_cancelled_by_somebody_else_has_failed"),
    ],
    "work that swallows its cancel and returns a value": [
        (COUNTING, "a_child_that_swallows_its_cancel_is_joined"),
        (WINDOW, "item_that_swallows_our_cancel_and_returns_is_dropped"),
        (RACE, "a_loser_that_swallows_its_cancellation_is_ignored"),
    ],
    "work that refuses to end after its cancel: waited for, and reported": [
        (OVERDUE, "a_child_that_outlasts_its_cancellation_is_named_with_its_place"),
        (OVERDUE, "it_is_named_however_the_group_was_cancelled"),
        (SUPERVISOR, "a_child_that_outlasts_its_shutdown_time_is_reported_and_waited_for"),
    ],
    "a task cancelled before its first step never runs": [
        (WINDOW, "cancel_before_the_first_step_closes_the_coroutines"),
        (RACE, "a_task_cancelled_before_its_first_step_is_a_failure"),
        (SUPERVISOR, "cancel_in_the_first_tick"),
    ],
    "the CancelledError that leaves is the one that came": [
        (COUNTING, "an_anyio_scope_recognises_its_cancel_through_a_group_and_a_shield"),
        (ERRORS, "a_cancelled_error_keeps_its_identity_through_nested_blocks"),
        (WINDOW, "cancellation_inside_an_anyio_scope_keeps_its_identity"),
        (RACE, "cancelling_the_caller_ends_all_and_keeps_the_original_error"),
    ],
    "an anyio scope cancels its host anew in every pass of the loop": [
        (COUNTING, "a_slow_join_in_a_cancelled_anyio_scope_does_not_spin"),
        (WINDOW, "slow_cleanup_under_a_cancelled_anyio_scope_does_not_spin"),
    ],
    # ------------------------------------------------------------------ eager tasks, loops
    "an eager child starts a sibling that fails": [
        (HOSTS, "an_eager_child_that_spawns_a_failing_sibling"),
    ],
    "an eager child cancels its group before its first suspension": [
        (HOSTS, "a_child_that_cancels_its_group_before_its_first_suspension"),
        (EAGER, "a_child_of_a_factory_made_eager_later_cancels_its_group"),
    ],
    "an eager child that has failed already cancels its starter inside the call": [
        (EAGER, "a_child_that_fails_in_its_first_step_cancels_nobody_inside_the_call"),
        (RACE, "an_eager_win_starts_no_more_functions"),
    ],
    "an eager task is stepped in the thread of another loop": [
        (HOSTS, "another_thread_steps_no_coroutine_of_the_group"),
    ],
    "timers that fire early, or at once": [
        (RATE, "a_timer_that_fires_early_is_not_believed"),
        (RATE, "rate_holds_on_the_real_clock"),
        ("properties/test_rate_limiter.py", "never_more_than_rate_plus_burst_in_a_window"),
    ],
    "a timeout of zero, or a deadline that has passed": [
        (HOSTS, "zero_seconds_cancel_the_first_suspension"),
        (HOSTS, "a_block_that_never_suspends_completes_although_its_time_is_up"),
    ],
    "calls that never suspend starve the loop": [
        (WINDOW, "calls_that_never_suspend_leave_the_loop_its_turn"),
        (RATE, "a_loop_of_free_acquisitions_leaves_others_their_turn"),
    ],
    # ------------------------------------------------------------------ generators
    "a stream that is a generator yields inside a scope": [
        (WINDOW, "bare_iteration_is_refused_with_the_right_line"),
        (WINDOW, "outer_timeout_strikes_a_map_as_a_timeout"),
    ],
    "two workers read one async generator": [
        (WINDOW, "async_source_is_read_and_closed_by_one_task"),
    ],
    "the source is closed once, however the map ends": [
        (WINDOW, "source_is_closed_once_however_the_map_ends"),
    ],
    "the source fails midway": [
        (WINDOW, "error_of_the_source_comes_after_what_was_delivered"),
    ],
    "an item raises StopIteration or StopAsyncIteration": [
        (WINDOW, "stop_exceptions_of_an_item_never_truncate_or_hang"),
        (RACE, "control_flow_exceptions_are_ordinary_failures"),
    ],
    "the source is entered again while it runs": [
        (WINDOW, "source_that_a_thread_is_running_fails_the_map"),
        (WINDOW, "limit_set_by_the_source_takes_effect_without_reentering_it"),
    ],
    "what goes through a bridged generator: send, throw, return": [
        ("unit/generators/test_drive.py", "each_kind_of_awaitable_gives_its_result"),
        ("unit/generators/test_drive.py", "exceptions_are_raised_at_the_yield"),
        ("unit/generators/test_delegate.py", "values_sent_arrive_inside"),
        ("unit/generators/test_delegate.py", "exceptions_thrown_are_raised_inside"),
    ],
    # ------------------------------------------------------------------ delivery
    "a cancel in the tick of the result loses the value": [
        (COUNTING, "a_waiter_cancelled_in_the_tick_of_the_result_is_cancelled"),
        (LIMIT, "a_starter_cancelled_in_the_tick_of_ready_leaves_the_child_running"),
        (WINDOW, "reader_cancelled_in_the_tick_of_delivery_loses_and_repeats_nothing"),
        (RACE, "cancelled_in_the_tick_of_the_win_it_is_cancelled"),
        (RATE, "cancelled_in_the_tick_of_its_turn_nothing_is_lost"),
    ],
    "a slow reader: what is buffered and in flight stays bounded": [
        (WINDOW, "slow_head_does_not_idle_the_others"),
        (WINDOW, "calls_in_flight_never_exceed_the_limit"),
        (WINDOW, "source_is_read_no_further_than_calls_start"),
        ("properties/test_window.py", "window_keeps_its_promises"),
        ("unit/flow/test_memory.py", "a_million_items_cost_what_a_thousand_do"),
    ],
    "a waiter that was woken and then cancelled passes its turn on": [
        (COUNTING, "a_spawn_cancelled_in_the_tick_of_its_slot_passes_the_slot_on"),
        (LIMIT, "slots_are_conserved_when_waiting_spawns_are_cancelled"),
        (RATE, "a_cancelled_waiter_gives_its_place_to_those_behind"),
    ],
    "two readers of one stream": [(WINDOW, "second_reader_at_the_same_time_is_refused")],
    "coroutines that never start, and the same awaitable twice": [
        (WINDOW, "coroutines_that_never_start_are_closed"),
        (WINDOW, "same_task_twice_gives_its_result_twice"),
        (MAPS, "same_coroutine_twice_is_an_error_and_never_a_hang"),
    ],
    "limits out of range, limits above the number of items, no items": [
        (WINDOW, "bad_limit_is_refused_before_anything_starts"),
        ("unit/internal/test_check.py", "limit_refuses_with_value_rule_and_remedy"),
        (WINDOW, "few_items_cost_few_tasks"),
        ("unit/flow/test_progress.py", "an_empty_map_is_told_once"),
    ],
    "context variables leak from one item into the next": [
        (WINDOW, "item_sees_the_callers_context_and_leaves_none_behind"),
        (WINDOW, "sync_source_has_a_context_of_its_own"),
        (LIMIT, "a_queued_child_has_the_context_of_its_call"),
        (RACE, "each_function_runs_in_its_own_copy_of_the_context"),
    ],
    "an item leaves a cancel of its task behind": [
        (WINDOW, "cancel_left_behind_by_an_item_does_not_strike_the_next"),
        (WINDOW, "late_item_fails_with_timeout_and_its_worker_is_clean"),
    ],
    "exceptions and frames that hold one another": [
        (HOSTS, "a_failing_group_leaves_no_reference_cycle"),
        (SUPERVISOR, "a_supervisor_leaves_no_reference_cycle"),
        (WINDOW, "failure_is_freed_without_the_garbage_collector"),
        (RACE, "failures_form_no_reference_cycle"),
    ],
    "retries of a cancelled call, or after the deadline": [
        (BACKOFF, "only_errors_named_by_on_are_retried"),
        (MAPS, "a_cancelled_item_is_not_retried"),
        (MAPS, "the_delay_before_a_retry_is_cut_by_the_scope_around_it"),
    ],
    "a rate limiter: order, places given back, several loops, drift": [
        (RATE, "waiters_go_in_order_of_arrival_whatever_their_cost"),
        (RATE, "a_newcomer_queues_behind_those_who_wait"),
        (RATE, "use_by_a_second_running_loop_is_refused"),
        (RATE, "a_million_acquisitions_do_not_drift"),
    ],
    "use from another thread, end in another task": [
        (HOSTS, "use_from_another_thread_is_refused"),
        (HOSTS, "leaving_in_another_task_is_refused_after_the_children_have_ended"),
        (HOSTS, "a_scope_left_in_another_task_never_strikes"),
    ],
    "a stream closed under its reader, or never run": [
        (MAPS, "a_stream_left_while_another_task_reads_ends_for_the_reader"),
        (WINDOW, "map_that_is_never_run_says_so"),
    ],
    # No build of Python without the GIL is among those that the project is tested on, so nothing
    # is said about one. What such a build does differently for a scope, letting a new thread
    # inherit the context of its starter, is done by hand.
    "threads that inherit the context of their starter": [
        (HOSTS, "a_thread_that_inherits_the_context_is_in_no_scope_of_its_starter"),
    ],
}


def test_every_trap_is_here() -> None:
    """The list has all forty-two traps that were collected when the task layer was designed."""
    assert len(TRAPS) == 42


@pytest.mark.parametrize("trap", TRAPS)
def test_trap_has_its_tests(trap: str) -> None:
    """Each test that is named for a trap exists."""
    assert TRAPS[trap]
    assert not missing(TRAPS[trap])
