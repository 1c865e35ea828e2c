"""SQLAlchemy's own bridge, of which that of aioconc is a relative."""

from sqlalchemy.util import await_only, greenlet_spawn


async def one() -> int:
    return 1


def _add(count: int) -> int:
    total = 0
    for _ in range(count):
        total += await_only(one())
    return total


async def awaits(count: int) -> int:
    return await greenlet_spawn(_add, count)
