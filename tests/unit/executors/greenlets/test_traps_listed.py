"""Where each known trap of greenlets under asyncio is tested; a test that is lost is missed."""

import ast
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BRIDGE = "test_greenlet.py"
HUB = "test_gevent.py"
MODEL = "../../../properties/test_greenlets.py"

# Trap -> file and the name of a test after `test_`.
LISTED: dict[str, list[tuple[str, str]]] = {
    "a cancel while the greenlet waits does not reach it": [
        (BRIDGE, "a_cancel_is_raised_at_the_await"),
        (BRIDGE, "it_may_be_cancelled_anywhere"),
        (MODEL, "plain_code_does_what_async_code_does"),
    ],
    "nested runs return to the wrong greenlet": [
        (BRIDGE, "calls_can_be_nested"),
        (BRIDGE, "a_task_made_inside_outlives_its_maker"),
    ],
    "context variables are those of another context": [
        (BRIDGE, "task_and_context_are_those_of_the_caller"),
    ],
    "an unfinished greenlet is collected by another thread": [
        (BRIDGE, "garbage_collected_by_another_thread_ends_in_its_own"),
        (BRIDGE, "closing_the_coroutine_unwinds_the_greenlet"),
    ],
    "awaiting outside, or from a foreign thread": [
        (BRIDGE, "outside_it_says_so_and_closes_the_coroutine"),
        (BRIDGE, "a_coroutine_resumed_by_another_thread_is_refused"),
    ],
    "a kill strikes whoever runs in the greenlet by then": [
        (HUB, "a_late_kill_strikes_no_other_call"),
        (HUB, "a_storm_of_cancels_leaves_nothing"),
    ],
    "greenlets of one thread share what is kept for each thread": [
        (HUB, "each_greenlet_has_a_call_of_its_own"),
    ],
    "waiting for the loop stops the hub": [
        (HUB, "what_waits_for_the_loop_lets_the_other_greenlets_run"),
    ],
    "the process is patched": [(HUB, "it_is_refused_where_gevent_has_replaced_threads")],
}


@pytest.mark.parametrize("trap", LISTED)
def test_trap_has_its_tests(trap: str) -> None:
    """Each test that is named for a trap exists."""
    missing = []
    for file, name in LISTED[trap]:
        tree = ast.parse((HERE / file).read_text())
        names = {getattr(node, "name", "") for node in ast.walk(tree)}
        missing += [f"{file}::test_{name}"] if f"test_{name}" not in names else []
    assert not missing
