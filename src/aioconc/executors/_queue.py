"""The jobs that wait for a worker: highest priority first, and first come first served within it."""

from collections import OrderedDict
from collections.abc import Iterator

from aioconc.executors._call import Job


class JobQueue:
    """Not thread-safe: the pool's lock is held around every call."""

    # Rule: no lane is empty, so that the highest priority, and whether there is a job, is one look
    #       away.
    def __init__(self) -> None:
        self.lanes: dict[int, OrderedDict[Job, None]] = {}

    def push(self, job: Job) -> None:
        """Add a job at the end of its lane."""
        lane = self.lanes.get(job.priority)
        if lane is None:
            lane = self.lanes[job.priority] = OrderedDict()
        lane[job] = None

    def pop(self) -> Job:
        """Take the first job of the highest priority. There must be one."""
        lanes = self.lanes
        # Nearly always there is one lane only.
        priority = next(iter(lanes)) if len(lanes) == 1 else max(lanes)
        job, _ = lanes[priority].popitem(last=False)
        if not lanes[priority]:
            del lanes[priority]
        return job

    def discard(self, job: Job) -> None:
        """Take a job out, if it is here."""
        lane = self.lanes.get(job.priority)
        if lane is not None and job in lane:
            del lane[job]
            if not lane:
                del self.lanes[job.priority]

    def clear(self) -> None:
        """Drop them all."""
        self.lanes.clear()

    def __len__(self) -> int:
        return sum(map(len, self.lanes.values()))

    def __bool__(self) -> bool:
        return bool(self.lanes)

    def __iter__(self) -> Iterator[Job]:
        for priority in sorted(self.lanes, reverse=True):
            yield from self.lanes[priority]
