"""Generators under asyncio: driving, delegating, streaming safely, and pipelines of `send`.

For what loops over an async iterable one item at a time (`zip`, `enumerate`, `islice`, `chain`,
...) use `asyncstdlib` or `anyio.itertools`; for many items at once, `aioconc.map_limited`.
"""

from aioconc._internal._public import publish
from aioconc.generators._delegate import Delegation, Step, delegate
from aioconc.generators._drive import drive
from aioconc.generators._feed import feed
from aioconc.generators._into import into
from aioconc.generators._primed import primed
from aioconc.generators._safe_stream import safe_stream

__all__ = [
    "Delegation",
    "Step",
    "delegate",
    "drive",
    "feed",
    "into",
    "primed",
    "safe_stream",
]

publish(globals())
