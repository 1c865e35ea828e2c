"""Downloads many pages at the same time, but never more than `limit`."""

import asyncio
import sys

import aiohttp

from aioconc import gather_limited


async def main(base: str, rounds: int, limit: int) -> None:
    async with aiohttp.ClientSession(raise_for_status=True) as session:

        async def size(url: str) -> int:
            async with session.get(url) as response:
                return len(await response.read())

        urls = (f"{base}/{number}" for number in range(rounds))
        sizes = await gather_limited((size(url) for url in urls), limit=limit)
    print(f"{len(sizes)} pages, {sum(sizes)} bytes")


if __name__ == "__main__":
    base, rounds, limit = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    asyncio.run(main(base, rounds, limit))
