"""What is acquired and released has a `with`: for tasks, and for threads on the blocking face.

Left to each primitive: what there is to hold, and who may have it.
"""

from types import TracebackType
from typing import Any

from aioconc.sync._wait_queue import check_blocking


class Held:
    """A primitive that a task holds for a block."""

    __slots__ = ()

    async def acquire(self) -> Any:
        """Wait for it and take it."""
        raise NotImplementedError

    def release(self) -> None:
        """Give it back."""
        raise NotImplementedError

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


class SyncHeld:
    """The blocking face of such a primitive: a thread holds it for a block."""

    # What a program nearly always calls one, for the line to write instead.
    _called = "lock"

    __slots__ = ("_held",)

    def __init__(self, held: Any) -> None:
        self._held = held

    def acquire(self, *, timeout: float | None = None) -> bool:
        """Block until it is taken."""
        raise NotImplementedError

    def release(self) -> None:
        """As `release` of the primitive."""
        self._held.release()

    def __enter__(self) -> None:
        check_blocking(f"with {type(self._held).__name__}.sync", f"async with {self._called}")
        self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._held.release()

    def __repr__(self) -> str:
        return f"{self._held!r}.sync"
