"""The supervisor of `serve_prefork`: keeps a worker in every slot, and ends them in order.

Everything here runs in callbacks of one private event loop in the main thread, decides at once and
never waits. What a worker process is, is in `_member`.
"""

import asyncio
import contextlib
import logging
import signal
import socket
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aioconc._internal import _hooks
from aioconc.servers._listen import count_queued, say_address, stop_newcomers
from aioconc.servers._member import Member

# Seconds that a worker gets when it has been asked for the last time.
_LAST = 1.0

# Seconds until a worker is started anew after two in a row have failed before they served, doubled
# each time. After a crash of one that served it is done at once, so that it costs no capacity.
_BACKOFF = 0.1
_LONGEST_BACKOFF = 5.0

# Seconds: how long, at most, connections that have queued are waited for until the workers are
# asked to end, and how often that is looked at.
_QUEUE = 1.0
_LOOK = 0.01

_log = logging.getLogger("aioconc")


@dataclass(frozen=True)
class Plan:
    """What is to be supervised.

    `setup` is called for the first frame of each worker; `sockets` has the listening sockets of each
    slot; `owned` tells whether they are ours to end.
    """

    setup: Callable[[], dict[str, Any]]
    sockets: Sequence[Sequence[socket.socket]]
    owned: bool
    drain: float
    max_restarts: int
    restart_window: float
    start_timeout: float
    on_ready: Callable[[int], object] | None
    port: int


@dataclass
class _Slot:
    number: int
    sockets: Sequence[socket.socket]
    # Serves, or is about to; None while a new one is waited for.
    member: Member | None = None
    # Is to replace it.
    successor: Member | None = None
    restart: asyncio.TimerHandle | None = field(default=None, repr=False)


# Supervisor life:   running -> stopping -> over
# Rule 1: a member is in `_members` from its start until its end was told.
# Rule 2: while running, each slot has a member, or a `restart` that will make one.
# Rule 3: a reload has one slot at a time: the first of `_to_reload`, while that is not empty.
class Supervising:
    """Runs the plan; `run` returns the exit status."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._loop: asyncio.AbstractEventLoop = asyncio.SelectorEventLoop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._slots = [_Slot(number, each) for number, each in enumerate(plan.sockets)]
        self._members: dict[Member, _Slot] = {}
        self._to_reload: deque[_Slot] = deque()
        self._reload_again = False
        # A member that was asked to end in the course of a reload; the next slot waits for it.
        self._outgoing: Member | None = None
        self._failures: deque[float] = deque()
        # Workers in a row that have failed before they served.
        self._failed_starts = 0
        self._told_ready = False
        self._stopping = False
        self._signals: list[int] = []
        self._status = 0

    def run(self) -> int:
        """Until it is over; in the main thread."""
        previous = {each: signal.getsignal(each) for each in _HANDLED}
        try:
            for number in _HANDLED:
                # What nohup or a shell has set to be ignored stays so, but for what ends us.
                if number != signal.SIGHUP or previous[number] is not signal.SIG_IGN:
                    self._loop.add_signal_handler(number, self._on_signal, number)
            for slot in self._slots:
                self._start(slot)
            self._loop.run_until_complete(self._over)
            return self._status
        finally:
            for member in [*self._members]:  # only where something unforeseen was raised
                member.end_now()
            for number, handler in previous.items():
                self._loop.remove_signal_handler(number)
                with contextlib.suppress(TypeError):  # None: it was not set by Python
                    signal.signal(number, handler)
            self._loop.close()

    # ------------------------------------------------------------------ starting

    def _start(self, slot: _Slot) -> Member | None:
        """A new member for the slot; None if it cannot be started."""
        slot.restart = None
        if self._stopping:
            return None
        try:
            member = Member(self._loop, self, self._plan.setup(), slot.sockets)
        except OSError as error:
            why = f"a worker cannot be started: {error}"
            if slot.member is not None:
                self._abandon_reload(why)
            else:
                self._failed_starts += 1
                self._failed(slot, why)
            return None
        self._members[member] = slot
        if slot.member is None:
            slot.member = member
        else:
            slot.successor = member
        member._at(self._plan.start_timeout, self._too_late, member)
        self._tell("prefork.worker_started", member)
        return member

    def _too_late(self, member: Member) -> None:
        if member.state == "starting":
            seconds = f"{self._plan.start_timeout:g} s"
            member.kill(f"it has not called aioconc.servers.ready() within {seconds}")

    def on_ready(self, member: Member) -> None:
        """It serves: its predecessor may go."""
        self._tell("prefork.worker_ready", member)
        self._failed_starts = 0
        slot = self._members[member]
        if slot.successor is member:
            old, slot.member, slot.successor = slot.member, member, None
            if old is not None:
                self._outgoing = old
                old.drain(self._plan.drain, _LAST)
                return
        self._check_reload()
        if not self._told_ready and all(
            each.member is not None and each.member.state == "serving" for each in self._slots
        ):
            self._told_ready = True
            where = ", ".join(say_address(each.getsockname()) for each in self._slots[0].sockets)
            _log.info("serving on %s with %d workers", where, len(self._slots))
            if _hooks.listeners:
                _hooks.emit("prefork.ready", port=self._plan.port, workers=len(self._slots))
            if self._plan.on_ready is not None:
                try:
                    self._plan.on_ready(self._plan.port)
                except Exception:
                    _log.exception("on_ready failed")

    # ------------------------------------------------------------------ ends

    def on_retire(self, member: Member) -> None:
        """It was asked to end by somebody else: another takes its place now."""
        member.expect_end(self._plan.drain, _LAST)
        slot = self._members[member]
        if self._stopping:
            return
        if slot.successor is member:
            slot.successor = None
            self._abandon_reload(f"worker {member.pid} was asked to end")
        elif slot.member is member:
            slot.member = slot.successor
            slot.successor = None
            if slot.member is None:
                self._start(slot)

    def on_end(self, member: Member) -> None:
        """It has ended: in order, or it is replaced."""
        slot = self._members.pop(member)
        self._tell("prefork.worker_ended", member)
        if self._outgoing is member:
            self._outgoing = None
        if self._stopping:
            self._note_end(slot, member)
            self._refuse_newcomers()
            self._check_over()
        elif slot.successor is member:
            slot.successor = None
            self._abandon_reload(member.say_end())
        elif slot.member is member:
            slot.member = slot.successor
            slot.successor = None
            if not member.has_served:
                self._failed_starts += 1
            self._failed(slot, member.say_end())
        else:
            if member.exitcode:
                _log.warning("%s, when it was to end", member.say_end())
            self._check_reload()

    def _note_end(self, slot: _Slot, member: Member) -> None:
        if slot.member is member:
            slot.member = None
        elif slot.successor is member:
            slot.successor = None
        # One that has not served yet has lost nothing, whatever became of it.
        if member.exitcode and member.has_served:
            _log.warning("%s, when it was to end", member.say_end())
            self._status = self._status or 1

    def _failed(self, slot: _Slot, what: str) -> None:
        """A worker has ended by itself: start another, soon, or give up."""
        now = self._loop.time()
        plan = self._plan
        self._failures.append(now)
        while self._failures[0] <= now - plan.restart_window:
            self._failures.popleft()
        count = len(self._failures)
        if count > plan.max_restarts:
            _log.error(
                "serve_prefork gives up: %d workers failed within %g s, max_restarts is %d; the "
                "last: %s",
                count,
                plan.restart_window,
                plan.max_restarts,
                what,
            )
            if _hooks.listeners:
                _hooks.emit("prefork.gave_up", failures=count, last=what)
            self._status = 1
            self._stop()
            return
        delay = 0.0
        if self._failed_starts > 1:
            delay = min(_BACKOFF * 2.0 ** (self._failed_starts - 2), _LONGEST_BACKOFF)
        _log.warning("%s; another one is started%s", what, f" in {delay:g} s" if delay else "")
        if slot.member is None:
            slot.restart = self._loop.call_later(delay, self._start, slot)

    # ------------------------------------------------------------------ signals

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGHUP:
            if not self._stopping:
                self._reload()
            return
        self._signals.append(number)
        if len(self._signals) == 1 and not self._stopping:
            _log.info("%s: the workers are asked to end", signal.Signals(number).name)
            self._stop()
            return
        self._status = 128 + number
        for member in [*self._members]:
            if len(self._signals) <= 2:
                member.hurry(_LAST)
            else:
                member.kill("a third signal came")

    def _reload(self) -> None:
        if self._to_reload:
            self._reload_again = True
            return
        _log.info("SIGHUP: the workers are replaced, one after the other")
        self._to_reload.extend(self._slots)
        self._reload_next()

    def _reload_next(self) -> None:
        """Start a successor for the next slot that has a worker."""
        while self._to_reload:
            slot = self._to_reload[0]
            if slot.member is not None and self._start(slot) is not None:
                return
            if not self._to_reload:  # given up
                return
            self._to_reload.popleft()  # whoever is started there is new anyway
        _log.info("the workers have been replaced")
        if _hooks.listeners:
            _hooks.emit("prefork.reloaded")
        if self._reload_again:
            self._reload_again = False
            self._reload()

    def _check_reload(self) -> None:
        """Go on with the reload, if what it waits for has come to be."""
        if self._stopping or not self._to_reload or self._outgoing is not None:
            return
        slot = self._to_reload[0]
        starting = slot.successor or slot.member
        if slot.successor is None and (starting is None or starting.state == "serving"):
            self._to_reload.popleft()
            self._reload_next()

    def _abandon_reload(self, why: str) -> None:
        self._to_reload.clear()
        self._reload_again = False
        _log.error("the reload is given up, and the workers that serve go on: %s", why)
        if _hooks.listeners:
            _hooks.emit("prefork.reload_failed", why=why)

    # ------------------------------------------------------------------ the end

    def _stop(self) -> None:
        """End in order. Connections that the kernel has completed are still taken by the workers."""
        if self._stopping:
            return
        self._stopping = True
        self._to_reload.clear()
        for slot in self._slots:
            if slot.restart is not None:
                slot.restart.cancel()
        ours = {each for slot in self._slots for each in slot.sockets} if self._plan.owned else ()
        stopped = [each for each in ours if stop_newcomers(each)]
        self._await_queue(stopped, self._loop.time() + min(_QUEUE, self._plan.drain / 2))

    def _await_queue(self, stopped: list[socket.socket], deadline: float) -> None:
        serving = any(each.state == "serving" for each in self._members)
        if serving and self._loop.time() < deadline and any(map(count_queued, stopped)):
            self._loop.call_later(_LOOK, self._await_queue, stopped, deadline)
            return
        for member in self._members:
            member.drain(self._plan.drain, _LAST)
        self._check_over()

    def on_stopped(self, member: Member) -> None:
        """It accepts nothing more."""
        self._refuse_newcomers()

    def _refuse_newcomers(self) -> None:
        """When nobody accepts any more, they are refused rather than left without an answer."""
        if self._stopping and self._plan.owned and not any(m.accepts for m in self._members):
            for sock in {each for slot in self._slots for each in slot.sockets}:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def _check_over(self) -> None:
        if not self._members and not self._over.done():
            self._over.set_result(None)

    def _tell(self, event: str, member: Member) -> None:
        if _hooks.listeners:
            _hooks.emit(event, pid=member.pid, exitcode=member.exitcode)


_HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
