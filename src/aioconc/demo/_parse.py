"""A web page taken apart: its sections, its links, and a fingerprint of its text.

`parse` is a plain function of two strings, so it can run in any process; it costs far more than
fetching the page did, which is why the crawl sends it away from the event loop. It knows pydoc's
pages (an entry for each class, method and function) and any HTML with headings and anchors.
"""

import os
import re
import time
import zlib
from dataclasses import dataclass
from html.parser import HTMLParser
from random import Random
from urllib.parse import urldefrag, urljoin

# Numbers in a fingerprint. Two pages agree in as many of them as their texts have shingles in
# common, to within one part in eight (one over the square root).
SKETCH_SIZE = 64
SHINGLE_WORDS = 5

_PRIME = (1 << 31) - 1
_random = Random(2026)
_LINES = [(_random.randrange(1, _PRIME), _random.randrange(_PRIME)) for _ in range(SKETCH_SIZE)]

_WORD = re.compile(r"[^\W\d_]\w*")
_HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
_UNSEEN = frozenset(("script", "style", "template"))
_BREAKS = frozenset(("p", "br", "div", "td", "tr", "li", "dd", "dt", "dl", "table", "hr", "pre"))


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page that can be found by itself: its title, anchor and text."""

    title: str
    anchor: str
    text: str


@dataclass(frozen=True, slots=True)
class Page:
    """What a page says and where it points, and who read it: `started` is `time.monotonic()`."""

    url: str
    title: str
    sections: tuple[Section, ...]
    links: tuple[str, ...]
    words: int
    sketch: tuple[int, ...]
    pid: int
    started: float
    seconds: float


def parse(url: str, html: str) -> Page:
    """The page at `url`, read in the process that runs this.

    Example:
        >>> page = parse("http://a/b.html", "<title>B</title><h1 id=x>Hi</h1>you <a href=c>c</a>")
        >>> page.title, page.links, page.sections[-1].text
        ('B', ('http://a/c',), 'you c')
    """
    started = time.monotonic()
    reader = _Reader()
    reader.feed(html)
    reader.close()
    sections = tuple(reader.sections())
    words = [word.lower() for section in sections for word in _WORD.findall(section.text)]
    return Page(
        url=url,
        title=_one_line("".join(reader.title)) or url,
        sections=sections,
        links=tuple(_follow(url, reader.hrefs)),
        words=len(words),
        sketch=sketch(words),
        pid=os.getpid(),
        started=started,
        seconds=time.monotonic() - started,
    )


def sketch(words: list[str]) -> tuple[int, ...]:
    """The fingerprint of a text: for each of many hash functions its least shingle (MinHash)."""
    width = min(SHINGLE_WORDS, len(words))
    if not width:
        return ()
    shingles = {
        zlib.crc32(" ".join(words[at : at + width]).encode())
        for at in range(len(words) - width + 1)
    }
    return tuple(min((a * each + b) % _PRIME for each in shingles) for a, b in _LINES)


def likeness(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """How much of their shingles two texts share, estimated from their fingerprints: 0 to 1."""
    if not one or not other:
        return 0.0
    return sum(a == b for a, b in zip(one, other, strict=True)) / len(one)


def _follow(url: str, hrefs: list[str]) -> list[str]:
    """The web addresses among `hrefs`, whole, each once, without the place in the page."""
    found: dict[str, None] = {}
    for href in dict.fromkeys(urldefrag(each).url for each in hrefs):
        try:
            target = urljoin(url, href)
        except ValueError:  # such as http://[
            continue
        if target.startswith(("http://", "https://")):
            found[target] = None
    found.pop(url, None)
    return list(found)


def _one_line(text: str) -> str:
    return " ".join(text.split())


class _Reader(HTMLParser):
    """Collects title, links and sections while the page goes by."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title: list[str] = []
        self.hrefs: list[str] = []
        # Each is [title parts, anchor, text parts]; the first is what precedes any heading.
        self._parts: list[tuple[list[str], str, list[str]]] = [([], "", [])]
        self._heading = ""  # the tag whose end ends the heading, "" outside headings
        self._unseen = ""  # the tag whose end makes text count again
        self._in_title = False

    def sections(self) -> list[Section]:
        made = []
        for title, anchor, text in self._parts:
            words = _one_line("".join(text))
            name = _one_line("".join(title)) or anchor.strip("-").replace("-", ".")
            if words or name:
                made.append(Section(name, anchor, words))
        return made

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _UNSEEN:
            self._unseen = tag
        elif tag == "a":
            self._anchor(dict(attrs))
        elif tag == "title":
            self._in_title = True
        elif tag in _HEADINGS:
            self._open(tag, dict(attrs).get("id") or "")
        elif tag == "td" and (dict(attrs).get("class") or "") in ("section-title", "title"):
            self._open(tag, "")
        elif tag in _BREAKS:
            self._parts[-1][2].append(" ")

    def _anchor(self, attrs: dict[str, str | None]) -> None:
        name = attrs.get("name")
        if attrs.get("href"):
            self.hrefs.append(attrs["href"] or "")
        elif name and self._heading:
            self._parts[-1] = (self._parts[-1][0], name, self._parts[-1][2])
        elif name:
            self._parts.append(([], name, []))

    def _open(self, tag: str, anchor: str) -> None:
        self._parts.append(([], anchor, []))
        self._heading = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == self._heading:
            self._heading = ""
        elif tag == self._unseen:
            self._unseen = ""
        elif tag == "title":
            self._in_title = False

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title.append(data)
        elif not self._unseen:
            title, _, text = self._parts[-1]
            (title if self._heading else text).append(data)
