"""How to behave at other people's web sites: obey robots.txt, ask once a second, say who asks.

Used when the demo crawls a web site that is not its own. Only pages of the site where the crawl
began are visited.
"""

from typing import Self
from urllib.parse import urljoin, urlsplit
from urllib.robotparser import RobotFileParser

import aiohttp

from aioconc import __version__
from aioconc.demo._body import read_start

USER_AGENT = f"aioconc-demo/{__version__}"
ONE_PER_SECOND = 1.0
_MOST_RULES = 500 * 1024  # bytes


class Robots:
    """What the robots.txt of one site allows."""

    def __init__(self, start: str, lines: list[str]) -> None:
        self._site = _site(start)
        self._rules = RobotFileParser()
        self._rules.parse(lines)

    @classmethod
    async def of(cls, session: aiohttp.ClientSession, start: str) -> Self:
        """Ask the site of `start`. None there means that all is allowed (RFC 9309, 2.3.1.3);
        a server that fails means that nothing is (2.3.1.4).
        """
        async with session.get(urljoin(start, "/robots.txt")) as response:
            if response.status >= 500:
                return cls(start, ["User-agent: *", "Disallow: /"])
            if response.status != 200:
                return cls(start, [])
            # The rest of a longer one may be ignored (RFC 9309, 2.5).
            body, _ = await read_start(response, _MOST_RULES)
            return cls(start, body.decode(errors="replace").splitlines())

    def allows(self, url: str) -> bool:
        """Whether to visit `url`: a page of this site that its rules do not forbid."""
        return _site(url) == self._site and self._rules.can_fetch(USER_AGENT, url)

    @property
    def requests_per_second(self) -> float:
        """As fast as the site lets anybody ask."""
        delay = self._rules.crawl_delay(USER_AGENT)
        if delay is not None and float(delay) > 0:
            return 1 / float(delay)
        rate = self._rules.request_rate(USER_AGENT)
        if rate is not None and rate.seconds:
            return rate.requests / rate.seconds
        return ONE_PER_SECOND


def _site(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc
