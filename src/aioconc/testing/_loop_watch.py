"""What a loop gave rise to while it was watched: tasks, async generators, reports of lost errors.

The loop's own methods are wrapped on the instance, not its task factory, which the program may
set or read meanwhile, and through which CPython 3.13.0 names every task "None". After the last
watch the loop is as it was.
"""

import asyncio
import contextlib
import sys
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import AsyncGeneratorType
from typing import Any, Final

from aioconc._internal._sites import Site, current_site, site_of
from aioconc.testing._await_chain import await_chain, call_site
from aioconc.testing._births import births
from aioconc.testing._process_state import Leak

_NEVER_RETRIEVED: Final = "exception was never retrieved"

# What uvloop makes without the standard library's sockets and processes.
_OPENERS: Final = (
    "create_connection",
    "create_server",
    "create_unix_connection",
    "create_unix_server",
    "create_datagram_endpoint",
    "subprocess_exec",
    "subprocess_shell",
)

AsyncGenerator = AsyncGeneratorType[Any, Any]


# Watch life:   one for each loop, from its first user to its last
# Rule 1: only the loop's thread touches it.
# Rule 2: a method that somebody else has wrapped in turn is left as it is.
class LoopWatch:
    """Tasks and async generators of one loop, with where they came from."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop: Final[Any] = loop
        self._users = 0
        self._wrapped: dict[str, tuple[Any, Any]] = {}
        self._hooks: tuple[Any, Any] = (None, None)
        self.tasks: weakref.WeakKeyDictionary[asyncio.Task[Any], Site | None] = (
            weakref.WeakKeyDictionary()
        )
        self.generators: weakref.WeakKeyDictionary[AsyncGenerator, Site | None] = (
            weakref.WeakKeyDictionary()
        )
        # Exceptions that nobody retrieved, as far as the loop has reported them.
        self.unretrieved: list[Leak] = []

    # -- watching -----------------------------------------------------------------------------

    def begin(self) -> None:
        """One more user."""
        self._users += 1
        if self._users == 1:
            self._wrap("create_task", self._wrap_create_task)
            self._wrap("call_exception_handler", self._wrap_report)
            if not isinstance(self._loop, asyncio.BaseEventLoop):
                for name in _OPENERS:
                    self._wrap(name, self._wrap_opener)
            self._hooks = sys.get_asyncgen_hooks()
            hook: Any = self._generator_begins  # gets what the interpreter itself made
            sys.set_asyncgen_hooks(firstiter=hook)

    def end(self) -> None:
        """One user less."""
        self._users -= 1
        if self._users:
            return
        for name, (ours, before) in self._wrapped.items():
            if vars(self._loop).get(name) is ours:
                if before is None:
                    delattr(self._loop, name)
                else:
                    setattr(self._loop, name, before)
        self._wrapped.clear()
        # When the loop was stopped and run again meanwhile, it has set its hooks anew.
        if sys.get_asyncgen_hooks().firstiter == self._generator_begins:
            sys.set_asyncgen_hooks(firstiter=self._hooks[0])
        _watches.pop(id(self._loop), None)

    def _wrap(self, name: str, wrap: Callable[[Any], Any]) -> None:
        before = vars(self._loop).get(name)
        ours = wrap(getattr(self._loop, name))
        setattr(self._loop, name, ours)
        self._wrapped[name] = (ours, before)

    def _wrap_create_task(self, original: Any) -> Any:
        def create_task(*args: Any, **kwargs: Any) -> Any:
            task = original(*args, **kwargs)
            if self._users:
                with contextlib.suppress(TypeError):  # a factory may give what has no weak refs
                    self.tasks[task] = current_site()
            return task

        return create_task

    def _wrap_report(self, original: Any) -> Any:
        def call_exception_handler(context: dict[str, Any]) -> None:
            if self._users and context.get("message", "").endswith(_NEVER_RETRIEVED):
                future, error = context.get("future"), context.get("exception")
                site = self.tasks.get(future) if isinstance(future, asyncio.Task) else None
                name = _name(future) if isinstance(future, asyncio.Task) else "a future"
                what = f"{type(error).__name__} of {name} that nobody retrieved: {error}"
                self.unretrieved.append(Leak("exception", what, site))
            original(context)

        return call_exception_handler

    def _wrap_opener(self, original: Any) -> Any:
        async def opener(*args: Any, **kwargs: Any) -> Any:
            site = current_site() if self._users else None
            made = await original(*args, **kwargs)
            if self._users:
                _note_opened(made, site)
            return made

        return opener

    def _generator_begins(self, generator: AsyncGenerator) -> None:
        if self._users:
            self.generators[generator] = current_site()
        if self._hooks[0] is not None:
            self._hooks[0](generator)

    # -- what there is ------------------------------------------------------------------------

    def open_generators(self) -> "weakref.WeakSet[AsyncGenerator]":
        """Async generators that have begun and not finished, as far as the loop knows them."""
        known = {*getattr(self._loop, "_asyncgens", ()), *self.generators}
        return weakref.WeakSet(each for each in known if each.ag_frame is not None)


_watches: Final[dict[int, LoopWatch]] = {}


@contextmanager
def watching(loop: asyncio.AbstractEventLoop) -> Generator[LoopWatch]:
    """The watch of this loop, shared with others."""
    watch = _watches.setdefault(id(loop), LoopWatch(loop))
    watch.begin()
    try:
        yield watch
    finally:
        watch.end()


class LoopState:
    """What a loop has at the beginning of a block, to be compared with later moments."""

    def __init__(self, watch: LoopWatch, loop: asyncio.AbstractEventLoop) -> None:
        self._watch = watch
        self._loop = loop
        self._tasks = weakref.WeakSet(asyncio.all_tasks(loop))
        self._generators = watch.open_generators()
        self._reported = len(watch.unretrieved)

    def new_tasks(self) -> list[Leak]:
        """Tasks that were not there and have not ended, but for the one that asks."""
        new = asyncio.all_tasks(self._loop) - {asyncio.current_task(self._loop)}
        new.difference_update(self._tasks)
        return [
            Leak("task", _describe(task), self._watch.tasks.get(task))
            for task in sorted(new, key=_name)
        ]

    def new_reports(self) -> list[Leak]:
        """Exceptions that nobody retrieved."""
        return self._watch.unretrieved[self._reported :]

    def new_generators(self) -> list[Leak]:
        """Async generators that began and have not finished."""
        new = self._watch.open_generators() - self._generators
        return [
            Leak("async generator", _where(each), self._watch.generators.get(each))
            for each in sorted(new, key=_where)
        ]


def _name(task: "asyncio.Task[Any]") -> str:
    coroutine: Any = task.get_coro()
    return f"{task.get_name()!r} ({getattr(coroutine, '__qualname__', coroutine)})"


def _describe(task: "asyncio.Task[Any]") -> str:
    return f"{_name(task)}, now at {call_site(await_chain(task))}"


def _where(generator: AsyncGenerator) -> str:
    frame: Any = generator.ag_frame
    at = "" if frame is None else f", now at {site_of(frame)}"
    return f"{generator.__qualname__}{at}"


def _note_opened(made: Any, site: Site | None) -> None:
    """What an opener of the loop gave: a server, or a transport with its protocol."""
    transport = made[0] if isinstance(made, tuple) else made
    if (pid := getattr(transport, "get_pid", lambda: None)()) is not None:
        births.note_process(pid, None, site)
        return
    sockets = getattr(transport, "sockets", None)
    if sockets is None:
        sockets = [transport.get_extra_info("socket")]
    for each in sockets:
        if each is not None:
            births.note_socket(each.fileno(), site)
