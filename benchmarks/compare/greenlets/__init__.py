"""Greenlets: plain code that awaits, and single calls in a gevent hub beside the loop.

An answer for awaiting is `async (count) -> sum of the values`, which awaits a coroutine that gives 1
so many times from the middle of its code. One for calls is `async (fn, argument) -> result`.
"""

AWAIT_BASE = "await in an async function"
CALL_BASE = "asyncio.to_thread"

AWAIT_ANSWERS = {
    AWAIT_BASE: "plain_await:awaits",
    "aioconc await_ in greenlet_run": "aioconc_greenlets:awaits",
    "sqlalchemy await_only in greenlet_spawn": "sqlalchemy_greenlets:awaits",
    "offload_io and call_in_loop": "aioconc_greenlets:awaits_from_thread",
}
"""Awaiting in plain code: name in the tables -> where the answer is."""

CALL_ANSWERS = {
    CALL_BASE: "plain_await:in_thread",
    "aioconc ThreadExecutor.run": "aioconc_greenlets:in_thread",
    "aioconc GeventExecutor.run": "aioconc_gevent:in_greenlet",
}
"""One call: name in the tables -> where the answer is."""
