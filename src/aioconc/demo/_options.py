"""The command line of the demo: what can be asked for, and what is asked for by default."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DEFAULT_PAGES = 120
QUICK_PAGES = 40


@dataclass(frozen=True, slots=True)
class Options:
    """One run of the demo."""

    pages: int = DEFAULT_PAGES
    limit: int = 24
    seed: int = 1
    source: str | None = None
    out: Path = Path("aioconc-demo")
    json: bool = False
    quick: bool = False
    compare: bool = True

    @property
    def is_web(self) -> bool:
        return self.source is not None and self.source.startswith(("http://", "https://"))


def parse_options(argv: Sequence[str] | None) -> Options:
    """The options in `argv`; a wrong one ends the program with status 2 and says what is right."""
    parser = argparse.ArgumentParser(
        prog="python -m aioconc demo",
        description="Crawl, parse and index your own Python's documentation, with faults on the "
        "way, and write a report. Everything stays on this machine.",
    )
    parser.add_argument(
        "--pages",
        type=_count,
        metavar="N",
        help=f"pages to crawl (default {DEFAULT_PAGES}, with --quick {QUICK_PAGES})",
    )
    parser.add_argument(
        "--limit", type=_count, default=24, metavar="N", help="fetches at once (default 24)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="seed of delays and faults (default 1)"
    )
    parser.add_argument(
        "--source",
        metavar="DIR|URL",
        help="crawl your own pages instead: a folder of HTML files, or a web site (robots.txt is "
        "obeyed, one request a second for each host); without faults and comparison",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("aioconc-demo"),
        metavar="DIR",
        help="where to put the report (default ./aioconc-demo)",
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON only")
    parser.add_argument("--quick", action="store_true", help="a third of the work")
    parser.add_argument(
        "--no-compare",
        dest="compare",
        action="store_false",
        help="leave out the comparison with other ways to do the same",
    )
    given = parser.parse_args(argv)
    if given.source is not None and not given.source.startswith(("http://", "https://")):
        folder = Path(given.source)
        if not folder.is_dir():
            parser.error(f"--source must be a folder or a http(s) URL, got {given.source!r}")
    pages = given.pages or (QUICK_PAGES if given.quick else DEFAULT_PAGES)
    if given.source is None and pages < 16:
        parser.error(f"--pages must be at least 16, so that the faults have pages, got {pages}")
    return Options(
        pages=pages,
        limit=given.limit,
        seed=given.seed,
        source=given.source,
        out=given.out,
        json=given.json,
        quick=given.quick,
        compare=given.compare and given.source is None,
    )


def _count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number >= 1, got {text!r}")
    return value
