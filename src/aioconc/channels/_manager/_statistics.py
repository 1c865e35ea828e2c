"""What shared objects tell of their state: how many wait, of all processes, and for what."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SharedLockStatistics:
    """The state of a shared lock, or of a condition and its lock.

    Attributes:
        waiting: how many wait for the lock, or to be notified.
        owner: the process that holds it, such as "process 4711"; None: nobody.
        owner_died: whether its last holder died, and nobody has recovered it yet.
    """

    waiting: int
    owner: str | None
    owner_died: bool

    @property
    def locked(self) -> bool:
        """Whether somebody holds it."""
        return self.owner is not None


@dataclass(frozen=True)
class SharedSemaphoreStatistics:
    """The state of a shared semaphore.

    Attributes:
        waiting: how many wait for a permit.
        permits_free: permits that can be taken at once.
    """

    waiting: int
    permits_free: int


@dataclass(frozen=True)
class SharedEventStatistics:
    """The state of a shared event.

    Attributes:
        waiting: how many wait for it.
        is_set: whether it is set.
    """

    waiting: int
    is_set: bool


@dataclass(frozen=True)
class SharedBarrierStatistics:
    """The state of a shared barrier.

    Attributes:
        waiting: how many wait.
        parties: how many pass together.
        broken: whether it is broken.
    """

    waiting: int
    parties: int
    broken: bool


@dataclass(frozen=True)
class SharedQueueStatistics:
    """The state of a shared queue.

    Attributes:
        items: how many can be taken at once.
        used: how many places are taken: by items, by those on their way to somebody, and by
            those that are about to be put.
        maxsize: how many there may be; <= 0: no bound.
        getters_waiting: how many wait for an item.
        putters_waiting: how many wait for room.
        joiners_waiting: how many wait in `join`.
        unfinished: items put, for which `task_done` was not called.
        shut_down: whether `shutdown` was called.
    """

    items: int
    used: int
    maxsize: int
    getters_waiting: int
    putters_waiting: int
    joiners_waiting: int
    unfinished: int
    shut_down: bool
