"""A time limit for what waits, for what computes, and for a reader that yields."""

import asyncio

from aioconc import fail_after, move_on_after, offload_cpu


def compute() -> None:
    while True:
        pass


async def main() -> None:
    try:
        with fail_after(0.1):
            await asyncio.sleep(60)
    except TimeoutError:
        print("waited too long")

    # A computation is ended in its process: the loop goes on meanwhile, also in its worst moment.
    try:
        await offload_cpu.options(timeout=0.1)(compute)
    except TimeoutError:
        print("computed too long, and was stopped")

    # Limits nest, and belong to their blocks: the inner one does not put the outer one off.
    with move_on_after(0.1) as outer, move_on_after(60):
        await asyncio.sleep(60)
    print("the outer limit held:", outer.cancelled_caught)


if __name__ == "__main__":
    asyncio.run(main())
