"""Check, then act: what was true when it was looked at is not when it is used."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from tests.testing.gallery.bugs import Program, check_bug, check_fix, steps


class Client:
    """Connects when it is first used."""

    def __init__(self) -> None:
        self.connections = 0
        self.connected = False
        self.lock = asyncio.Lock()

    async def connect(self) -> None:
        self.connections += 1
        await steps(1)
        self.connected = True


async def checked_once(client: Client) -> None:
    if not client.connected:
        async with client.lock:
            await client.connect()  # perhaps somebody has while we waited for the lock


async def checked_twice(client: Client) -> None:
    if not client.connected:
        async with client.lock:
            if not client.connected:
                await client.connect()


def two_users(use: Callable[[Client], Coroutine[Any, Any, None]]) -> Program:
    async def main() -> None:
        client = Client()

        async def user(late: int) -> None:
            await steps(late)
            await use(client)

        await asyncio.gather(user(0), user(5))
        assert client.connections == 1

    return main


async def looked_up_twice(cache: dict[str, int], key: str) -> int:
    if key not in cache:
        cache[key] = len(key)
    await steps(1)  # counts the hit somewhere
    return cache[key]  # perhaps it was dropped meanwhile


async def looked_up_once(cache: dict[str, int], key: str) -> int:
    value = cache.get(key)
    if value is None:
        value = cache[key] = len(key)
    await steps(1)
    return value


def cache_that_is_cleaned(get: Callable[[dict[str, int], str], Any]) -> Program:
    async def main() -> None:
        cache: dict[str, int] = {}

        async def clean() -> None:
            await steps(4)
            cache.clear()

        found, _ = await asyncio.gather(get(cache, "key"), clean())
        assert found == 3

    return main


async def write_skew() -> None:
    on_call = {"ann", "bob"}

    async def leave(name: str, late: int) -> None:
        await steps(late)
        if len(on_call) > 1:  # each sees the other
            await steps(1)
            on_call.discard(name)

    await asyncio.gather(leave("ann", 0), leave("bob", 4))
    assert on_call


async def no_skew() -> None:
    on_call = {"ann", "bob"}
    lock = asyncio.Lock()

    async def leave(name: str, late: int) -> None:
        await steps(late)
        async with lock:
            if len(on_call) > 1:
                await steps(1)
                on_call.discard(name)

    await asyncio.gather(leave("ann", 0), leave("bob", 4))
    assert on_call


def test_initialisation_that_is_not_checked_again_is_found() -> None:
    """Both see that there is no connection, and make one each."""
    check_bug(two_users(checked_once), schedule="d2", within=10, raises=AssertionError)


def test_initialisation_checked_again_under_the_lock_holds() -> None:
    """Who waited for the lock looks again."""
    check_fix(two_users(checked_twice))


def test_a_key_dropped_between_check_and_use_is_found() -> None:
    """The second look finds nothing."""
    check_bug(cache_that_is_cleaned(looked_up_twice), schedule="d2", within=10, raises=KeyError)


def test_a_key_looked_up_once_holds() -> None:
    """What was found is kept in a local."""
    check_fix(cache_that_is_cleaned(looked_up_once))


def test_write_skew_is_found() -> None:
    """Each writes what the other's check did not see; neither overwrites anything."""
    check_bug(write_skew, schedule="d2", within=10, raises=AssertionError)


def test_check_and_write_under_one_lock_hold() -> None:
    """One of them sees that it is the last."""
    check_fix(no_skew)
