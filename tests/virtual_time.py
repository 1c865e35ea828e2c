"""`asyncio.run(main)` in virtual time, for tests that have a coroutine at hand."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from aioconc.testing import loop_factory

T = TypeVar("T")


def run_virtual(main: Coroutine[Any, Any, T], *, start: float = 0.0) -> T:
    """The result of `main`; the clock begins at `start`."""
    with asyncio.Runner(loop_factory=loop_factory(start=start)) as runner:
        return runner.run(main)
