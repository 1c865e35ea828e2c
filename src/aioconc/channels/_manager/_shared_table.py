"""What shared dicts and lists have in common: a change is a row of requests, and answers have pages.

It guarantees that pages which nobody wants any more are dropped by the broker. What is asked is
left to each.
"""

import asyncio
from collections.abc import Generator
from typing import Any, TypeVar

from aioconc.channels._manager._shared import Shared, SyncShared
from aioconc.channels._manager._tables import PAGED

T = TypeVar("T")

# What is asked, one after the other: the name of a request, and its arguments.
Steps = Generator[tuple[Any, ...], Any, T]


class SharedTable(Shared):
    """A shared object that is asked step by step."""

    __slots__ = ()

    async def _do(self, steps: Steps[T]) -> T:
        rest = None
        try:
            request = next(steps)
            while True:
                if request[0] == "more":
                    await asyncio.sleep(0)  # in the process of the manager, an answer is no wait
                answer = await self._call(*request)
                rest = answer[1] if request[0] in PAGED else None
                request = steps.send(answer)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        finally:
            if rest is not None:
                self._tell("forget", rest)


class SyncSharedTable(SyncShared):
    """The blocking face of one."""

    __slots__ = ()

    def _do(self, line: str, steps: Steps[T]) -> T:
        rest = None
        try:
            request = next(steps)
            while True:
                what, *args = request
                answer = self._call(what, line, *args)
                rest = answer[1] if what in PAGED else None
                request = steps.send(answer)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        finally:
            if rest is not None:
                self._shared._tell("forget", rest)
