"""Which item may start now: limits per key, rates, and retries that wait.

Stands between the source and the workers when a map has any of these. An item that may not start
yet is set aside without holding a slot, so items of other keys go on; at most `look_ahead` items
are set aside, then the source is read no further. Keys that have nothing left are forgotten.
"""

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from contextvars import Context
from typing import Any, Final

from aioconc.flow._rate_limiter import RateLimiter
from aioconc.flow._source import Job

# Set aside at least this many items before the source is read no further: a source is often sorted
# by host, and a look-ahead of a few times `limit` would see one host only.
LEAST_LOOK_AHEAD: Final = 100

# The look-ahead of a map without a limit.
MOST_LOOK_AHEAD: Final = 10_000

# Keys whose limiter must be remembered are looked through whenever their number has doubled.
FIRST_SWEEP: Final = 64


class _Key:
    """One key's state. An item of the key is in `held`, waits for a retry, is granted, or runs."""

    __slots__ = ("gate", "held", "limiter", "retrying", "running", "value")

    def __init__(self, value: Hashable, limiter: RateLimiter | None) -> None:
        self.value = value
        self.limiter = limiter
        self.running = 0  # granted, or in the hands of workers
        self.retrying = 0
        self.held: deque[Job] = deque()
        # Waits for the limiter on behalf of the first held item.
        self.gate: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        return not (self.running or self.retrying or self.held or self.gate)


# An item's way:   source -> admitted ---------------------> a worker
#                        \-> held -> (granted a permit) --/    |
#                              ^------ waiting for retry <-----/
# Rule 1: `_pending` is the number of items held, granted or waiting for a retry.
# Rule 2: a key without limiter is in `_ready` iff it has held items and is not full; a key with
#         one is in `_rated` iff it has held items.
# Rule 3: only an item that could start at once is given a place of its key or a permit: a reserved
#         place would keep back the very item that an ordered reader waits for.
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
        rate: RateLimiter | Callable[[Any], RateLimiter] | None = None,
    ) -> None:
        self._key_fn = key
        self._per_key = limit_per_key
        self._rate = rate
        # A limiter of a key's own remembers what the key has used; any other key may be forgotten.
        self._forgets = rate is None or isinstance(rate, RateLimiter)
        if limit == math.inf:
            self.look_ahead = MOST_LOOK_AHEAD
        else:
            self.look_ahead = max(LEAST_LOOK_AHEAD, 10 * int(limit))
        self._keys: dict[Hashable, _Key] = {}
        self._key_of: dict[int, _Key] = {}  # items pulled and not finished
        self._granted: deque[Job] = deque()
        self._ready: OrderedDict[_Key, None] = OrderedDict()
        self._rated: dict[_Key, None] = {}
        # Item that failed and is to be tried again -> attempts so far.
        self._attempts: dict[int, int] = {}
        self._timers: set[asyncio.TimerHandle] = set()
        self._sweep_at = FIRST_SWEEP
        self._stopped = False
        self._pending = 0

    def bind(
        self,
        *,
        pull: Callable[[], Job | None],
        pump: Callable[[], None],
        free_slots: Callable[[], float],
        room: Callable[[], float],
        head: Callable[[], int],
        item_failed: Callable[[Job, BaseException], None],
        context: Context,
    ) -> None:
        """Connect to the window: where items come from, what it has room for, whom to tell.

        Args:
            pull: gives the next item of the source.
            pump: starts what can start.
            free_slots: how many more calls may be in flight.
            room: how many more items may start before the reader takes a result.
            head: the item that the reader waits for, if it waits for no other.
            item_failed: called with an item that cannot be started, and why.
            context: what tasks made here run in.
        """
        self._pull = pull
        self._pump = pump
        self._free_slots = free_slots
        self._room = room
        self._head = head
        self._item_failed = item_failed
        self._context = context

    @property
    def pending(self) -> int:
        """Items that were pulled and are not in the hands of a worker."""
        return self._pending

    def take(self) -> Job | None:
        """The next item that may start now, or None. The caller has a free slot."""
        while not self._stopped:
            if self._granted:
                self._pending -= 1
                return self._granted.popleft()
            if (job := self._take_held()) is not None:
                return job
            if self._pending >= self.look_ahead or self._room() <= 0:
                break
            if (job := self._pull()) is None:
                break
            if self._admits(job):
                return job
        for key in [*self._rated]:
            self._open_gate(key)
        return None

    def finished(self, index: int) -> None:
        """The item has its outcome."""
        self._attempts.pop(index, None)
        key = self._key_of.pop(index, None)
        if key is not None:
            key.running -= 1
            self._update(key)

    def attempts(self, index: int) -> int:
        """Attempts at the item that have failed and were followed by another."""
        return self._attempts.get(index, 0)

    def is_retry(self, index: int) -> bool:
        """Whether the item has been started before."""
        return index in self._attempts

    def retry(self, job: Job, delay: float) -> None:
        """The item's attempt is over, and the next one may start after `delay` seconds."""
        key = self._key_of[job[0]]
        self._attempts[job[0]] = self.attempts(job[0]) + 1
        key.running -= 1
        key.retrying += 1
        self._pending += 1

        def due() -> None:
            self._timers.discard(timer)
            key.retrying -= 1
            key.held.appendleft(job)
            self._update(key)
            self._pump()

        timer = asyncio.get_running_loop().call_later(delay, due)
        self._timers.add(timer)
        self._update(key)

    def stop(self) -> None:
        """Let nothing start any more."""
        self._stopped = True
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        for gate in self.tasks():
            gate.cancel()

    def tasks(self) -> list["asyncio.Task[Any]"]:
        return [key.gate for key in self._rated if key.gate is not None]

    def waiting(self) -> list[Job]:
        """Items that were pulled and never started; known after `stop`."""
        return [*self._granted, *(job for key in self._keys.values() for job in key.held)]

    # ------------------------------------------------------------------ one item, one key

    def _admits(self, job: Job) -> bool:
        """Whether a fresh item may start at once; otherwise it is held."""
        try:
            key = self._key_for(job[1])
        except Exception as error:
            self._item_failed(job, error)
            return False
        self._key_of[job[0]] = key
        if not key.held and key.running < self._per_key:
            if key.limiter is None or key.limiter.try_acquire():
                key.running += 1
                return True
        key.held.append(job)
        self._pending += 1
        self._update(key)
        return False

    def _key_for(self, item: Any) -> _Key:
        value = None if self._key_fn is None else self._key_fn(item)
        key = self._keys.get(value)
        if key is None:
            limiter: Any = self._rate
            if not self._forgets:
                assert callable(limiter)
                limiter = limiter(value)
                if not isinstance(limiter, RateLimiter):
                    raise TypeError(
                        f"rate must give a RateLimiter for each key, got {limiter!r} for {value!r}"
                    )
                if len(self._keys) >= self._sweep_at:
                    self._sweep()
            key = self._keys[value] = _Key(value, limiter)
        return key

    def _take_held(self) -> Job | None:
        """A held item of a key without limiter, keys in turn."""
        has_room = self._room() > 0
        for key in self._ready:
            job = key.held[0]
            if has_room or self._may_overdraw(job[0]):
                key.held.popleft()
                key.running += 1
                self._pending -= 1
                self._update(key)
                return job
        return None

    def _may_overdraw(self, index: int) -> bool:
        """Whether the item may start without room: it has its place, or the reader waits for it."""
        return index in self._attempts or index == self._head()

    def _update(self, key: _Key) -> None:
        """Note what may become of the key, now that something about it has changed."""
        if key.limiter is None:
            self._ready.pop(key, None)  # to the end of the line
            if key.held and key.running < self._per_key:
                self._ready[key] = None
        elif key.held or key.gate is not None:
            self._rated[key] = None
            self._open_gate(key)
        else:
            self._rated.pop(key, None)
        if self._forgets and key.idle:
            self._keys.pop(key.value, None)

    def _sweep(self) -> None:
        """Forget keys that have nothing left and whose limiter would not notice."""
        for key in [*self._keys.values()]:
            if key.idle and (key.limiter is None or key.limiter.rested):
                del self._keys[key.value]
        self._sweep_at = max(FIRST_SWEEP, 2 * len(self._keys))

    # ------------------------------------------------------------------ rates

    def _may_go(self, key: _Key) -> bool:
        """Whether the key's first held item would start at once if it had a permit."""
        if self._stopped or not key.held or key.running >= self._per_key:
            return False
        granted = len(self._granted)
        return self._free_slots() > granted and (
            self._room() > granted or self._may_overdraw(key.held[0][0])
        )

    def _open_gate(self, key: _Key) -> None:
        if key.gate is None and self._may_go(key):
            gate = asyncio.get_running_loop().create_task(
                self._wait_for_rate(key),
                name=f"aioconc rate of {key.value!r:.60}",
                context=self._context.copy(),
            )
            key.gate = gate
            # Not at the end of the task's own code: an eager task may end before it is `key.gate`,
            # and one that is cancelled before its first step runs none.
            gate.add_done_callback(lambda gate: self._gate_closed(key, gate))

    async def _wait_for_rate(self, key: _Key) -> None:
        assert key.limiter is not None
        while self._may_go(key):
            await key.limiter.acquire()
            # A permit is worth its moment only: with no slot to use it now, it goes back, so
            # that permits cannot be hoarded and spent in a burst.
            if not self._may_go(key):
                key.limiter.give_back()
                return
            key.running += 1
            self._granted.append(key.held.popleft())
            # Soon and not now: the caller may be in the middle of `take` if tasks start eagerly.
            asyncio.get_running_loop().call_soon(self._pump)

    def _gate_closed(self, key: _Key, gate: "asyncio.Task[None]") -> None:
        key.gate = None
        error = None if gate.cancelled() else gate.exception()
        if error is not None and key.held and not self._stopped:  # a limiter of the user's making
            job = key.held.popleft()
            self._pending -= 1
            key.running += 1
            self._item_failed(job, error)
        self._update(key)
        self._pump()
