"""An order that asyncio has never promised: of two tasks, the one started first runs first."""

import asyncio

from tests.testing.gallery.bugs import check_bug, check_fix


async def relies_on_the_order_of_start() -> None:
    settings: dict[str, str] = {}

    async def load() -> None:
        settings["host"] = "localhost"

    async def connect() -> str:
        return settings["host"]

    await asyncio.gather(load(), connect())


async def waits_for_what_it_needs() -> None:
    settings: dict[str, str] = {}
    loaded = asyncio.Event()

    async def load() -> None:
        settings["host"] = "localhost"
        loaded.set()

    async def connect() -> str:
        await loaded.wait()
        return settings["host"]

    await asyncio.gather(load(), connect())


def test_a_task_that_relies_on_being_started_second_is_found() -> None:
    """It runs first under the first schedule that may let it."""
    check_bug(relies_on_the_order_of_start, schedule="d0", within=10, raises=KeyError)


def test_a_task_that_waits_for_what_it_needs_holds() -> None:
    """Whichever runs first."""
    check_fix(waits_for_what_it_needs)
