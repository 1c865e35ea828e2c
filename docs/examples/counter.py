"""From a counter to coroutines: each step of generators, where it leads today."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from typing import Any

from aioconc.generators import delegate, drive, primed, safe_stream


@safe_stream
async def counter(stop: int) -> AsyncIterator[int]:  # an iterator: `async for`, and left in order
    for number in range(stop):
        await asyncio.sleep(0)
        yield number


@primed
def average() -> Generator[float, float, float]:  # a consumer: `send`, and what it returns
    total, count = 0.0, 0
    while True:
        try:
            total += yield total / max(count, 1)
        except ZeroDivisionError:  # what was thrown into it starts it again
            total, count = 0.0, -1
        count += 1


async def echo() -> AsyncGenerator[str, str]:
    heard = yield "ready"
    while heard != "stop":
        heard = yield heard.upper()


async def conversation() -> AsyncGenerator[str, str]:  # `yield from`, for async generators
    for _ in range(2):
        async with delegate(echo()) as steps:
            async for step in steps:
                with step:
                    step.sent = yield step.value


def old_style() -> Generator[Any, Any, str]:  # a coroutine of before `async def`: awaits by `yield`
    yield asyncio.sleep(0.01)
    return "the result of a generator"


async def main() -> None:
    async with counter(10) as numbers:
        print([number async for number in numbers if number % 3 == 0])
    mean = average()
    print([mean.send(10.0), mean.send(20.0), mean.throw(ZeroDivisionError), mean.send(4.0)])
    talk = conversation()
    print([await talk.asend(said) for said in (None, "hello", "stop", "again")])  # type: ignore[arg-type]
    await talk.aclose()
    print(await drive(old_style()))


if __name__ == "__main__":
    asyncio.run(main())
