"""The large buffers and descriptors that one worker gets from here, and what is read of its own.

Arguments are copied into an arena when the call has got its worker, so that queued calls take no
memory; much of it is copied in a thread, and what is sent to the worker meanwhile waits for its
turn. What the wire looks like is left to `_wire`.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from aioconc._bridge._errand import run_errand
from aioconc._wire import _frames as wire
from aioconc._wire._arenas import Arenas, Lease
from aioconc._wire._body import Laden, Parts, fill_arena, put_together
from aioconc._wire._loans import Loans, numbers_of
from aioconc.executors.process._patrol import start_patrol

if TYPE_CHECKING:
    from aioconc.executors.process._worker import WorkerProcess

Pieces = list[bytes | memoryview]

# Bytes that are copied in the loop's thread: half a millisecond, or two into memory that is fresh.
# A thread for it takes about as long to begin.
_AT_ONCE = 1 << 21


class Freight:
    """What large buffers are on their way to and from one worker.

    Args:
        worker: whose.
        arenas: those of the pool.
    """

    # Rule 1: all but `_give_back_soon` runs in the thread of the worker's loop.
    # Rule 2: `held` is a list while a thread copies; what is to be sent then goes there.
    # Rule 3: a lease is in `_lent` from when it is sent until the worker gives it back or is gone.
    __slots__ = ("_arenas", "_has_lent", "_lent", "_soon", "_worker", "held", "loans")

    def __init__(self, worker: "WorkerProcess", arenas: Arenas) -> None:
        self._worker = worker
        self._arenas = arenas
        self._lent: set[int] = set()
        # Whether it has since it was trimmed last.
        self._has_lent = False
        self.held: list[Callable[[], None]] | None = None
        self.loans = Loans(self._give_back_soon)
        self._soon = False

    # -- to the worker ------------------------------------------------------------------------

    def send(self, kind: int, number: int, head: Pieces, parts: Parts) -> None:
        """Send a frame whose body has large buffers or descriptors."""
        if self.held is not None:
            self.held.append(lambda: self.send(kind, number, head, parts))
            return
        worker, arenas = self._worker, self._arenas
        job, loop, mailbox = worker.job, worker.loop, worker.mailbox
        assert loop is not None
        assert mailbox is not None
        buffers = parts.for_arena
        if sum(each.nbytes for each in buffers) <= _AT_ONCE:
            self._send(kind, number, head, parts, fill_arena(parts, arenas))
            return
        self.held = []

        def copy() -> None:
            lease = None
            try:
                lease = arenas.fill(buffers, lambda: worker.job is job)
            finally:
                # If its loop is closed, so is the call; the arena goes with `lease`.
                mailbox.post(loop, lambda: arrive(lease))

        def arrive(lease: Lease | None) -> None:
            held, self.held = self.held or [], None
            if worker.job is not job or worker.loop is not loop:
                if lease is not None:
                    arenas.give_back([lease.number])
                return
            self._send(kind, number, head, parts, lease)
            for each in held:
                each()

        run_errand(copy)

    def _send(
        self, kind: int, number: int, head: Pieces, parts: Parts, lease: Lease | None
    ) -> None:
        if lease is not None:
            self._lent.add(lease.number)
            self._has_lent = True
        body = put_together(parts, lease)
        laden = body[0] if isinstance(body[0], Laden) else None
        frame = wire.encode(kind, number, *head, *body, laden=laden)
        self._worker.send(frame, () if laden is None else laden.carried)

    def take_back(self, payload: "memoryview | bytes") -> None:
        """The worker reads these no more."""
        numbers = numbers_of(payload)
        self._lent.difference_update(numbers)
        self._arenas.give_back(numbers)
        self._have_trimmed()

    # -- from the worker ----------------------------------------------------------------------

    def give_back(self) -> None:
        """Tell the worker which of its arenas are read no more."""
        self._soon = False
        if self.loans:
            self._worker.send(wire.encode(wire.RELEASE, 0, self.loans.take_returned()))

    def _give_back_idle(self) -> None:
        # With its turn, so that nobody takes the worker to another loop in the middle of it. If
        # somebody has, it is told when it gets there.
        with self._worker.turn:
            loop = self._worker.loop
            if loop is not None and loop is asyncio._get_running_loop():
                self.give_back()
                self.loans.were_used = True
                self._have_trimmed()
            self._soon = False

    def _have_trimmed(self) -> None:
        """Something came to be free, perhaps after all calls have ended."""
        pool = self._worker.pool
        if not pool.is_patrolled:
            start_patrol(pool)

    def _give_back_soon(self) -> None:
        """Called by finalizers, in any thread."""
        loop, mailbox = self._worker.loop, self._worker.mailbox
        if not self._soon and loop is not None and mailbox is not None:
            self._soon = True
            mailbox.post(loop, self._give_back_idle)

    @property
    def keeps_memory(self) -> bool:
        """Whether one of the two may keep memory that nobody uses now."""
        return self._has_lent or self.loans.were_used

    def trim(self) -> None:
        """Keep none, here and in the worker, which is idle; by whoever has it in hand."""
        self._has_lent = self.loans.were_used = False
        self.loans.mappings.clear()
        self._worker.send(wire.encode(wire.TRIM, 0))

    def end(self) -> None:
        """The worker is gone."""
        self.held = None
        self.loans.close()
        self._arenas.forget(self._lent)
        self._lent.clear()
