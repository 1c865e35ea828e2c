"""A process that runs a worker: its id, a descriptor of it where the system has them, and its end.

`ChildProcess` is one that this process has started itself; those forked from a template have
another parent, and are in `_template`. How a process is started is left to others.
"""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable

from aioconc._bridge._service import service


class Process:
    """What is known of such a process, and can be done to it."""

    # Rule: a signal is sent, and the process waited for, under `_lock`: its id may mean another
    #       process as soon as it was waited for.
    def __init__(self, pid: int, pidfd: int) -> None:
        self._lock = threading.Lock()
        self._over = False
        self.pid = pid
        # Readable once it has ended; -1 on an old kernel, or in a sandbox.
        self.pidfd = pidfd
        # None while it runs, and if nobody can tell how it ended.
        self.exitcode: int | None = None

    def has_ended(self) -> bool:
        """Look, without waiting; one that has ended leaves no zombie."""
        raise NotImplementedError

    def watch(self, look: Callable[[], object]) -> None:
        """In the service: have `look` called when it may have ended, if the system tells."""
        if self.pidfd >= 0:
            service().loop.add_reader(self.pidfd, look)

    def unwatch(self) -> None:
        """In the service: look no more."""
        if self.pidfd >= 0:
            service().loop.remove_reader(self.pidfd)

    def kill(self) -> None:
        """Send SIGKILL, if it has not ended. Any thread may call it."""
        with self._lock:
            if self._over:
                return
            with contextlib.suppress(ProcessLookupError):
                if self.pidfd >= 0:
                    signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
                else:
                    os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Close the descriptor; once it has ended."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


class ChildProcess(Process):
    """A process that was started here.

    Args:
        popen: the process, just started.
    """

    def __init__(self, popen: "subprocess.Popen[bytes]") -> None:
        pidfd = -1
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):
                pidfd = os.pidfd_open(popen.pid)
        super().__init__(popen.pid, pidfd)
        self._popen = popen

    def has_ended(self) -> bool:
        with self._lock:
            if self._over:
                return True
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                pass  # the program waits for children that are not its own, or ignores SIGCHLD
            else:
                if not pid:
                    return False
                self.exitcode = os.waitstatus_to_exitcode(status)
            self._over = True
            self._popen.returncode = self.exitcode or 0  # else it would complain when it is deleted
            return True

    def end_now(self) -> None:
        """Kill it, and wait for the moment that this takes."""
        self.kill()
        self._popen.wait()


def how_ended(exitcode: int | None) -> str:
    """How a process ended, in words."""
    if exitcode is None:
        return "ended, and somebody else has waited for it"
    if exitcode < 0:
        try:
            name = signal.Signals(-exitcode).name
        except ValueError:
            name = f"signal {-exitcode}"
        return f"was killed by {name}"
    return f"ended with exit status {exitcode}"
