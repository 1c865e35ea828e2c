"""The parent's side of a template: a process of ours that is forked into workers.

It has imported what the workers need, so that one is there in the time of a fork. Its workers are
its children: it tells of their births and ends, and the descriptors of their processes, which come
from it, tell of their ends as well, should it have died. All of it runs in the service's thread.
What the template does is in `aioconc.worker._template`.
"""

import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable
from pathlib import Path

from aioconc._bridge._service import service
from aioconc._internal import _hooks
from aioconc._wire import _frames as wire
from aioconc._wire._body import dump, load
from aioconc._wire._descriptors import Descriptor, receive
from aioconc.executors.process._child import ChildProcess, Process, how_ended
from aioconc.executors.process._launch import (
    Done,
    Ends,
    Launcher,
    NoTemplate,
    Recipe,
    encode_setup,
    life_pipe,
    start_python,
    surroundings,
)
from aioconc.worker import _template as talk

# Requests that a template has at a time: what waits here has no descriptors yet.
_MOST_SENT = 16

# Templates that may die, one after the other, before they have forked anything, until those who
# wait for a worker are told.
_MOST_DEATHS = 3

# Seconds that a template may take to end by itself: once it is told to, and once its own end of its
# socket is closed, when nearly always it is just dying.
_LAST_STEPS = 2.0
_SILENT = 0.5

# Seconds after the end of a worker in which its template must have told how it ended.
_TELLS = 0.5

_READ = 16_384

# Bytes of the end of a fatal error's traceback that are kept.
_TAIL = 8_192


def why_not_forked() -> str | None:
    """What this system lacks for templates; None: nothing."""
    for name in ("fork", "memfd_create", "pidfd_open"):
        if not hasattr(os, name):
            return f"os.{name}"
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        return f"os.pidfd_open ({error})"
    return None if Path("/proc/self/fd").exists() else "/proc"


class ForkedProcess(Process):
    """A worker that is a child of a template.

    Args:
        pid: its id.
        pidfd: a descriptor of it.
    """

    def __init__(self, pid: int, pidfd: int) -> None:
        super().__init__(pid, pidfd)
        # The template has died: nobody will tell how this one ends.
        self._orphaned = False
        self._silent = False
        self._look: Callable[[], object] | None = None

    def has_ended(self) -> bool:
        return self._over

    def watch(self, look: Callable[[], object]) -> None:
        self._look = look
        super().watch(self._on_end)

    def _on_end(self) -> None:
        self.unwatch()
        self._silent = True
        if self._orphaned:
            self.take_end(None)
        else:
            service().loop.call_later(_TELLS, self.take_end, None)

    def lose_parent(self) -> None:
        """The template has died."""
        self._orphaned = True
        if self._silent:
            self.take_end(None)

    def take_end(self, status: int | None) -> None:
        """It has ended, as `waitpid` says; None: nobody knows how."""
        if self._over:
            return
        with self._lock:
            if status is not None:
                self.exitcode = os.waitstatus_to_exitcode(status)
            self._over = True
        look, self._look = self._look, None
        if look is not None:
            look()


class ForkServer(Launcher):
    """Has workers forked from a template, and replaces it when it dies.

    Args:
        name: that of the pool, for events.
    """

    # Rule: each request is in `_waiting`, or with a template that has not answered it, or done.
    def __init__(self, name: str) -> None:
        self._name = name
        self._template: Template | None = None
        self._waiting: deque[tuple[Recipe, Done]] = deque()
        self._deaths = 0
        self._hurries = False
        self._on_closed: list[Callable[[], object]] = []

    def launch(self, recipe: Recipe, done: Done) -> None:
        self._waiting.append((recipe, done))
        self._go_on()

    def _go_on(self) -> None:
        """Have waiting requests answered, as many as may be."""
        while self._waiting:
            template = self._template
            try:
                if template is None:
                    recipe = self._waiting[0][0]
                    template = self._template = Template(recipe, self._forked, self._ended)
                    self._emit("template.started", template)
                if template.is_full:
                    return
                recipe, done = self._waiting.popleft()
                template.request(recipe, done)
            except Exception as error:
                self._refuse(error)
                return

    def _refuse(self, error: BaseException) -> None:
        """No template, no descriptors: all that waits is told."""
        waiting, self._waiting = self._waiting, deque()
        for _, done in waiting:
            done(error)

    def _forked(self) -> None:
        self._deaths = 0
        self._go_on()

    def _ended(self, template: "Template", left: list[tuple[Recipe, Done]], why: str) -> None:
        """The template has died, and has not answered these."""
        self._template = None
        self._emit("template.ended", template)
        self._waiting.extendleft(reversed(left))
        self._deaths += 1
        error = NoTemplate(
            f"{self._deaths} times in a row the process that workers are forked from died before it "
            f"had one; at last it {why}"
        )
        if template.broken is not None:
            error = NoTemplate(f"the modules to preload cannot be used: {template.broken}")
        closed, self._on_closed = self._on_closed, []
        if template.broken is not None or self._hurries or closed or self._deaths >= _MOST_DEATHS:
            self._deaths = 0
            self._refuse(error)
        self._go_on()
        for then in closed:
            then()

    def hurry(self) -> None:
        self._hurries = True
        self._refuse(NoTemplate("the executor is closed"))
        if self._template is not None:
            self._template.hurry()

    def close(self, then: Callable[[], object]) -> None:
        service().call(self._close, then)

    def _close(self, then: Callable[[], object]) -> None:
        if self._template is None:
            then()
        else:
            self._on_closed.append(then)
            self._template.end()

    def kill(self) -> None:
        template = self._template
        if template is not None:
            template.process.kill()

    def standing(self) -> tuple[set[int], set[int]]:
        template = self._template
        if template is None:
            return set(), set()
        return {template.process.pid}, template.descriptors()

    def _emit(self, event: str, template: "Template") -> None:
        if _hooks.listeners:
            _hooks.emit(event, executor=self._name, pid=template.process.pid)


class Template:
    """One template process.

    Args:
        recipe: what it is made from.
        on_forked: called when it has answered a request.
        on_end: called once it has ended, with the template, the requests that it had not answered,
            and how it ended.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(
        self,
        recipe: Recipe,
        on_forked: Callable[[], object],
        on_end: "Callable[[Template, list[tuple[Recipe, Done]], str], object]",
    ) -> None:
        self._on_forked = on_forked
        self._on_end = on_end
        # All modules are imported.
        self.is_up = False
        # Why they cannot be.
        self.broken: str | None = None
        self._number = 0
        self._asked: dict[int, tuple[Recipe, Done, Ends]] = {}
        self._alive: dict[int, ForkedProcess] = {}
        self._decoder = wire.Decoder()
        self._arrived: list[Descriptor] = []
        self._ending = False
        self._sock, theirs = socket.socketpair()
        self._blackbox = setup = -1
        try:
            self._sock.setblocking(False)
            self._blackbox = os.memfd_create("aioconc blackbox")
            setup = os.memfd_create("aioconc setup")
            with os.fdopen(os.dup(setup), "wb") as file:
                file.write(b"".join(dump({**surroundings(), "preload": recipe.preload})))
            passed = (theirs.fileno(), life_pipe(), setup, self._blackbox)
            self.process: ChildProcess = start_python(recipe, "aioconc.worker._template", passed)
            if self.process.pidfd < 0:
                self.process.end_now()
                raise OSError("the end of a template could not be seen: too many open files")
        except BaseException:
            self._close()
            raise
        finally:
            theirs.close()
            if setup >= 0:
                os.close(setup)
        service().loop.add_reader(self._sock.fileno(), self._on_readable)
        self.process.watch(self._see_end)

    @property
    def is_full(self) -> bool:
        """Whether it is to get no further request for now."""
        return len(self._asked) >= _MOST_SENT or self._ending

    def request(self, recipe: Recipe, done: Done) -> None:
        """Have a worker forked."""
        try:
            ends = Ends()
        except OSError as error:
            done(error)
            return
        self._number = number = (self._number + 1) & 0xFFFFFFFF
        self._asked[number] = recipe, done, ends
        frame = b"".join(wire.encode(talk.FORK, number))
        try:
            # It is taken whole: there are few of them at a time.
            self._sock.sendmsg([frame], talk.rights(*ends.theirs()))
        except ConnectionError:
            pass  # the template has just died, which is seen soon
        except OSError as error:  # ETOOMANYREFS: of descriptors on their way in all the system
            del self._asked[number]
            ends.close()
            done(error)
            return
        ends.close_theirs()

    # -- what it says -------------------------------------------------------------------------

    def _on_readable(self) -> None:
        if self._read():
            return
        service().loop.remove_reader(self._sock.fileno())
        self._kill_later(_SILENT)

    def _read(self) -> bool:
        """Take in what has come; False: nothing more will."""
        try:
            data, arrived = receive(self._sock, _READ)
        except (BlockingIOError, InterruptedError):
            return not self._ending
        except OSError:
            return False
        self._arrived += arrived
        for kind, number, payload, _ in self._decoder.feed(data):
            self._on_frame(kind, number, payload)
        return bool(data)

    def _on_frame(self, kind: int, number: int, payload: "memoryview | bytes") -> None:
        if kind == talk.UP:
            self.is_up = True
        elif kind == talk.BROKEN:
            self.broken = load(payload)
        elif kind == talk.ENDED:
            ended = self._alive.pop(number, None)
            if ended is not None:  # None: its descriptor was lost, and so was it
                ended.take_end(load(payload))
        else:
            recipe, done, ends = self._asked.pop(number)
            if kind == talk.FAILED:
                ends.close()
                done(OSError(f"no worker could be forked: {load(payload)}"))
            else:
                self._take_worker(number, load(payload), recipe, done, ends)
            self._on_forked()

    def _take_worker(self, number: int, pid: int, recipe: Recipe, done: Done, ends: Ends) -> None:
        try:
            pidfd = self._arrived.pop(0)
            setup = encode_setup(recipe)
            # Last, since a process that was started must not be forgotten.
            process = ForkedProcess(pid, pidfd.detach())
        except BaseException as error:
            ends.close()  # which ends the worker
            done(error)
            return
        self._alive[number] = process
        done(ends.launched(process, setup))

    # -- its end ------------------------------------------------------------------------------

    def hurry(self) -> None:
        """Nobody wants the workers that were asked for."""
        if not self.is_up:
            self.process.kill()  # it has none yet
        elif self._asked:
            self._kill_later(_LAST_STEPS)  # they are born in no time, unless it stands still

    def end(self) -> None:
        """Let it end; its workers are gone."""
        if not self._ending:
            self._ending = True
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)
            self._kill_later(_LAST_STEPS)

    def _kill_later(self, seconds: float) -> None:
        service().loop.call_later(seconds, self.process.kill)

    def _see_end(self) -> None:
        if not self.process.has_ended():
            return
        self._ending = True
        self.process.unwatch()
        service().loop.remove_reader(self._sock.fileno())
        while self._read():
            pass
        for each in self._alive.values():
            each.lose_parent()
        left = []
        for recipe, done, ends in self._asked.values():
            ends.close()
            left.append((recipe, done))
        self._asked.clear()
        why = how_ended(self.process.exitcode)
        size = os.fstat(self._blackbox).st_size
        tail = os.pread(self._blackbox, _TAIL, max(0, size - _TAIL)).decode("utf-8", "replace")
        self.process.close()
        self._close()
        self._on_end(self, left, f"{why}\n{tail}".strip())

    def _close(self) -> None:
        self._sock.close()
        if self._blackbox >= 0:
            os.close(self._blackbox)
            self._blackbox = -1

    def descriptors(self) -> set[int]:
        """What this process holds of it."""
        return {fd for fd in (self._sock.fileno(), self.process.pidfd, self._blackbox) if fd >= 0}
