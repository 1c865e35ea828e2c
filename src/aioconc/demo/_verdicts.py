"""Judges whether each planned fault was handled, from the journal alone.

A verdict says what happened to the page that had the fault, and what the fault did to others. It
is "pending" while the page is under way. Nothing here knows which executor or crawler was used, so
a better one gets better verdicts without a change here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from aioconc.demo._faults import RETRY_AFTER, Fault, Kind
from aioconc.demo._journal import Journal, Span
from aioconc.errors import WorkerCrashed

State = Literal["pending", "handled", "not handled yet"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one fault."""

    fault: Fault
    url: str
    state: State
    detail: str = ""


def judge(faults: Iterable[Fault], urls: dict[str, str], journal: Journal) -> list[Verdict]:
    """A verdict on each fault; `urls` gives the address of each faulty page, once it has one."""
    return [_judge(fault, urls.get(fault.page, ""), journal) for fault in faults]


def _judge(fault: Fault, url: str, journal: Journal) -> Verdict:
    if url in journal.pages:
        state, detail = _after_success(fault.kind, url, journal)
    elif url in journal.failures:
        state, detail = _after_failure(fault.kind, url, journal)
    else:
        reached = bool(journal.spans_of(url))
        over = journal.ended is not None
        detail = ("not finished when the run ended" if reached else "never reached") if over else ""
        return Verdict(fault, url, "not handled yet" if over else "pending", detail)
    return Verdict(fault, url, "handled" if state else "not handled yet", detail)


def _after_success(kind: Kind, url: str, journal: Journal) -> tuple[bool, str]:
    fetches = journal.spans_of(url, "fetch")
    last = fetches[-1]
    refused = [span for span in fetches if span.error]
    match kind:
        case Kind.FLAKY | Kind.RESET:
            return bool(refused), f"read at attempt {len(fetches)}, after {_reasons(refused)}"
        case Kind.THROTTLED:
            early = _started_in_pause(refused, journal)
            if not refused:
                return False, "the server never refused"
            if early:
                return False, f"{early} requests went to the host in the pause it had asked for"
            return True, f"the host was left alone for {RETRY_AFTER} s, then the page was read"
        case Kind.SLOW:
            meanwhile = _finished_during(last, journal)
            return (
                meanwhile > 0,
                f"answered after {last.seconds:.1f} s; {meanwhile} pages meanwhile",
            )
        case _:
            return False, "the page was read as if nothing were wrong"


def _after_failure(kind: Kind, url: str, journal: Journal) -> tuple[bool, str]:
    error = journal.failures[url]
    fetches, parses = journal.spans_of(url, "fetch"), journal.spans_of(url, "parse")
    match kind:
        case Kind.BROKEN if error.stage == "fetch":
            return True, f"given up after {len(fetches)} attempts: {_reasons(fetches)}"
        case Kind.UNPICKLABLE if error.stage == "parse" and len(parses) == 1:
            return True, f"arrived as {type(error.reason).__name__}; its worker went on"
        case Kind.HANG if isinstance(error.reason, TimeoutError):
            seconds = parses[-1].seconds
            if "abandoned" in journal.fates:
                return False, (
                    f"given up after {seconds:.1f} s, but the executor cannot kill one call: "
                    "its worker is lost until the pool is replaced"
                )
            return True, f"its worker was killed after {seconds:.1f} s and replaced"
        case Kind.CRASH if error.stage == "parse":
            return _crash(url, journal)
        case _:
            return False, f"the page was lost: {error}"


def _crash(url: str, journal: Journal) -> tuple[bool, str]:
    hit = {
        span.url
        for span in journal.spans
        if span.stage == "parse" and span.error_type == "WorkerCrashed" and span.url != url
    }
    lost = sum(
        each in journal.failures and isinstance(journal.failures[each].reason, WorkerCrashed)
        for each in hit
    )
    times = len(journal.spans_of(url, "parse"))
    crashes = f"crashed its worker {times} time{'s' * (times > 1)}"
    if lost:
        were = "page was" if lost == 1 else "pages were"
        return False, f"{crashes}; {lost} other {were} lost with it"
    if hit:
        again = "page" if len(hit) == 1 else "pages"
        return False, f"{crashes}; {len(hit)} other {again} had to be parsed again, none was lost"
    return True, f"{crashes}; no other page noticed"


def _reasons(spans: Sequence[Span]) -> str:
    """The distinct errors of some attempts, with their number."""
    counted: dict[str, int] = {}
    for span in spans:
        word = str(span.status) if span.status else span.error_type
        counted[word] = counted.get(word, 0) + 1
    return ", ".join(f"{count} x {word}" if count > 1 else word for word, count in counted.items())


def _started_in_pause(refused: Sequence[Span], journal: Journal) -> int:
    """Requests to the same host that began while it had asked for silence."""
    count = 0
    for refusal in refused:
        assert refusal.ended is not None
        until = refusal.ended + RETRY_AFTER * 0.95  # clocks of two processes
        count += sum(
            span.stage == "fetch"
            and span.host == refusal.host
            and refusal.ended < span.started < until
            for span in journal.spans
        )
    return count


def _finished_during(slow: Span, journal: Journal) -> int:
    assert slow.ended is not None
    return sum(
        slow.started < span.ended < slow.ended
        for span in journal.spans
        if span.stage == "index" and span.ended is not None
    )
