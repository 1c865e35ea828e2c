"""Which item may start now: limits per key, rates, and retries that wait.

Stands between the source and the workers when a map has any of these. An item that may not start
yet is set aside without holding a slot, so items of other keys go on; at most `look_ahead` items
are set aside, then the source is read no further. Keys that have nothing left are forgotten.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any

from aioconc.flow._rate_limiter import RateLimiter

Job = tuple[int, Any]

# Set aside at least this many items before the source is read no further: a source is often sorted
# by host, and a look-ahead of a few times `limit` would see one host only.
LEAST_LOOK_AHEAD = 100


class _Key:
    """One key's state. An item of the key is in `held`, waits for a retry, is due, or runs."""

    __slots__ = ("gate", "held", "limiter", "retrying", "running", "value")

    def __init__(self, value: Hashable, limiter: RateLimiter | None) -> None:
        self.value = value
        self.limiter = limiter
        self.running = 0  # in the hands of workers, or due
        self.retrying = 0
        self.held: deque[Job] = deque()
        # Waits for the limiter on behalf of the first held item.
        self.gate: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        return not (self.running or self.retrying or self.held or self.gate)


# An item's way:   source -> admitted ------------------> a worker
#                        \-> held -> due -------------/      |
#                              ^--- waiting for retry <------/
class Admission:
    """Decides the order in which items start. One per map.

    Args:
        limit: the map's limit; sets the look-ahead.
        key: names an item's key; None: all items share one.
        limit_per_key: most items of one key running at once, or inf.
        rate: one limiter for all, or a function from a key to the key's own.
    """

    def __init__(
        self,
        *,
        limit: float,
        key: Callable[[Any], Hashable] | None = None,
        limit_per_key: float = math.inf,
        rate: RateLimiter | Callable[[Hashable], RateLimiter] | None = None,
    ) -> None:
        self._key_fn = key
        self._per_key = limit_per_key
        self._rate = rate
        self.look_ahead = 10_000 if limit == math.inf else max(LEAST_LOOK_AHEAD, 10 * int(limit))
        self._keys: dict[Hashable, _Key] = {}
        # Items pulled and not finished -> their key.
        self._key_of: dict[int, _Key] = {}
        self._due: deque[Job] = deque()
        self._timers: set[asyncio.TimerHandle] = set()
        self._sweep_at = 64
        self._stopped = False
        # Items held, due or waiting for a retry: pulled, but not in the hands of a worker.
        self.pending = 0

    def bind(
        self,
        take: Callable[[], Job | None],
        pump: Callable[[], None],
        has_slot: Callable[[], bool],
        item_failed: Callable[[Job, BaseException], None],
    ) -> None:
        """Connect to the window: where items come from, and whom to tell."""
        self._pull = take
        self._pump = pump
        self._has_slot = has_slot
        self._item_failed = item_failed

    def take(self) -> Job | None:
        """The next item that may start now, or None."""
        while not self._stopped:
            if self._due:
                self.pending -= 1
                return self._due.popleft()
            if self.pending >= self.look_ahead:
                break
            job = self._pull()
            if job is None:
                break
            if self._admitted(job):
                return job
        self._open_gates()
        return None

    def finished(self, job: Job) -> None:
        """The item has its outcome."""
        key = self._key_of.pop(job[0], None)
        if key is not None:
            key.running -= 1
            self._advance(key)

    def retry(self, job: Job, delay: float) -> None:
        """The item's attempt is over, and the next one may start after `delay` seconds."""
        key = self._key_of[job[0]]
        key.running -= 1
        key.retrying += 1
        self.pending += 1

        def due() -> None:
            self._timers.discard(timer)
            key.retrying -= 1
            key.held.appendleft(job)
            self._advance(key)
            self._pump()

        timer = asyncio.get_running_loop().call_later(max(delay, 0.0), due)
        self._timers.add(timer)
        self._advance(key)

    def stop(self) -> None:
        """Let nothing start any more."""
        self._stopped = True
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        for task in self.tasks():
            task.cancel()

    def tasks(self) -> list["asyncio.Task[Any]"]:
        return [key.gate for key in self._keys.values() if key.gate is not None]

    def waiting(self) -> list[Job]:
        """Items that were pulled and never started; known after `stop`."""
        return [*self._due, *(job for key in self._keys.values() for job in key.held)]

    # ------------------------------------------------------------------ one item, one key

    def _admitted(self, job: Job) -> bool:
        """Whether a fresh item may start at once; otherwise it is held."""
        try:
            key = self._key(job[1])
        except Exception as error:
            self._item_failed(job, error)
            return False
        self._key_of[job[0]] = key
        if not key.held and key.running < self._per_key:
            if key.limiter is None or key.limiter.try_acquire():
                key.running += 1
                return True
        key.held.append(job)
        self.pending += 1
        return False

    def _key(self, item: Any) -> _Key:
        value = None if self._key_fn is None else self._key_fn(item)
        key = self._keys.get(value)
        if key is None:
            rate = self._rate
            limiter = rate if rate is None or isinstance(rate, RateLimiter) else rate(value)
            if len(self._keys) >= self._sweep_at:
                self._sweep()
            key = self._keys[value] = _Key(value, limiter)
        return key

    def _advance(self, key: _Key) -> None:
        """Let held items of the key follow, now that one has ended or may be tried again."""
        if self._stopped:
            return
        if key.limiter is None:
            while key.held and key.running < self._per_key:
                key.running += 1
                self._due.append(key.held.popleft())
            if key.idle:
                del self._keys[key.value]
        elif key.held:
            self._open_gate(key)

    def _sweep(self) -> None:
        """Forget keys that have nothing left and whose limiter would not notice."""
        for key in [key for key in self._keys.values() if key.idle and _rested(key.limiter)]:
            del self._keys[key.value]
        self._sweep_at = max(64, 2 * len(self._keys))

    # ------------------------------------------------------------------ rates

    def _open_gates(self) -> None:
        if self._rate is not None and not self._stopped and self._has_slot():
            for key in self._keys.values():
                if key.held:
                    self._open_gate(key)

    def _open_gate(self, key: _Key) -> None:
        if key.gate is None and key.running < self._per_key and self._has_slot():
            key.gate = asyncio.get_running_loop().create_task(
                self._wait_for_rate(key), name=f"aioconc rate of {key.value!r:.60}"
            )

    async def _wait_for_rate(self, key: _Key) -> None:
        assert key.limiter is not None
        try:
            while key.held and key.running < self._per_key and self._has_slot():
                await key.limiter.acquire()
                # A permit is worth its moment only: with no slot to use it now, it goes back, so
                # that permits cannot be hoarded and spent in a burst.
                if not key.held or key.running >= self._per_key or not self._has_slot():
                    key.limiter.give_back()
                    return
                key.running += 1
                self._due.append(key.held.popleft())
                self._pump()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # a limiter of the user's own making
            if key.held:
                job = key.held.popleft()
                self.pending -= 1
                self._item_failed(job, error)
        finally:
            key.gate = None


def _rested(limiter: RateLimiter | None) -> bool:
    return limiter is None or limiter.rested
