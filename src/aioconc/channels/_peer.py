"""How the process at the other end has ended, if it is a child of this one.

It is looked at and left to whoever waits for it.
"""

import os
import sys
from time import monotonic
from typing import Any, Final

# Seconds in which a process that dies is gone for good after its descriptors are closed. The
# kernel does one right after the other, but on a busy machine not in the same time slice.
_SOON: Final = 0.25

# Seconds between two looks.
_LOOK: Final = 0.001


class LastLook:
    """Asks for the exit status of a process that has let go of its descriptors.

    Args:
        pid: of the process; None: unknown.
    """

    def __init__(self, pid: int | None) -> None:
        self._pid = pid
        self._end = monotonic() + _SOON
        self.exitcode: int | None = None

    def pause(self) -> float | None:
        """Seconds until one should look again; None: `exitcode` says what can be known."""
        pid = self._pid
        if not pid or pid == os.getpid() or not hasattr(os, "waitid"):
            return None
        try:
            # WNOWAIT leaves it to be waited for by whoever has started it.
            found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            popen = _of_multiprocessing(pid)
            if popen is None:
                return None
            self.exitcode = popen.poll()
            return _LOOK if self.exitcode is None and monotonic() < self._end else None
        if found is not None:
            exited = found.si_code == os.CLD_EXITED
            self.exitcode = found.si_status if exited else -found.si_status
            return None
        return _LOOK if monotonic() < self._end else None


def _of_multiprocessing(pid: int) -> Any:
    """What `multiprocessing` knows of a process that it has waited for, or that another process of
    its own has started (forkserver).
    """
    module: Any = sys.modules.get("multiprocessing.process")
    for each in tuple(getattr(module, "_children", ())):
        if each._popen is not None and each._popen.pid == pid:
            return each._popen
    return None
