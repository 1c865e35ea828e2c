"""One time that a loop was held up: what is known of it, and how that reads.

Filled by `_stall_report`; says nothing by itself.
"""

from dataclasses import dataclass
from traceback import StackSummary
from typing import Final, Literal

Cause = Literal["code", "gc", "gil", "debugger", "suspended"]

_WORDS: Final[dict[Cause, str]] = {
    "code": "by {}",
    "gc": "by the garbage collector, in {}",
    "gil": "by another thread that kept the interpreter to itself, while the loop was at {}",
    "debugger": "by a debugger, at {}",
    "suspended": "while the process did nothing at all, as when it is stopped, at {}",
}


@dataclass(frozen=True)
class LoopStall:
    """One time that the event loop was held up.

    Attributes:
        seconds: for how long; at most half of the threshold too little.
        cause: as far as can be told. "code": a callback or a step of a task computed, or waited in
            a blocking call; "gc": more than half of the time went to the garbage collector; "gil":
            other threads kept the interpreter to themselves; "debugger": the loop's thread was in
            one; "suspended": no thread of the process ran, as when it is stopped by a signal.
        task: name of the task whose step it was, None for a plain callback.
        where: the line of the user's code to look at: in the loop's thread, or, if the loop was idle
            when another thread took the interpreter, in that one, as far as can be told. Empty
            where nothing is known.
        stack: the loop's stack from the callback inwards, as it was seen most often.
        gc_seconds: how much of it was the garbage collector.
        ongoing: it had not ended when this was told.
        suppressed: how many stalls before this one were not told, since there were too many.
    """

    seconds: float
    cause: Cause
    task: str | None
    where: str
    stack: StackSummary
    gc_seconds: float
    ongoing: bool
    suppressed: int

    def __str__(self) -> str:
        has = "has been" if self.ongoing else "was"
        text = f"the event loop {has} held up for {self.seconds:.3f} s "
        words = _WORDS[self.cause]
        if self.where and self.cause == "gil" and not self.stack:
            text += (
                f"by another thread that kept the interpreter to itself, perhaps at {self.where}"
            )
        elif self.where:
            text += words.format(self.where)
        else:
            text += "by what was not seen" if self.cause == "code" else words.rpartition(",")[0]
        if self.task is not None:
            text += f", task {self.task!r}"
        if self.gc_seconds >= 0.001:
            text += f" ({self.gc_seconds:.3f} s of it garbage collection)"
        if self.suppressed:
            text += f"; {self.suppressed} stalls before it were not told"
        return "\n".join([text, *"".join(self.stack.format()).splitlines()])
