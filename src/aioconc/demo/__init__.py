"""`python -m aioconc demo`: crawl, parse and index your own Python's documentation.

A whole program made of aioconc, with real processes, sockets and faults, that ends in a report
one can search. The crawl itself is in `_crawl.py` and made to be copied.
"""

from collections.abc import Sequence
from importlib import import_module

from aioconc._internal._public import publish
from aioconc.errors import MissingExtra


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit status: 0, or 130 after Ctrl-C.

    Args:
        argv: the words after `demo`; by default those of this process.

    Raises:
        MissingExtra: aiohttp is not installed.
        SystemExit: a wrong option (status 2), or `--help`.

    Example:
        >>> main(["--help"])  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        SystemExit: 0
    """
    try:
        import_module("aiohttp")
    except ImportError as error:
        raise MissingExtra(
            "the demo needs aiohttp for its web server and its crawler; "
            "install it with: pip install 'aioconc[http]'"
        ) from error
    from aioconc.demo._cli import run_command

    return run_command(argv)


__all__ = ["main"]

publish(globals())
