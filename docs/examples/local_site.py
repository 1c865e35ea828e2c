"""A web site on this machine, for the downloads: pages of ten thousand bytes, after a short wait."""

import asyncio
import sys

from aiohttp import web


async def page(request: web.Request) -> web.Response:
    await asyncio.sleep(0.02)  # stands for the way there and back
    number = int(request.match_info["number"])
    return web.Response(text=f"page {number} ".ljust(10_000, "."))


async def main() -> None:
    app = web.Application()
    app.router.add_get("/{number}", page)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)  # until whoever started it goes
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
