"""Where each known trap of servers is tested; a test that is renamed or lost is missed."""

import pytest

from tests.trap_lists import missing

SERVE = "unit/servers/test_serve_tcp.py"
DRAIN = "unit/servers/test_drain.py"
LIMITS = "unit/servers/test_time_limits.py"
TLS = "unit/servers/test_tls.py"
BLOCKING = "unit/servers/test_blocking.py"
CALL = "unit/servers/test_prefork_call.py"
TCP = "system/test_serve_tcp.py"
PREFORK = "system/test_serve_prefork.py"

# Trap -> file and the name of a test after `test_`.
LISTED: dict[str, list[tuple[str, str]]] = {
    "the limit is looked at after a connection was accepted": [
        (SERVE, "who_comes_above_the_limit_waits_in_the_kernel"),
        (BLOCKING, "no_more_connections_than_the_limit_are_taken"),
    ],
    "a handler that crashes takes others along": [
        (SERVE, "a_failing_handler_costs_its_connection_alone"),
        (BLOCKING, "a_failing_handler_costs_its_connection_alone"),
        (BLOCKING, "a_worker_process_that_dies_costs_its_connection_alone"),
        (TCP, "a_handler_that_exits_ends_the_program"),
    ],
    "without a free descriptor the acceptor spins, or ends": [
        (TCP, "a_shortage_of_descriptors_is_waited_out"),
        (SERVE, "a_socket_that_becomes_unusable_ends_the_server"),
    ],
    "idle, slow and active clients hold up the end": [
        (DRAIN, "all_are_gone_by_the_deadline_idle_slow_and_active"),
        (DRAIN, "a_wait_for_the_next_request_ends_when_it_drains"),
        (DRAIN, "a_handler_that_will_not_end_loses_its_connection_and_is_waited_for"),
        (TCP, "sigterm_ends_idle_slow_and_active_clients_by_the_deadline"),
        (PREFORK, "a_worker_that_will_not_end_is_killed_after_the_drain"),
    ],
    "the queue of the listening socket is reset at the end": [
        (DRAIN, "connections_that_have_queued_are_served_at_the_end"),
        (DRAIN, "the_queue_of_an_inherited_socket_is_left_as_it_is"),
        (CALL, "sockets_of_the_caller_stay_open"),
        (PREFORK, "sigterm_under_load_drains_without_a_failed_request"),
        (PREFORK, "sighup_under_load_replaces_the_workers_without_a_failed_request"),
    ],
    "a client that dribbles holds a connection for ever": [
        (LIMITS, "a_client_that_sends_nothing_is_gone_after_the_idle_timeout"),
        (LIMITS, "a_client_that_reads_nothing_is_gone_after_the_idle_timeout"),
        (LIMITS, "a_client_that_dribbles_is_gone_after_the_timeout"),
    ],
    "a TLS handshake holds up the acceptor": [
        (TLS, "a_handshake_holds_up_nobody_else_and_ends_by_its_deadline"),
    ],
    "SIGINT reaches the whole foreground group": [
        (PREFORK, "ctrl_c_reaches_the_supervisor_alone"),
        (PREFORK, "ctrl_c_at_a_terminal_drains"),
    ],
    "a second signal is lost": [
        (PREFORK, "a_second_signal_does_not_wait_for_the_drain"),
        (DRAIN, "a_second_cancellation_cuts_the_drain_short"),
    ],
    "handlers of signals are not put back": [
        (CALL, "handlers_are_put_back_and_nothing_is_left"),
    ],
    "workers outlive their supervisor": [
        (PREFORK, "no_worker_outlives_a_supervisor_that_is_killed"),
        (CALL, "an_on_ready_that_exits_leaves_no_worker"),
    ],
    "workers that cannot start are started for ever": [
        (PREFORK, "a_crash_loop_ends_with_a_clear_error"),
        (PREFORK, "a_reload_that_fails_leaves_the_workers_that_serve"),
    ],
}


@pytest.mark.parametrize("trap", LISTED)
def test_trap_has_its_tests(trap: str) -> None:
    """Each test that is named for a trap exists."""
    assert LISTED[trap]
    assert not missing(LISTED[trap])
