"""One run of the demo from beginning to end: get the pages, crawl them, compare, keep what was done.

`Run` is filled while the run goes on, so that whoever interrupts it finds in it all that was done
so far. Drawing and writing reports are left to others, which read it.
"""

import asyncio
import os
import platform
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from aioconc import offload_io
from aioconc._internal import _hooks
from aioconc.demo._compare import Compared, compare
from aioconc.demo._crawl import Manners, crawl
from aioconc.demo._faults import Fault, parse_with_faults, plan_faults
from aioconc.demo._frontier import Frontier
from aioconc.demo._heartbeat import Heartbeat, heartbeat
from aioconc.demo._index import Index
from aioconc.demo._journal import Journal
from aioconc.demo._loopback import LoopbackResolver
from aioconc.demo._modules import choose_modules
from aioconc.demo._options import Options
from aioconc.demo._parse import parse
from aioconc.demo._politeness import ONE_PER_SECOND, USER_AGENT, Robots
from aioconc.demo._screen import Screen
from aioconc.demo._server import Plan
from aioconc.demo._site import page_folder, plan_folder, plan_site, render_site, serving
from aioconc.demo._verdicts import Verdict, judge


class CannotStart(Exception):
    """There is nothing to crawl, for the reason given."""


@dataclass
class Run:
    """What was asked for and what has been done so far."""

    options: Options
    journal: Journal = field(default_factory=Journal)
    heart: Heartbeat = field(default_factory=Heartbeat)
    faults: tuple[Fault, ...] = ()
    urls: dict[str, str] = field(default_factory=dict)  # page -> address, of the faulty ones
    seconds: dict[str, float] = field(default_factory=dict)  # phase -> how long it took
    rendered: int = 0
    compared: list[Compared] = field(default_factory=list)
    frontier: Frontier | None = None  # None until the crawl begins
    interrupted: bool = False
    pid: int = field(default_factory=os.getpid)

    @property
    def database(self) -> Path:
        return self.options.out / "index.sqlite"

    def verdicts(self) -> list[Verdict]:
        """What became of each fault so far."""
        return judge(self.faults, self.urls, self.journal)


async def run_demo(run: Run, screen: Screen) -> None:
    """Do all of it. An exception or a cancellation leaves in `run` what was done."""
    with _hear_fates(run.journal):
        async with _drawn(run, screen):
            await _do_all(run, screen)


async def _do_all(run: Run, screen: Screen) -> None:
    options = run.options
    if options.is_web:
        assert options.source is not None
        await _crawl_web(run, options.source, screen)
        return
    if options.source is not None:
        await _serve_and_crawl(run, plan_folder(Path(options.source)), screen)
        return
    with page_folder() as (folder, why_not_cached):
        if why_not_cached:
            screen.note(f"Pages are not kept for the next run: {why_not_cached}")
        await _serve_and_crawl(run, await _prepare(run, folder, screen), screen)


async def _serve_and_crawl(run: Run, plan: Plan, screen: Screen) -> None:
    async with serving(plan) as port:
        run.urls = {
            fault.page: f"http://{plan.pages[fault.page]}:{port}/{fault.page}"
            for fault in run.faults
        }
        await _crawl_site(run, plan, port, screen)
        if run.options.compare:
            await _compare(run, plan, port, screen)


async def _prepare(run: Run, folder: Path, screen: Screen) -> Plan:
    """The pages, made or found, and the plan of how they are served."""
    with _timed(run, "render"):
        screen.phase(f"Pages: the standard library of Python {platform.python_version()}")

        def told(done: int, total: int) -> None:
            run.rendered = total
            screen.progress(done, total, "pages rendered with offload_cpu")

        try:
            files = await render_site(choose_modules(run.options.pages), folder, told)
        except OSError as error:
            raise CannotStart(f"the pages cannot be written: {error}") from error
    run.faults = plan_faults(files, run.options.seed)
    screen.planned(run)
    return plan_site(folder, files, run.faults, run.options.seed)


async def _crawl_site(run: Run, plan: Plan, port: int, screen: Screen) -> None:
    hosts = set(plan.hosts)
    frontier = Frontier(
        [f"http://{plan.hosts[0]}:{port}/"],
        wanted=lambda url: urlsplit(url).hostname in hosts and urlsplit(url).port == port,
    )
    connector = aiohttp.TCPConnector(resolver=LoopbackResolver(), limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        await _watched_crawl(
            run,
            screen,
            session,
            frontier,
            manners=Manners(limit=run.options.limit),
            parse=parse_with_faults if run.faults else parse,
        )


async def _crawl_web(run: Run, start: str, screen: Screen) -> None:
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(
        headers={"User-Agent": USER_AGENT}, timeout=timeout
    ) as session:
        robots = await Robots.of(session, start)
        frontier = Frontier([start], most=run.options.pages, wanted=robots.allows)
        if not frontier.found:
            raise CannotStart(f"robots.txt of {urlsplit(start).netloc} does not allow {start}")
        await _watched_crawl(
            run,
            screen,
            session,
            frontier,
            manners=Manners(
                limit=1,
                limit_per_host=1,
                requests_per_second=min(ONE_PER_SECOND, robots.requests_per_second),
                burst=1,
                fetch_timeout=30,
                parse_timeout=30,
            ),
            parse=parse,
        )


async def _watched_crawl(
    run: Run, screen: Screen, session: aiohttp.ClientSession, frontier: Frontier, **how: Any
) -> None:
    """The crawl, with its loop's heartbeat measured and its progress shown."""
    index = await offload_io(Index, run.database)
    run.frontier = frontier
    try:
        screen.phase("Crawl")
        run.journal.started = time.monotonic()
        with _timed(run, "crawl"):
            try:
                async with heartbeat(run.heart):
                    await crawl(session, frontier, index, run.journal, **how)
            finally:
                run.journal.ended = time.monotonic()
                run.journal.found = frontier.found
                screen.draw(run)
    finally:
        index.close()


async def _compare(run: Run, plan: Plan, port: int, screen: Screen) -> None:
    screen.phase("Comparison: the same pages, other ways")
    with _timed(run, "compare"):
        async for result in compare(plan, port, quick=run.options.quick, told=screen.progress):
            run.compared.append(result)
            screen.compared(result)


@asynccontextmanager
async def _drawn(run: Run, screen: Screen) -> AsyncIterator[None]:
    """Redraw the screen while the block runs."""

    async def draw() -> None:
        while True:
            if run.frontier is not None:
                run.journal.found = run.frontier.found
            screen.draw(run)
            await asyncio.sleep(0.1)

    task = asyncio.create_task(draw(), name="screen")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))
        if not task.cancelled():
            task.result()  # it has failed: say so


class _timed:  # noqa: N801  # reads as a verb
    """Notes how long a phase took, also when it is interrupted."""

    def __init__(self, run: Run, phase: str) -> None:
        self._run = run
        self._phase = phase

    def __enter__(self) -> None:
        self._started = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._run.seconds[self._phase] = time.monotonic() - self._started


class _hear_fates:  # noqa: N801  # reads as a verb
    """Notes in the journal what became of calls that were given up."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def __enter__(self) -> None:
        self._end = _hooks.subscribe(self._hear)

    def _hear(self, event: str, fields: dict[str, Any]) -> None:
        if event == "call.cancelled":
            self._journal.fates.append(str(fields["fate"]))

    def __exit__(self, *_: object) -> None:
        self._end()


def versions() -> dict[str, str]:
    """What ran."""
    from aioconc import __version__

    return {
        "aioconc": __version__,
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "aiohttp": aiohttp.__version__,
        "system": platform.platform(terse=True),
    }
