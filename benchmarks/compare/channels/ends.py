"""Ends of what blocks: one for each process, and what the other process does with its own."""

import time
from collections.abc import Callable, Iterable
from typing import Any

SMALL = {"id": 7, "name": "reading", "value": 1.5}


class BlockingEnd:
    """Calls that block, for the other process; and for this one, which has nothing else to do."""

    def __init__(self, put: Callable[[Any], Any], get: Callable[[], Any]) -> None:
        self.send = put
        self.receive = get

    def send_many(self, items: Iterable[Any]) -> None:
        for item in items:
            self.send(item)

    def receive_many(self, most: int) -> list[Any]:
        return [self.receive()]

    def close(self) -> None:
        pass


class AwaitedEnd:
    """The same calls with `async` in front."""

    def __init__(self, end: Any) -> None:
        self.end = end

    async def send(self, item: Any) -> None:
        self.end.send(item)

    async def receive(self) -> Any:
        return self.end.receive()

    async def receive_many(self, most: int) -> list[Any]:
        return self.end.receive_many(most)  # type: ignore[no-any-return]

    async def close(self) -> None:
        self.end.close()


def arrays(count: int) -> Iterable[Any]:
    import numpy as np

    array = np.ones(1_000_000)
    return (array for _ in range(count))


def serve(unwrap: Callable[[Any], Any], end: Any, commands: Any) -> None:
    """In the other process: what is asked, until nothing is."""
    end = unwrap(end)
    for question, count in iter(commands.recv, None):
        before = time.process_time()
        if question == "one by one":
            for _ in range(count):
                end.send(SMALL)
        elif question == "batches":
            end.send_many(SMALL for _ in range(count))
        elif question == "8 MB arrays":
            for each in arrays(count):
                end.send(each)
        else:
            for _ in range(count):
                end.send(end.receive())
        commands.send(time.process_time() - before)
    end.close()
