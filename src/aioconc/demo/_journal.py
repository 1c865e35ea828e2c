"""What happened in a crawl, noted as it happens: one `Span` for every step of every page.

The screen, the fault table and the report all read the same journal, so what they show is what
took place. Notes are small and hold no page; the text of pages goes into the index.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from aioconc.demo._parse import Page

Stage = Literal["fetch", "parse", "index"]


@dataclass(slots=True)
class Span:
    """One attempt at one step of one page; `ended` is None while it goes on."""

    url: str
    stage: Stage
    started: float
    ended: float | None = None
    error: str = ""
    error_type: str = ""
    status: int | None = None

    @property
    def host(self) -> str:
        return host_of(self.url)

    @property
    def seconds(self) -> float:
        return (self.ended if self.ended is not None else time.monotonic()) - self.started


@dataclass(frozen=True, slots=True)
class PageNote:
    """What the report needs of a page that was read."""

    url: str
    title: str
    words: int
    sections: int
    links: int
    sketch: tuple[int, ...]
    pid: int
    started: float
    seconds: float


class PageError(Exception):
    """What went wrong at one step of one page: the page, the step, and the reason as the cause."""

    def __init__(self, url: str, stage: Stage, reason: Exception) -> None:
        super().__init__(url, stage, reason)
        self.url = url
        self.stage = stage
        self.reason = reason

    def __str__(self) -> str:
        kind = type(self.reason).__name__
        return f"{kind}: {self.reason}" if str(self.reason) else kind


@dataclass
class Journal:
    """All notes of one crawl."""

    started: float = field(default_factory=time.monotonic)
    ended: float | None = None
    spans: list[Span] = field(default_factory=list)
    running: set[int] = field(default_factory=set)
    pages: dict[str, PageNote] = field(default_factory=dict)
    failures: dict[str, PageError] = field(default_factory=dict)
    fates: list[str] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)
    found: int = 0

    @contextmanager
    def span(self, url: str, stage: Stage) -> Iterator[Span]:
        """Note one step of a page: when it began, when it ended and how.

        An exception leaves as a `PageError`, which says what page it belongs to.
        """
        span = Span(url, stage, time.monotonic())
        number = len(self.spans)
        self.spans.append(span)
        self.running.add(number)
        try:
            yield span
        except BaseException as error:
            span.error_type = type(error).__name__
            span.error = str(error) or span.error_type
            span.status = getattr(error, "status", None)
            if isinstance(error, Exception):
                raise PageError(url, stage, error) from error
            raise
        finally:
            span.ended = time.monotonic()
            self.running.discard(number)

    def read(self, page: Page) -> None:
        """The page is in the index."""
        self.pages[page.url] = PageNote(
            page.url,
            page.title,
            page.words,
            len(page.sections),
            len(page.links),
            page.sketch,
            page.pid,
            page.started,
            page.seconds,
        )

    def gave_up(self, error: PageError) -> None:
        """The page cannot be had."""
        self.failures[error.url] = error

    def spans_of(self, url: str, stage: Stage | None = None) -> list[Span]:
        return [
            span
            for span in self.spans
            if span.url == url and (stage is None or span.stage == stage)
        ]

    def in_flight(self, stage: Stage) -> int:
        return sum(self.spans[number].stage == stage for number in self.running)

    @property
    def seconds(self) -> float:
        return (self.ended if self.ended is not None else time.monotonic()) - self.started


def host_of(url: str) -> str:
    """The host that serves `url`, without the port."""
    return urlsplit(url).hostname or ""
