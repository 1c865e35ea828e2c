"""Counts where tasks suspend, and cancels one of them at exactly one such place.

A `Probe` wraps the coroutines of the tasks that it is about, so it sees each future that a task
begins to wait for before the task itself does. It runs nothing and judges nothing: runs are in
`_cancel_trial`, what they show in `_cancel_report`.
"""

import asyncio
import linecache
import os
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final, Literal

from aioconc.testing._await_chain import await_chain, is_library

# "start": before its first step. "suspended": while what it awaits is pending. "ready": when that
# is done and the task has not gone on yet, so that what it was given may be lost.
Phase = Literal["start", "suspended", "ready"]

# A task as a target: whether it is one. None: the root alone.
Chooses = Callable[["asyncio.Task[Any]"], bool] | None

_ASYNCIO: Final = str(Path(asyncio.__file__).parent) + os.sep

# Suspensions after a cancel that are told one by one.
_MOST_DELAYS: Final = 5


@dataclass(frozen=True, slots=True)
class Where:
    """The await at which a task is: the innermost one outside asyncio and aioconc."""

    task: str
    site: str
    source: str


@dataclass(frozen=True, slots=True)
class Suspension:
    """One that was counted: where it was, and whether there was a future to wait for."""

    where: Where
    bare: bool


@dataclass(frozen=True, slots=True)
class Injection:
    """Where to cancel: the k-th suspension, or the k-th start, of the targets."""

    phase: Phase
    k: int


# Probe life:   counting or injecting -> over
# Rule 1: only the thread of the loop touches it.
# Rule 2: `victim` is set iff the cancel has been requested.
class Probe:
    """What one run does at its suspensions.

    Args:
        injection: where to cancel; None: count only.
        chooses: which tasks are targets; None: the root.
        roots: whether the root may be one.
    """

    def __init__(self, injection: Injection | None, chooses: Chooses, *, roots: bool) -> None:
        self._injection: Final = injection
        self._chooses: Final = chooses
        self._roots: Final = roots
        self.over = False
        # Targets so far, by the order of their creation or first suspension.
        self.targets: list[asyncio.Task[Any]] = []
        # Of those, the ones that could have been cancelled before their first step.
        self.starts: list[Where] = []
        # How many suspensions there were; in a run that only counts: which.
        self.count = 0
        self.suspensions: list[Suspension] = []
        self.victim: asyncio.Task[Any] | None = None
        # Where the victim was when it was cancelled, and then suspended again.
        self.where: Where | None = None
        self.delays: list[Where] = []
        self.delay_count = 0
        # What the victim had put under `asyncio.shield` and was waiting for.
        self.shielded: asyncio.Future[Any] | None = None

    # -- wrapping -----------------------------------------------------------------------------

    def start_root(self, create: Callable[..., Any], coro: Coroutine[Any, Any, Any]) -> Any:
        """The root's task, made by `create`."""
        return self._start(create, coro, root=True) if self._roots else create(coro)

    def wrap(self, create: Callable[..., Any]) -> Callable[..., Any]:
        """A `loop.create_task` whose tasks are watched."""

        def create_task(coro: Any, **options: Any) -> Any:
            if self.over or not asyncio.iscoroutine(coro) or _is_inner(coro):
                return create(coro, **options)
            return self._start(create, coro, options)

        return create_task

    def _start(
        self,
        create: Callable[..., Any],
        coro: Any,
        options: dict[str, Any] | None = None,
        *,
        root: bool = False,
    ) -> Any:
        probed = Probed(coro, self, root=root)
        task = create(probed, **(options or {}))
        probed.created = True
        return task

    def _is_target(self, probed: "Probed", task: "asyncio.Task[Any]") -> bool:
        if probed.is_target is None:
            # Not when it was created: `asyncio.TaskGroup` of Python 3.11 names it after that.
            chosen = self._chooses is None or bool(self._chooses(task))
            probed.is_target = chosen
            if chosen:
                probed.name = "root" if probed.root else _name(task, len(self.targets))
                self.targets.append(task)
        return probed.is_target

    # -- what happens at a step ---------------------------------------------------------------

    def cancels_start(self, probed: "Probed", coro: Any) -> bool:
        """The first step of a task is due: whether it is to find itself cancelled."""
        task = asyncio.current_task()
        if self.over or task is None or not self._is_target(probed, task):
            return False
        self.starts.append(Where(probed.name, _defined_at(coro), ""))
        if self._injection != Injection("start", len(self.starts) - 1):
            return False
        self.where = self.starts[-1]
        self._cancel(task, None)
        return True

    def suspended(self, probed: "Probed", awaited: Any) -> None:
        """The coroutine of a task has given `awaited` to wait for; None: to be called again."""
        task = asyncio.current_task()
        if self.over or task is None or not self._is_target(probed, task):
            return
        k = self.count = self.count + 1
        injection = self._injection
        if injection is None:
            self.suspensions.append(Suspension(_where(probed), awaited is None))
        elif self.victim is not None:
            if task is self.victim:
                self.delay_count += 1
                if len(self.delays) < _MOST_DELAYS:
                    self.delays.append(_where(probed))
        elif k == injection.k and injection.phase != "start":
            self.where = _where(probed)
            if injection.phase == "suspended" or awaited is None:
                # The task sees the request when it has registered its wake-up, and then cancels
                # what it waits for: as if somebody had cancelled it just after it suspended.
                self._cancel(task, awaited)
            else:
                # Ours comes before the task's own wake-up, which is registered after it.
                awaited.add_done_callback(lambda _: self._cancel(task, awaited))

    def _cancel(self, task: "asyncio.Task[Any]", awaited: Any) -> None:
        # Done, it went on before this was called: where what it awaits lets it go on at once.
        if not self.over and not task.done():
            self.victim = task
            self.shielded = _inside_shield(awaited)
            task.cancel()


class Probed(Coroutine[Any, Any, Any]):
    """Stands for a coroutine in its task, and tells the probe where it suspends.

    It has no `__next__`, so tasks call `send`.
    """

    def __init__(self, inner: Any, probe: Probe, *, root: bool) -> None:
        self._inner = inner
        self._probe = probe
        self.root = root
        # An eager task takes its first step before it is.
        self.created = False
        self._stepped = False
        # None: not decided yet.
        self.is_target: bool | None = None
        self.name = ""
        self.__name__ = getattr(inner, "__name__", type(inner).__name__)
        self.__qualname__ = getattr(inner, "__qualname__", self.__name__)

    def send(self, value: Any, /) -> Any:
        """As the coroutine's."""
        if not self._stepped:
            self._stepped = True
            if self.created and self._probe.cancels_start(self, self._inner):
                # What the task itself does at its first step, when it was cancelled before.
                return self.throw(asyncio.CancelledError())
        awaited = self._inner.send(value)
        self._probe.suspended(self, awaited)
        return awaited

    def throw(self, *error: Any) -> Any:
        """As the coroutine's."""
        self._stepped = True
        awaited = self._inner.throw(*error)
        self._probe.suspended(self, awaited)
        return awaited

    def close(self) -> None:
        """As the coroutine's."""
        self._inner.close()

    def get_coro(self) -> Any:
        """As a task's, for who follows the chain of awaits."""
        return self._inner

    def __await__(self) -> Generator[Any, Any, Any]:
        return _Awaited(self)

    def __getattr__(self, name: str) -> Any:
        # `cr_await`, `cr_frame`, `cr_code`, ...: stacks, wait graphs and reprs show the coroutine.
        return getattr(self._inner, name)

    def __repr__(self) -> str:
        return repr(self._inner)


class _Awaited(Generator[Any, Any, Any]):
    """A `Probed` as seen by who awaits it: a task factory may put a coroutine of its own around."""

    def __init__(self, probed: Probed) -> None:
        self._probed = probed

    def send(self, value: Any, /) -> Any:
        return self._probed.send(value)

    def throw(self, *error: Any) -> Any:
        return self._probed.throw(*error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._probed, name)


# -- reading ----------------------------------------------------------------------------------


def _where(probed: Any) -> Where:
    frame: FrameType | None = None
    # Not of the task: what a factory has put around is running just now, and hides the rest.
    links = await_chain(probed).links
    for link in reversed(links):
        if not is_library(link.frame):
            frame = link.frame
            break
    else:
        if links:
            frame = links[0].frame
    if frame is None:
        return Where(probed.name, "", "")
    file, line = frame.f_code.co_filename, frame.f_lineno
    source = linecache.getline(file, line).strip()
    return Where(probed.name, f"{file}:{line} in {frame.f_code.co_qualname}", source)


def _is_inner(coro: Any) -> bool:
    """Whether it is asyncio's own affair, such as the set-up of a connection."""
    code = getattr(coro, "cr_code", None)
    if code is None:
        return False
    return bool(code.co_name.startswith("_") and code.co_filename.startswith(_ASYNCIO))


def _defined_at(coro: Any) -> str:
    code = getattr(coro, "cr_code", None)
    if code is None:
        return getattr(coro, "__qualname__", repr(coro))
    return f"{code.co_filename}:{code.co_firstlineno} in {code.co_qualname}"


def _name(task: "asyncio.Task[Any]", number: int) -> str:
    name = task.get_name()
    if name != "None" and not name.startswith("Task-"):
        return name
    # Numbers of unnamed tasks go on from run to run: count them anew in each.
    return f"{getattr(task.get_coro(), '__name__', 'task')} #{number + 1}"


def _inside_shield(awaited: Any) -> "asyncio.Future[Any] | None":
    """What is shielded, where `awaited` is the outer future of an `asyncio.shield`."""
    callbacks = [entry[0] for entry in getattr(awaited, "_callbacks", None) or ()]
    held = [
        cell.cell_contents
        for each in callbacks
        if getattr(each, "__qualname__", "") == "shield.<locals>._outer_done_callback"
        for cell in each.__closure__ or ()
    ]
    return next(filter(asyncio.isfuture, held), None)
