"""Descriptors inside of values: an object that owns one travels between processes with it.

The object says so where it is pickled, and takes its descriptor where it is made anew:

    def __reduce__(self):
        return _rebuild, (pass_on(self._sock.fileno(), owner=self),)

    def _rebuild(passed: Passed) -> Channel:
        return Channel(socket(fileno=passed.take()))

That works in what a process call sends, there and back (arguments, results, items, reports), in the
items of a channel, in the `initargs` of an executor, which then keeps a copy as long as it lives, and
while `multiprocessing` starts a process by spawn or forkserver. The object may close its own descriptor as soon as it is
pickled (with `multiprocessing`: once the process was started); it may be pickled again where a
chunk of a map is sent again, so pickling alone should not end it. What is never taken is closed.
Everywhere else `pass_on` refuses.
"""

import os
import sys
from _thread import _local

from aioconc._wire._descriptors import MOST, Descriptor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Here(_local):
    """What this thread is pickling and unpickling; lists that grow, or are read, by place."""

    leaving: "list[Descriptor] | None" = None
    arriving: "list[Descriptor] | None" = None


here = _Here()


class Passed:
    """A descriptor on its way to another process, or one that has arrived."""

    # Rule: what leaves is in `here.leaving`, which is closed whatever becomes of the pickle; this
    # one only says where.
    __slots__ = ("_descriptor", "_reduced")

    def __init__(self, descriptor: "Descriptor | None", reduced: "Any" = None) -> None:
        self._descriptor = descriptor
        self._reduced = reduced

    def take(self) -> int:
        """A descriptor of your own, not inherited by an exec; it can be taken once.

        Raises:
            RuntimeError: it was taken.
            OSError: it did not arrive, since this process has too many open files.
        """
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            raise RuntimeError("this descriptor was taken already: take() gives it once")
        return descriptor.detach()

    def __reduce__(self) -> "Any":
        if self._reduced is not None:
            return self._reduced
        if self._descriptor is None:
            raise TypeError("this descriptor was taken already: pass on what has taken it")
        return pass_on(self._descriptor.fd, owner=self)._reduced


def pass_on(fd: int, *, close: bool = False, owner: object = None) -> Passed:
    """What to pickle in place of a descriptor; called by the `__reduce__` of the object it is in.

    Args:
        fd: of this process; a copy of it is sent.
        close: take over `fd`, and close it whatever becomes of it.
        owner: the object that is pickled, for the error.

    Returns:
        What is to be pickled at once, and not to be kept.

    Raises:
        TypeError: what is pickled here is not sent with its descriptors.
        ValueError: there are too many for one message.
        OSError: this process has too many open files.
    """
    own = Descriptor(fd) if close else None
    leaving = here.leaving
    if leaving is not None:
        if len(leaving) >= MOST:
            raise ValueError(
                f"one message takes along at most {MOST} descriptors, got more; send them in "
                "several calls"
            )
        leaving.append(own or Descriptor(os.dup(fd)))
        return Passed(None, (_arrive, (len(leaving) - 1,)))
    context: Any = sys.modules.get("multiprocessing.context")
    starting = None if context is None else context.get_spawning_popen()
    if starting is not None and sys.platform != "win32":
        if own is not None:  # it is handed on by number, later
            import weakref

            weakref.finalize(starting, os.close, own.detach())
        from multiprocessing.reduction import DupFd

        return Passed(None, (_inherit, (DupFd(fd),)))
    what = (
        f"descriptor {fd}" if owner is None else f"{type(owner).__name__}, which has a descriptor,"
    )
    raise TypeError(
        f"{what} cannot be pickled here: it travels in arguments and results of ProcessExecutor "
        "calls, in items of a channel, and to a process that multiprocessing starts by spawn or "
        "forkserver; pass it there"
    )


def _arrive(place: int) -> Passed:
    """Called where it is unpickled."""
    arriving = here.arriving
    if arriving is None or place >= len(arriving):
        raise TypeError(
            "a descriptor did not come with what is unpickled here: it travels with one message, "
            "to one process, and its pickle cannot be kept or sent in another way"
        )
    return Passed(arriving[place])


def _inherit(handed_on: "Any") -> Passed:
    """Called in a process that `multiprocessing` has started."""
    fd: int = handed_on.detach()
    os.set_inheritable(fd, False)
    return Passed(Descriptor(fd))
