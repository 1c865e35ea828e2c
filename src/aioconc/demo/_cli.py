"""The command: runs the demo, writes what came of it, and gives the exit status.

Ctrl-C is one of the expected endings: what was crawled until then is in the index and in the
report, and the status is 130. All processes of the demo are gone when this returns.
"""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import aiohttp

from aioconc import run
from aioconc.demo._demo import CannotStart, Run, run_demo
from aioconc.demo._options import parse_options
from aioconc.demo._report import write_report
from aioconc.demo._results import dumps, results_of
from aioconc.demo._screen import Screen, choose_screen


def run_command(argv: Sequence[str] | None) -> int:
    """Run the demo; returns the exit status."""
    options = parse_options(argv)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        log = _log_to(options.out / "aioconc.log")
    except OSError as error:
        print(f"aioconc demo: cannot write to --out {options.out}: {error}", file=sys.stderr)
        return 1
    state = Run(options)
    screen = Screen() if options.json else choose_screen(sys.stdout)
    status = 0
    with log:
        try:
            run(run_demo, state, screen)
        except KeyboardInterrupt:
            status = 130
        except (CannotStart, aiohttp.ClientError) as error:
            screen.close()
            print(f"aioconc demo: {error}", file=sys.stderr)
            return 1
        except SystemExit as ending:  # what `run` makes of SIGTERM
            status = ending.code if isinstance(ending.code, int) else 1
        finally:
            screen.close()
    state.interrupted = status != 0
    results = results_of(state)
    (options.out / "results.json").write_text(dumps(results) + "\n", encoding="utf-8")
    report = write_report(state, results)
    if options.json:
        print(dumps(results))
    else:
        screen.summary(state, report)
    return status


def _log_to(file: Path) -> AbstractContextManager[None]:
    """What aioconc has to say goes into a file, which is opened now, and not across the screen."""
    handler = logging.FileHandler(file, mode="w", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    return _logging_to(handler)


@contextmanager
def _logging_to(handler: logging.Handler) -> Iterator[None]:
    log = logging.getLogger("aioconc")
    log.addHandler(handler)
    propagates, log.propagate = log.propagate, False
    try:
        yield
    finally:
        log.propagate = propagates
        log.removeHandler(handler)
        handler.close()
