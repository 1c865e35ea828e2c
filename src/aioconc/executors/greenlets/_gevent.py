"""A gevent hub in a thread of its own: the only module that knows gevent.

Other threads post letters, which the hub reads between two greenlets; only in the hub's thread are
greenlets started, ended and woken. What the greenlets run, and when the hub is to end, is left to
`_gevent_pool`.
"""

import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from aioconc._bridge import _credits
from aioconc._bridge._credits import Credits
from aioconc._bridge._loop_calls import LoopCalls
from aioconc.errors import MissingExtra
from aioconc.executors._callables import name_of

_log = logging.getLogger("aioconc.executors")

Letter = Callable[[], object]

# Seconds that greenlets which nobody joined may take to clean up when the hub ends.
_STRAYS = 5.0


def load_gevent() -> Any:
    """The package, if it is installed and has not changed the threads of this process.

    Raises:
        MissingExtra: it is not installed.
        RuntimeError: it has replaced `threading`: there is no thread for a hub then.
    """
    try:
        import gevent
        from gevent import monkey
    except ImportError as error:
        raise MissingExtra(
            "GeventExecutor needs gevent, which is not installed; install aioconc[gevent]"
        ) from error
    if monkey.is_module_patched("threading"):
        raise RuntimeError(
            "GeventExecutor does not work under gevent.monkey.patch_all(), which turns the threads "
            "of this process, the event loop's too, into greenlets of one hub; leave the patch out, "
            "or pass thread=False and use gevent's own functions in what the executor runs"
        )
    return gevent


class Hub:
    """The hub, its thread, and the letters on their way to it."""

    # Hub life:  starting -> open -> ending -> gone
    #                    \-> failed: letters are called by who posts them, and find `failed` set
    # Rule 1: only the hub's thread touches gevent, but for `send` on the watcher, which may be used
    #         by any thread as long as it is open: `_watcher` is set and cleared under `_guard`.
    # Rule 2: letters must neither wait nor raise: they run in the hub itself.
    # Rule 3: a letter is appended before the watcher is told; one that is appended before the
    #         watcher exists is found by the first wake-up. `_woken` is set before the wake-up and
    #         cleared before the letters are read, so who still sees it set is in time to be read.

    def __init__(self, gevent: Any, name: str, prepare: Letter, then: Letter) -> None:
        """Start the thread.

        Args:
            gevent: the package.
            name: of the thread.
            prepare: called in the thread before the first letter.
            then: called in the thread once the hub is gone, as the last thing.
        """
        self._gevent = gevent
        self._prepare = prepare
        self._then = then
        # Why there is no hub.
        self.failed: BaseException | None = None
        self._guard = threading.Lock()
        self._watcher: Any = None
        self._letters: deque[Letter] = deque()
        self._woken = False
        self._end: Any = None
        self._hub: Any = None
        # Greenlets that were started in this hub, by whomever, and the name of what
        # they run.
        self._spawned: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        self.ending = False
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    # -- any thread -----------------------------------------------------------------------------

    def post(self, letter: Letter) -> None:
        """Have the hub call `letter` soon; nothing if it is gone."""
        self._letters.append(letter)
        if self._woken:
            return
        with self._guard:
            if self._watcher is not None:
                self._woken = True
                self._watcher.send()
        if self.failed is not None:
            self._call_letters()

    # -- the hub's thread -------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._hub = self._gevent.get_hub()
            watcher = self._hub.loop.async_()
            watcher.start(self._deliver)
            self._end = self.event()
        except BaseException as error:  # no descriptors left, for example
            with self._guard:
                self.failed = error
            self._call_letters()
            return
        self._gevent.Greenlet.add_spawn_callback(self._note)
        self._prepare()
        with self._guard:
            self._watcher = watcher
            watcher.send()
        self._end.wait()
        self._close()  # pragma: no cover - the tracer has lost its way by then

    def _close(self) -> None:
        self._gevent.Greenlet.remove_spawn_callback(self._note)
        self._end_strays()
        with self._guard:
            watcher, self._watcher = self._watcher, None
        watcher.stop()
        watcher.close()
        self._hub.destroy(destroy_loop=True)
        self._hub = None
        self._letters.clear()
        self._then()

    def _end_strays(self) -> None:
        """What a function started and did not join ends here, as a task would with its group."""
        left = [each for each in self._spawned if not each.dead]
        self._gevent.killall(left, block=False)
        self._gevent.joinall(left, timeout=_STRAYS)
        self._name(left)  # pragma: no cover - the tracer has lost its way by then

    def _name(self, greenlets: list[Any]) -> None:
        for each in greenlets:
            if not each.dead:
                what = self._spawned[each]
                _log.warning("%s ends, though %s, spawned in it, has not", self.thread.name, what)

    def _note(self, greenlet: Any) -> None:
        """A greenlet begins, in whatever hub."""
        if greenlet.parent is self._hub:
            self._spawned[greenlet] = name_of(greenlet._run)

    def _call_letters(self) -> None:
        """There is no hub. Several threads may do so at once."""
        with suppress(IndexError):
            while True:
                self._letters.popleft()()

    def _deliver(self) -> None:
        self._woken = False
        letters = self._letters
        for _ in range(len(letters)):  # later ones have a wake-up of their own
            letters.popleft()()

    def end(self) -> None:
        """Let the thread end; no greenlet may be left that anybody waits for."""
        self.ending = True
        self._end.set()

    def spawn(self, fn: Callable[..., object], *args: Any) -> None:
        """Start a greenlet, which must not raise."""
        self._gevent.spawn(fn, *args)

    def kill(self, greenlet: Any) -> None:
        """Have `GreenletExit` raised in a greenlet, where it waits."""
        greenlet.kill(block=False)

    def current(self) -> Any:
        """The greenlet that runs."""
        return self._gevent.getcurrent()

    def event(self) -> Any:
        """Something that greenlets can wait for."""
        from gevent.event import Event

        return Event()

    def semaphore(self, places: int) -> Any:
        """Permits that greenlets can wait for."""
        from gevent.lock import Semaphore

        return Semaphore(places)

    def is_exit(self, error: BaseException | None) -> bool:
        """Whether this is what `kill` raises."""
        return isinstance(error, self._gevent.GreenletExit)

    def is_timeout(self, error: BaseException | None) -> bool:
        """Whether this is gevent's time-out, which is not an `Exception`."""
        return isinstance(error, self._gevent.Timeout)


class HubCredits(Credits):
    """As `Credits`, but who waits is a greenlet, and the others of its hub go on."""

    __slots__ = ("_hub", "_permits")

    def __init__(self, hub: Hub, loop: Any, places: int) -> None:
        super().__init__(loop, places)
        self._hub = hub
        self._permits = hub.semaphore(places)

    def take(self, unwanted: Callable[[], bool]) -> bool:
        while not self._permits.acquire(timeout=_credits._LOOK):
            if self._loop.is_closed():  # pragma: no cover - as above
                return False
        return not unwanted()

    def give_back(self) -> None:
        self._hub.post(self._permits.release)


class HubLoopCalls(LoopCalls):
    """As `LoopCalls`, but who waits for the loop is a greenlet, and the others go on."""

    __slots__ = ("_hub",)
    _hub: Hub

    def _wait(self, outcome: "Future[Any]", seconds: float) -> bool:
        done = self._hub.event()
        outcome.add_done_callback(lambda _: self._hub.post(done.set))
        woken: bool = done.wait(seconds)
        return woken
