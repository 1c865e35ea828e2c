"""The index: every section of every page in one SQLite file with full-text search.

Plain blocking code, called through `offload_io`; a lock lets any thread call it. Each page is one
transaction, so what was indexed stays when the program is interrupted.
"""

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from aioconc.demo._parse import Page


class Hit(NamedTuple):
    """A section that was found."""

    url: str
    page: str
    title: str
    anchor: str
    text: str


class Index:
    """A full-text index in `file`, which is made anew.

    Example:
        >>> import tempfile
        >>> from aioconc.demo._parse import parse
        >>> with tempfile.TemporaryDirectory() as folder, Index(Path(folder, "i.sqlite")) as index:
        ...     _ = index.add(parse("http://a/", "<h1>Birds</h1>A heron stands still."))
        ...     [hit.title for hit in index.search("heron")]
        ['Birds']
    """

    def __init__(self, file: Path) -> None:
        for suffix in ("", "-wal", "-shm", "-journal"):
            file.with_name(file.name + suffix).unlink(missing_ok=True)
        self._lock = threading.Lock()
        self._base = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        # Losing the last pages in a power cut is fine here; a crash of the program loses none.
        self._base.execute("PRAGMA synchronous = OFF")
        self._base.execute("CREATE TABLE pages (url TEXT PRIMARY KEY, title TEXT, words INTEGER)")
        self._base.execute(
            "CREATE VIRTUAL TABLE sections USING fts5"
            "(title, text, url UNINDEXED, page UNINDEXED, anchor UNINDEXED)"
        )

    def add(self, page: Page) -> str:
        """Put a page and its sections in; returns the name of the thread that did it."""
        with self._lock:
            self._base.execute("BEGIN")
            try:
                self._base.execute(
                    "INSERT INTO pages VALUES (?, ?, ?)", (page.url, page.title, page.words)
                )
                self._base.executemany(
                    "INSERT INTO sections VALUES (?, ?, ?, ?, ?)",
                    [
                        (part.title, part.text, page.url, page.title, part.anchor)
                        for part in page.sections
                    ],
                )
            except BaseException:
                self._base.execute("ROLLBACK")
                raise
            self._base.execute("COMMIT")
        return threading.current_thread().name

    def search(self, words: str, most: int = 10) -> list[Hit]:
        """Sections that have all the words, best first."""
        query = " ".join('"' + word.replace('"', '""') + '"' for word in words.split())
        if not query:
            return []
        with self._lock:
            rows = self._base.execute(
                "SELECT url, page, title, anchor, text FROM sections WHERE sections MATCH ? "
                "ORDER BY bm25(sections, 8.0, 1.0) LIMIT ?",
                (query, most),
            ).fetchall()
        return [Hit(*row) for row in rows]

    def close(self) -> None:
        with self._lock:
            self._base.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def read_sections(file: Path) -> Iterator[Hit]:
    """All sections of an index that is closed, in the order in which they were added."""
    if not file.exists():
        return
    base = sqlite3.connect(file)
    try:
        for row in base.execute("SELECT url, page, title, anchor, text FROM sections"):
            yield Hit(*row)
    finally:
        base.close()
