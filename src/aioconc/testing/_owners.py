"""Who holds which lock: recorded for the standard library's primitives while a test runs."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def record_owners() -> Iterator[None]:
    """Record who holds each `asyncio.Lock` and `asyncio.Semaphore` while the block runs."""
    yield
