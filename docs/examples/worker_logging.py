"""Workers log as anybody does, and the parent's handlers get the records."""

import asyncio
import logging

from aioconc import ProcessExecutor


def parse(page: str) -> int:
    import logging

    log = logging.getLogger("shop.parser")
    log.info("parsing %d characters", len(page))
    if "price" not in page:
        log.warning("no price in %r", page)
    return len(page)


async def main() -> None:
    async with ProcessExecutor(2) as pool:
        print(await pool.map(parse, ["price: 3", "sold out"]))


if __name__ == "__main__":
    text = "%(levelname)s %(name)s [%(worker_call)s] %(message)s"
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(text, defaults={"worker_call": "here"}))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    asyncio.run(main())
