"""`Schedule`: which task runs when, as a value that prints, parses and replays.

A schedule is written down as its deviations from the order in which asyncio would run the tasks,
so the usual order is the empty schedule and a finding is two or three integers. What a deviation
does to the queue is in `_policies`.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

# Letter that a schedule's text begins with -> what its numbers are.
_FORMS: Final = re.compile(
    r"(?P<fifo>fifo)"
    r"|d(?P<demotions>\d+(?:,\d+)*)"
    r"|p(?P<picks>\d+:\d+(?:,\d+:\d+)*)"
    r"|r(?P<random>\d+)"
    r"|pct(?P<pct>\d+)"
)


@dataclass(frozen=True)
class Schedule:
    """An order of task steps, told by where it leaves the usual one.

    Choice points are numbered from 0: a step is one when at least two callbacks could run next.
    At most one kind of deviation is set.

    Args:
        demotions: choice points, ascending, at which the task whose turn it is falls behind all
            others for good: it then runs only while none of them can. `d2` in text.
        picks: choice point -> which candidate runs, counted from 0 in the order of arrival.
            `p3:1,9:2` in text.
        random: seed of a random choice at each point. `r42` in text.
        pct: seed of random priorities with random demotions (probabilistic concurrency testing,
            Burckhardt et al., ASPLOS 2010). `pct42` in text.

    Example:
        >>> Schedule.parse("d2,7")
        Schedule.parse('d2,7')
        >>> str(Schedule())
        'fifo'
    """

    demotions: tuple[int, ...] = ()
    picks: tuple[tuple[int, int], ...] = ()
    random: int | None = None
    pct: int | None = None

    def __post_init__(self) -> None:
        kinds = [
            bool(self.demotions),
            bool(self.picks),
            self.random is not None,
            self.pct is not None,
        ]
        if sum(kinds) > 1:
            raise ValueError("a Schedule has one kind of deviation, got several")
        points = self.demotions or tuple(point for point, _ in self.picks)
        if any(point < 0 for point in points) or sorted(set(points)) != list(points):
            raise ValueError(f"choice points must be ascending ints >= 0, got {points}")

    @classmethod
    def parse(cls, text: str) -> "Schedule":
        """The schedule that `text`, as printed in a failure, stands for.

        Raises:
            ValueError: `text` is no schedule.
        """
        found = _FORMS.fullmatch(text.strip())
        if found is None:
            raise ValueError(
                f"a schedule reads like 'fifo', 'd2,7', 'p3:1,9:2', 'r42' or 'pct42', got {text!r}"
            )
        if numbers := found["demotions"]:
            return cls(demotions=tuple(map(int, numbers.split(","))))
        if numbers := found["picks"]:
            pairs = (pair.split(":") for pair in numbers.split(","))
            return cls(picks=tuple((int(point), int(rank)) for point, rank in pairs))
        if numbers := found["random"]:
            return cls(random=int(numbers))
        if numbers := found["pct"]:
            return cls(pct=int(numbers))
        return cls()

    def __str__(self) -> str:
        if self.demotions:
            return "d" + ",".join(map(str, self.demotions))
        if self.picks:
            return "p" + ",".join(f"{point}:{rank}" for point, rank in self.picks)
        if self.random is not None:
            return f"r{self.random}"
        if self.pct is not None:
            return f"pct{self.pct}"
        return "fifo"

    def __repr__(self) -> str:
        return f"Schedule.parse({str(self)!r})"


def check_schedule(schedule: Any) -> None:
    """A Schedule or None; its text is refused, with the right line."""
    if schedule is None or isinstance(schedule, Schedule):
        return
    hint = f"; did you mean Schedule.parse({schedule!r})?" if isinstance(schedule, str) else ""
    raise TypeError(f"schedule must be a Schedule or None, got {schedule!r}{hint}")
