"""Five ways to fetch and parse the same pages, each as a competent person would write it.

All catch and report the error of a page; only the last has more than that to offer. `tell` is
called with each page's address and None or its error. Compared with one another by the demo.
"""

import asyncio
import http.client
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from urllib.parse import urlsplit

from aioconc.demo._faults import RUN_HEADER, parse_with_faults

Tell = Callable[[str, BaseException | None], None]


class HttpError(Exception):
    """The server answered with an error."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def download(url: str, run: str) -> str:
    """Fetch a page of the demo's hosts, all of which are this machine."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=10)
    try:
        connection.request("GET", parts.path, headers={"Host": parts.netloc, RUN_HEADER: run})
        response = connection.getresponse()
        body = response.read()
        if response.status >= 400:
            raise HttpError(response.status)
        return body.decode()
    finally:
        connection.close()


def visit(url: str, run: str) -> str:
    """Fetch and parse one page; returns its title."""
    return parse_with_faults(url, download(url, run)).title


def sequential(urls: Sequence[str], run: str, tell: Tell) -> None:
    for url in urls:
        try:
            visit(url, run)
        except Exception as error:
            tell(url, error)
        else:
            tell(url, None)


def threads(urls: Sequence[str], run: str, tell: Tell) -> None:
    with ThreadPoolExecutor(32) as pool:
        futures = {pool.submit(visit, url, run): url for url in urls}
        for future in as_completed(futures):
            tell(futures[future], future.exception())


def processes(urls: Sequence[str], run: str, tell: Tell) -> None:
    with ProcessPoolExecutor() as pool:
        futures = {pool.submit(visit, url, run): url for url in urls}
        for future in as_completed(futures):
            tell(futures[future], future.exception())


async def asyncio_inline(urls: Sequence[str], run: str, tell: Tell, parse_timeout: float) -> None:
    """No time-out: nothing can end a call that holds the loop."""
    import aiohttp

    from aioconc.demo._loopback import LoopbackResolver

    semaphore = asyncio.Semaphore(24)
    connector = aiohttp.TCPConnector(resolver=LoopbackResolver())

    async with aiohttp.ClientSession(connector=connector, headers={RUN_HEADER: run}) as session:

        async def visit(url: str) -> None:
            try:
                async with semaphore, session.get(url) as response:
                    response.raise_for_status()
                    parse_with_faults(url, await response.text())
            except Exception as error:
                tell(url, error)
            else:
                tell(url, None)

        await asyncio.gather(*(visit(url) for url in urls))


async def with_aioconc(urls: Sequence[str], run: str, tell: Tell, parse_timeout: float) -> None:
    """The demo's own crawl, told not to follow links and to index nothing."""
    import aiohttp

    from aioconc.demo._crawl import Manners, crawl
    from aioconc.demo._frontier import Frontier
    from aioconc.demo._journal import Journal, PageError
    from aioconc.demo._loopback import LoopbackResolver
    from aioconc.demo._parse import Page

    class Telling(Journal):
        def read(self, page: Page) -> None:
            tell(page.url, None)

        def gave_up(self, error: PageError) -> None:
            tell(error.url, error.reason)

    class NoIndex:
        def add(self, page: Page) -> str:
            return page.title

    connector = aiohttp.TCPConnector(resolver=LoopbackResolver(), limit=0)
    async with aiohttp.ClientSession(connector=connector, headers={RUN_HEADER: run}) as session:
        await crawl(
            session,
            Frontier(urls, wanted=frozenset(urls).__contains__),
            NoIndex(),
            Telling(),
            manners=Manners(parse_timeout=parse_timeout),
            parse=parse_with_faults,
        )


SYNC = {"sequential": sequential, "32 threads": threads, "processes": processes}
ASYNC = {"asyncio, parsing inline": asyncio_inline, "aioconc": with_aioconc}
NAMES = (*SYNC, *ASYNC)
