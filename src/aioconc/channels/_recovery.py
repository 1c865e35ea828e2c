"""The block in which a lock is held to put right what it guards: of `recover()`.

Left to each lock: how it is taken from somebody who died.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import Protocol

from aioconc.errors import OwnerDied


class Recoverable(Protocol):
    """A lock whose last holder may have died."""

    async def _take(self, recover: bool) -> OwnerDied | None: ...

    def _block(self, recover: bool, timeout: float | None) -> tuple[bool, OwnerDied | None]: ...

    def _let_go(self, recovered: bool) -> None: ...


class Recovery(AbstractAsyncContextManager[OwnerDied | None]):
    """The block of `lock.recover()`."""

    __slots__ = ("_lock",)

    def __init__(self, lock: Recoverable) -> None:
        self._lock = lock

    async def __aenter__(self) -> OwnerDied | None:
        return await self._lock._take(True)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock._let_go(kind is None)


class SyncRecovery(AbstractContextManager[OwnerDied | None]):
    """The block of `lock.sync.recover()`.

    Args:
        lock: what is held.
        check: raises where this thread must not block.
    """

    __slots__ = ("_check", "_lock")

    def __init__(self, lock: Recoverable, check: Callable[[], object]) -> None:
        self._lock = lock
        self._check = check

    def __enter__(self) -> OwnerDied | None:
        self._check()
        return self._lock._block(True, None)[1]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock._let_go(kind is None)
