"""Whether the kernel has killed processes for want of memory: what its control groups count.

A SIGKILL that we did not send may have come from anybody; the counter of our group tells whether
it was the kernel. Where there is no counter, such a SIGKILL is suspected to be that.
"""

import threading
from pathlib import Path

_GROUPS = Path("/proc/self/cgroup")
_ROOT = Path("/sys/fs/cgroup")


class OutOfMemory:
    """Tells whether the counter has risen since it was asked last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen = count_kills()

    def ran_out(self) -> bool:
        """Whether a process of our group was killed since the last time, or that is not known."""
        with self._lock:
            before, self._seen = self._seen, count_kills()
            return before is None or self._seen is None or self._seen > before


def count_kills() -> int | None:
    """Processes of our control group killed for want of memory; None where that is not counted."""
    try:
        groups = _GROUPS.read_text().splitlines()
    except OSError:  # not Linux
        return None
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            found = _ROOT / "memory" / path.lstrip("/") / "memory.oom_control"
        elif not controllers:
            found = _ROOT / path.lstrip("/") / "memory.events"
        else:
            continue
        try:
            for entry in found.read_text().splitlines():
                name, _, value = entry.partition(" ")
                if name == "oom_kill":
                    return int(value)
        except (OSError, ValueError):
            continue
    return None
