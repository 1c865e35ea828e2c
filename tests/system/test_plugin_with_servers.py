"""The pytest plugin in this project's own suite, beside loops of its own, with a real server."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from aioconc import backoff, map_limited
from aioconc.testing import WaitGraph, settle

pytest.importorskip("aiohttp")

from aiohttp import ClientResponseError, ClientSession, ClientTimeout, web

HOUR = 3600.0


class Site:
    """A server that fails, stalls, and counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.url = ""
        self.closing = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(asyncio.get_running_loop().time())
        if len(self.asked) < 3:
            raise web.HTTPServiceUnavailable
        return web.Response(text="page")

    async def stall(self, request: web.Request) -> web.Response:
        # aiohttp lets a handler go on whose client has gone, so it has to be told.
        await asyncio.wait_for(self.closing.wait(), HOUR)
        return web.Response(text="late")


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    app = web.Application()
    app.router.add_get("/page", site.answer)
    app.router.add_get("/stall", site.stall)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        tcp = web.TCPSite(runner, "127.0.0.1", 0)
        await tcp.start()
        host, port = runner.addresses[0][:2]
        site.url = f"http://{host}:{port}"
        yield site
    finally:
        site.closing.set()
        await settle()
        await runner.cleanup()


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ClientSession(timeout=ClientTimeout(total=60)) as session:
        yield session


@pytest.mark.aioconc(leaks=False)  # connections are kept alive, as they should be
async def test_retries_against_a_real_server_take_no_time(
    site: Site, session: ClientSession, clock: Any
) -> None:
    """Back-off of half a minute passes at once, and no time-out of the client fires meanwhile."""

    async def page(path: str) -> str:
        async with session.get(f"{site.url}/{path}") as response:
            response.raise_for_status()
            return await response.text()

    began = clock.now
    retry = backoff(5, on=ClientResponseError, base=30, max=60, jitter=False)
    assert await map_limited(page, ["page"], limit=1, retry=retry) == ["page"]
    first, second, third = site.asked
    assert second - first >= 30
    assert third - second >= 30
    assert clock.now - began < HOUR


@pytest.mark.aioconc(leaks=False)
async def test_time_out_of_the_client_fires_in_virtual_time(
    site: Site, session: ClientSession
) -> None:
    """A server that stalls for an hour meets the client's limit of a minute, at once."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(TimeoutError):
        await session.get(f"{site.url}/stall")
    assert 59 < loop.time() - began < 61


@pytest.mark.aioconc
async def test_runs_once_here_too(
    request: pytest.FixtureRequest, wait_graph: Callable[[], WaitGraph]
) -> None:
    """Where a project offers loops of its own, a marked test runs once and keeps its id."""
    assert request.node.name == "test_runs_once_here_too"
    task = asyncio.create_task(asyncio.sleep(HOUR), name="sleeper")
    await settle()
    assert "sleeper" in str(wait_graph())
    await task
