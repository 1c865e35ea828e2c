"""The web server that the demo crawls: its own process, loopback only, several virtual hosts.

Runs as `python -m aioconc.demo._server`, reads one `Plan` as JSON from its standard input and
prints its port. It answers with seeded delays and the planned faults, and ends when its standard
input ends, so that it cannot outlive the program that started it.
"""

import asyncio
import html
import json
import random
import sys
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiohttp import web

from aioconc.demo._faults import RETRY_AFTER, RUN_HEADER, SLOW_SECONDS, Fault, Kind, mark

INDEX_GROUPS = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """What to serve: files below `root`, the host of each, and what goes wrong.

    `pages` maps the path of a page to its virtual host. `delay` is the range of seconds that an
    answer takes. Without `index` the server makes an index page at `/` of the first host.
    """

    root: str
    pages: dict[str, str]
    faults: tuple[Fault, ...] = ()
    seed: int = 0
    delay: tuple[float, float] = (0.02, 0.08)
    hosts: tuple[str, ...] = field(default=("docs.localhost", "mirror.localhost"))

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        raw: dict[str, Any] = json.loads(text)
        raw["faults"] = tuple(Fault(Kind(each["kind"]), each["page"]) for each in raw["faults"])
        raw["delay"] = tuple(raw["delay"])
        raw["hosts"] = tuple(raw["hosts"])
        return cls(**raw)


class Site:
    """Answers requests as the plan says."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._faults = {fault.page: fault.kind for fault in plan.faults}
        self._asked: Counter[tuple[str, str]] = Counter()
        self._busy_until: dict[str, float] = {}
        self.port = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        run = request.headers.get(RUN_HEADER, "")
        path = request.path.removeprefix("/")
        host = request.host.partition(":")[0]
        page = self._page(host, path)
        await asyncio.sleep(self._delay(host, path, run))
        if page is None:
            raise web.HTTPNotFound(text="no such page\n")
        kind = None if run == "none" else self._faults.get(path)
        if kind is None:
            return web.Response(text=page, content_type="text/html")
        return await self._misbehave(kind, request, run, path, page)

    async def _misbehave(
        self, kind: Kind, request: web.Request, run: str, path: str, page: str
    ) -> web.StreamResponse:
        self._asked[run, path] += 1
        asked = self._asked[run, path]
        if kind is Kind.BROKEN or (kind is Kind.FLAKY and asked <= 2):
            return web.Response(status=500, text="the server has a fault\n")
        if kind is Kind.THROTTLED:
            now = asyncio.get_running_loop().time()
            if now < self._busy_until.setdefault(run, now + RETRY_AFTER):
                return web.Response(status=429, headers={"Retry-After": str(RETRY_AFTER)})
        if kind is Kind.RESET and asked == 1:
            return await _break_off(request, page)
        if kind in (Kind.CRASH, Kind.HANG, Kind.UNPICKLABLE):
            page = mark(page, kind)
        return web.Response(text=page, content_type="text/html")

    def _delay(self, host: str, path: str, run: str) -> float:
        if self._faults.get(path) is Kind.SLOW and run != "none":
            return SLOW_SECONDS
        low, high = self._plan.delay
        return random.Random(f"{self._plan.seed} {host} {path}").uniform(low, high)

    # -- pages --------------------------------------------------------------------------------

    def _page(self, host: str, path: str) -> str | None:
        if host == self._plan.hosts[0]:
            if path in ("", "index.html") and path not in self._plan.pages:
                return self._index()
            if path.startswith("index-"):
                return self._group(path)
        if self._plan.pages.get(path) != host:
            return None
        file = Path(self._plan.root, path)
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        return self._point_to_hosts(text) if len(self._plan.hosts) > 1 else text

    def _point_to_hosts(self, text: str) -> str:
        """Links to pages of other hosts name the host; those to pages not served lead nowhere."""
        pieces = text.split('<a href="')
        for at, piece in enumerate(pieces[1:], start=1):
            target, quote_sign, rest = piece.partition('"')
            page, hash_sign, place = target.partition("#")
            host = self._plan.pages.get(page)
            if page == ".":
                target = f"http://{self._plan.hosts[0]}:{self.port}/"
            elif host is not None:
                target = f"http://{host}:{self.port}/{page}{hash_sign}{place}"
            elif page.endswith(".html") and "/" not in page:
                target = "#"
            pieces[at] = f"{target}{quote_sign}{rest}"
        return '<a href="'.join(pieces)

    def _index(self) -> str:
        links = "\n".join(
            f'<li><a href="/index-{group}.html">Part {group + 1}</a>'
            for group in range(INDEX_GROUPS)
        )
        return f"<!DOCTYPE html><head><title>Index</title></head><h1>Index</h1><ul>{links}</ul>"

    def _group(self, path: str) -> str | None:
        number = path.removeprefix("index-").removesuffix(".html")
        if not number.isdecimal() or int(number) >= INDEX_GROUPS:
            return None
        links = "\n".join(
            f'<li><a href="http://{host}:{self.port}/{quote(page)}">{html.escape(page)}</a>'
            for page, host in sorted(self._plan.pages.items())[int(number) :: INDEX_GROUPS]
        )
        title = f"Index, part {int(number) + 1}"
        return f"<!DOCTYPE html><head><title>{title}</title></head><h1>{title}</h1><ul>{links}</ul>"


async def _break_off(request: web.Request, page: str) -> web.StreamResponse:
    """Send half the page, then reset the connection."""
    body = page.encode()
    response = web.StreamResponse(headers={"Content-Type": "text/html; charset=utf-8"})
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    transport = request.transport
    if transport is not None:
        transport.abort()
    return response


async def serve(plan: Plan) -> None:
    """Answer until standard input ends."""
    site = Site(plan)
    app = web.Application()
    app.router.add_get("/{path:.*}", site.answer)
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        listener = web.TCPSite(runner, "127.0.0.1", 0)
        await listener.start()
        site.port = runner.addresses[0][1]
        print(site.port, flush=True)
        await _end_of_input()
    finally:
        await runner.cleanup()


async def _end_of_input() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    try:
        await reader.read()
    finally:
        transport.close()


if __name__ == "__main__":
    asyncio.run(serve(Plan.from_json(sys.stdin.readline())))
