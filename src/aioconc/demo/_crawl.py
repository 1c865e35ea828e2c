"""The crawl: fetch pages, read them in other processes, index them, follow their links.

Everything that makes a crawler hard is a word in one of the two `map_limited` below: how many at
once, how many for each host, how fast, how often again, what a failure does. Memory follows those
limits and not the number of pages. Made to be copied.
"""

from asyncio import timeout
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import aiohttp

from aioconc import RateLimiter, backoff, map_limited, offload_cpu, offload_io
from aioconc.demo._body import read_text
from aioconc.demo._frontier import Frontier
from aioconc.demo._journal import Journal, PageError, host_of
from aioconc.demo._parse import Page, parse


@dataclass(frozen=True, slots=True)
class Manners:
    """How hard a crawl may press the hosts, and how long it bears with them."""

    limit: int = 24
    limit_per_host: int = 8
    requests_per_second: float = 200.0
    burst: int = 20
    fetch_timeout: float = 10.0
    parse_timeout: float = 3.0
    most_bytes: int = 10_000_000  # of one page


class Store(Protocol):
    """Where pages go, by a call that may block: `Index` is one."""

    def add(self, page: Page, /) -> str: ...


class Download(NamedTuple):
    url: str
    html: str


async def crawl(
    session: aiohttp.ClientSession,
    frontier: Frontier,
    index: Store,
    journal: Journal,
    *,
    manners: Manners = Manners(),
    parse: Callable[[str, str], Page] = parse,
) -> None:
    """Visit every page of the frontier and all that they lead to."""
    limiters: defaultdict[str, RateLimiter] = defaultdict(
        lambda: RateLimiter(manners.requests_per_second, burst=manners.burst)
    )
    cpu = offload_cpu.options(timeout=manners.parse_timeout, on_cancel=_strictest())

    async def fetch(url: str) -> Download:
        with journal.span(url, "fetch"):
            async with timeout(manners.fetch_timeout), session.get(url) as response:
                if response.status == 429:
                    limiters[host_of(url)].pause(float(response.headers.get("Retry-After", 1)))
                response.raise_for_status()
                return Download(url, await read_text(response, manners.most_bytes))

    async def read(download: Download | Exception) -> Page:
        if isinstance(download, Exception):
            raise download  # could not be fetched: let the error follow the pages
        url, html = download
        with journal.span(url, "parse"):
            page = await cpu(parse, url, html)  # a parser that dies or hangs costs this page
        with journal.span(url, "index"):
            journal.threads.add(await offload_io(index.add, page))
        return page

    async with (
        map_limited(
            fetch,
            frontier,
            limit=manners.limit,
            ordered=False,
            on_error="return",
            retry=backoff(5, on=_is_temporary),
            key=host_of,
            limit_per_key=manners.limit_per_host,
            rate=lambda host: limiters[host],
        ) as downloads,
        map_limited(
            read,
            downloads,
            limit=2 * offload_cpu.executor.max_workers,
            ordered=False,
            on_error="return",
        ) as pages,
    ):
        async for page in pages:
            if isinstance(page, Page):
                frontier.add(page.links)
                journal.read(page)
            elif isinstance(page, PageError):
                journal.gave_up(page)
            else:
                raise page
            frontier.done()


def _is_temporary(error: Exception) -> bool:
    """Whether asking the server again may help."""
    match error:
        case PageError(reason=aiohttp.ClientResponseError(status=status)):
            return status == 429 or status >= 500
        case PageError(reason=aiohttp.ClientError() | TimeoutError()):
            return True
        case _:
            return False


def _strictest() -> Literal["kill", "abandon"]:
    """What to do to a parser that takes too long: kill it, where the executor can do that."""
    return "kill" if offload_cpu.executor.capabilities.kill else "abandon"
