"""One letter box for each event loop, through which other threads deliver.

Any thread may post; the loop is woken once for all that has come in by then, so a burst of
finished calls costs one wake-up. A closed loop takes nothing more: `post` says so and the sender
decides. Keeps no loop alive.
"""

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import Callable

Letter = Callable[[], object]


class Mailbox:
    """The letters on their way to one loop."""

    # Rule: `_woken` is set before the wake-up and cleared before the letters are read. A poster
    # that still sees it set has therefore appended in time to be read; two posters that both see
    # it clear cost one wake-up too many, which does nothing.
    __slots__ = ("__weakref__", "_letters", "_woken", "awaited")

    def __init__(self) -> None:
        # Calls in other threads whose end this loop waits for, but for those that wait for the
        # loop themselves. Changed in the loop's thread; a loop in virtual time stands still for it.
        self.awaited = 0
        self._letters: deque[Letter] = deque()
        self._woken = False

    def post(self, loop: asyncio.AbstractEventLoop, letter: Letter) -> bool:
        """Have `loop` call `letter` soon; False if the loop is closed."""
        self._letters.append(letter)
        try:
            if not self._woken:
                self._woken = True
                loop.call_soon_threadsafe(self._deliver)
                return True
        except RuntimeError:
            if not loop.is_closed():
                raise
        if not loop.is_closed():
            return True
        self._woken = False
        self._letters.clear()
        return False

    def _deliver(self) -> None:
        self._woken = False
        letters = self._letters
        try:
            # Only those here by now: later ones have a wake-up of their own, and a worker that
            # never stops reporting must not hold the loop here.
            for _ in range(len(letters)):
                letters.popleft()()
        except BaseException:
            # KeyboardInterrupt stops the loop in the middle of a batch. It is often run again, to
            # cancel what is left, and must then find the letters behind.
            if letters:
                asyncio.get_running_loop().call_soon(self._deliver)
            raise


_mailboxes: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Mailbox]" = (
    weakref.WeakKeyDictionary()
)
# A finalizer that posts may run at a line that has it.
_lock = threading.RLock()
# The loop that asked last, nearly always the one that asks next: a third of the look-up. One
# tuple, so that threads see a loop with its own mailbox.
_latest: tuple[Callable[[], object], Mailbox] = (lambda: None, Mailbox())


def mailbox_of(loop: asyncio.AbstractEventLoop) -> Mailbox:
    """The mailbox of a loop. Any thread may ask."""
    global _latest
    known, latest = _latest
    if known() is loop:
        return latest
    mailbox = _mailboxes.get(loop)
    if mailbox is None:
        with _lock:
            mailbox = _mailboxes.setdefault(loop, Mailbox())
    _latest = (weakref.ref(loop), mailbox)
    return mailbox
