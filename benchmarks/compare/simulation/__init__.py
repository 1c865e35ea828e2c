"""Run asyncio programs on an event loop that chooses their order, or on a clock that jumps.

Three questions, each with answers that do the same work. `SCHEDULES`: `fn(body, count)` runs the
body that often, under another order each time where it can, and returns how often it ran. `LOOPS`:
`fn()` makes an event loop that the same tasks run on. `SLEEPS`: `fn(count)` sleeps so many times at
once, for 0 to 199 virtual seconds each, and returns how many of those have passed. looptime is used
by its own loop: importing it patches nothing (its pytest plugin does).
"""

BASE = "asyncio, its own order"
OURS = "aioconc"

SCHEDULES = {
    BASE: "asyncio_loop:runs",
    "aioconc explore": "aioconc_loop:explores",
    "simloop explore": "simloop_loop:explores",
}
"""Many runs of a small program: name in the tables -> where the answer is."""

LOOPS = {
    BASE: "asyncio_loop:stock",
    "aioconc, virtual time only": "aioconc_loop:virtual",
    "aioconc, usual order": "aioconc_loop:usual",
    "aioconc, three demotions": "aioconc_loop:demotions",
    "aioconc, random": "aioconc_loop:uniform",
    "aioconc, random priorities": "aioconc_loop:priorities",
    "looptime, virtual time only": "looptime_loop:virtual",
    "simloop, random": "simloop_loop:uniform",
}
"""A loop with many tasks ready."""

SLEEPS = {
    "aioconc run": "aioconc_loop:sleeps",
    "trio MockClock": "trio_clock:sleeps",
    "looptime": "looptime_loop:sleeps",
    "simloop": "simloop_loop:sleeps",
}
"""Sleeps that take no time."""

SLEEPS_BASE = "aioconc run"
VIRTUAL_SECONDS = 199


def seconds_of(number: int) -> int:
    """How long the sleep of that number lasts: so that the longest lasts `VIRTUAL_SECONDS`."""
    return number % (VIRTUAL_SECONDS + 1)
