"""The eight things that go wrong in the demo, and which page each happens to.

`plan_faults` draws the pages with a seed, so that a run can be repeated. The server causes the
first five; the last three are in the parser, at pages that the server has marked. Whether a fault
was handled is judged elsewhere, from what really happened.
"""

import os
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn

from aioconc.demo._parse import Page, parse

SLOW_SECONDS = 2.0
RETRY_AFTER = 1
# Requests that carry the same name here share one history of faults; "none" has no faults.
RUN_HEADER = "X-Demo-Run"
MARK = '<meta name="aioconc-demo-fault" content="{}">'


class Kind(StrEnum):
    """What goes wrong."""

    FLAKY = "flaky"
    BROKEN = "broken"
    THROTTLED = "throttled"
    SLOW = "slow"
    RESET = "reset"
    UNPICKLABLE = "unpicklable"
    HANG = "hang"
    CRASH = "crash"


TITLES = {
    Kind.FLAKY: "500 twice, then fine",
    Kind.BROKEN: "500 for ever",
    Kind.THROTTLED: f"429 with Retry-After: {RETRY_AFTER}",
    Kind.SLOW: f"a host that takes {SLOW_SECONDS:g} s to answer",
    Kind.RESET: "connection reset in mid-body",
    Kind.UNPICKLABLE: "parser raises what cannot be unpickled",
    Kind.HANG: "parser hangs for ever",
    Kind.CRASH: "parser calls os._exit",
}
# A good crawler still gets these pages; of the others it reports that they cannot be had.
CURABLE = frozenset((Kind.FLAKY, Kind.THROTTLED, Kind.SLOW, Kind.RESET))


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault and the page that it happens to."""

    kind: Kind
    page: str

    @property
    def title(self) -> str:
        return TITLES[self.kind]


def plan_faults(
    pages: Sequence[str], seed: int, kinds: Sequence[Kind] = tuple(Kind)
) -> tuple[Fault, ...]:
    """One page for each kind of fault, drawn with `seed`.

    Example:
        >>> [fault.page for fault in plan_faults(["a", "b", "c"], 1, [Kind.SLOW, Kind.HANG])]
        ['a', 'c']
    """
    if len(pages) < len(kinds):
        raise ValueError(f"{len(kinds)} faults need as many pages, got {len(pages)}")
    drawn = random.Random(f"faults {seed}").sample(sorted(pages), len(kinds))
    return tuple(Fault(kind, page) for kind, page in zip(kinds, drawn, strict=True))


def mark(html: str, kind: Kind) -> str:
    """The page with a mark that makes `parse_with_faults` misbehave."""
    return html.replace("<head>", f"<head>{MARK.format(kind)}", 1)


class ParserBug(Exception):
    """Pickles well and cannot be unpickled, as many exceptions with arguments of their own."""

    def __init__(self, *, line: int) -> None:
        super().__init__(f"cannot read line {line}")


def parse_with_faults(url: str, html: str) -> Page:
    """`parse`, except at pages that carry a mark."""
    head = html[:600]
    if MARK.format(Kind.CRASH) in head:
        _crash()
    if MARK.format(Kind.HANG) in head:
        threading.Event().wait()  # never set: a deadlock, the kind of hang that burns no power
    if MARK.format(Kind.UNPICKLABLE) in head:
        raise ParserBug(line=17)
    return parse(url, html)


def _crash() -> NoReturn:
    os._exit(13)
