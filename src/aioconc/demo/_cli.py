"""The command: runs the demo, writes what came of it, and gives the exit status.

Ctrl-C is one of the expected endings: what was crawled until then is in the index and in the
report, and the status is 130. All processes of the demo are gone when this returns.
"""

import asyncio
import sys
from collections.abc import Sequence

from aioconc.demo._demo import Run, run_demo
from aioconc.demo._options import parse_options
from aioconc.demo._report import write_report
from aioconc.demo._results import dumps, results_of
from aioconc.demo._screen import Screen, choose_screen

INTERRUPTED = 130


def run_command(argv: Sequence[str] | None) -> int:
    """Run the demo; returns the exit status."""
    options = parse_options(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    run = Run(options)
    screen = Screen() if options.json else choose_screen(sys.stdout)
    try:
        asyncio.run(run_demo(run, screen))
    except KeyboardInterrupt:
        run.interrupted = True
    finally:
        screen.close()
    results = results_of(run)
    (options.out / "results.json").write_text(dumps(results) + "\n", encoding="utf-8")
    report = write_report(run, results)
    if options.json:
        print(dumps(results))
    else:
        screen.summary(run, report)
    return INTERRUPTED if run.interrupted else 0
