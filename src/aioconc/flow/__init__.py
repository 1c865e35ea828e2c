"""Many items, a bounded number at once: gather, map, race, and the policies around them."""

from aioconc._internal._public import publish
from aioconc.flow._backoff import RetryBudget, RetryHook, backoff
from aioconc.flow._gather import gather_limited
from aioconc.flow._map import MapRun, map_limited
from aioconc.flow._progress import Progress, ProgressEvent
from aioconc.flow._race import race
from aioconc.flow._rate_limiter import RateLimiter

__all__ = [
    "MapRun",
    "Progress",
    "ProgressEvent",
    "RateLimiter",
    "RetryBudget",
    "RetryHook",
    "backoff",
    "gather_limited",
    "map_limited",
    "race",
]

publish(globals())
