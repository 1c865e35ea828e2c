"""The results of a run as plain data: what `results.json` holds and `--json` prints.

Keys are stable and times are seconds; `schema` grows when a key changes its meaning. Whatever the
run did not get to is absent or empty, never invented.
"""

import json
import os
import statistics
from typing import TYPE_CHECKING, Any

from aioconc.demo._journal import Journal, Span

if TYPE_CHECKING:
    from aioconc.demo._compare import Figure
    from aioconc.demo._demo import Run


def results_of(run: "Run") -> dict[str, Any]:
    """Everything measured, as data that JSON can hold."""
    from aioconc.demo._demo import versions

    journal = run.journal
    verdicts = run.verdicts()
    return {
        "schema": 2,
        "versions": versions(),
        "cores": _cores(),
        "seed": run.options.seed,
        "source": run.options.source or "the standard library of this Python",
        "interrupted": run.interrupted,
        "seconds": {name: round(value, 3) for name, value in run.seconds.items()},
        "pages": {
            "found": journal.found,
            "indexed": len(journal.pages),
            "given_up": len(journal.failures),
            "rendered_in_this_run": run.rendered,
            "sections": sum(page.sections for page in journal.pages.values()),
            "words": sum(page.words for page in journal.pages.values()),
        },
        "worst_loop_stall": round(run.heart.worst, 4),
        "steps": {stage: _step(journal, stage) for stage in ("fetch", "parse", "index")},
        "where": {
            "event_loop_pid": run.pid,
            "parser_pids": sorted({page.pid for page in journal.pages.values()}),
            "index_threads": sorted(journal.threads),
        },
        "most_at_once": {
            stage: most_at_once([span for span in journal.spans if span.stage == stage])
            for stage in ("fetch", "parse", "index")
        },
        "faults": [
            {
                "kind": str(verdict.fault.kind),
                "title": verdict.fault.title,
                "page": verdict.fault.page,
                "state": verdict.state,
                "detail": verdict.detail,
            }
            for verdict in verdicts
        ],
        "faults_handled": sum(verdict.state == "handled" for verdict in verdicts),
        "given_up": {url: str(error) for url, error in journal.failures.items()},
        "comparison": [
            {
                "name": each.name,
                "pages": each.pages,
                "seconds": _figure(each.wall, 3),
                "worst_loop_stall": None if each.stall is None else _figure(each.stall, 4),
                "peak_memory_bytes": _figure(each.memory, 0),
                "processes": each.processes,
                "faults_survived": each.survived,
                "faults": {
                    str(kind): {"survived": one.survived, "detail": one.detail}
                    for kind, one in each.survival.items()
                },
            }
            for each in run.compared
        ],
    }


def _figure(figure: "Figure", digits: int) -> dict[str, Any]:
    """Median, least and greatest of the rounds, and all of them; None where no round ended."""
    if not figure.rounds:
        return {"median": None, "least": None, "greatest": None, "rounds": []}
    least, greatest = figure.spread
    return {
        "median": round(figure.median, digits),
        "least": round(least, digits),
        "greatest": round(greatest, digits),
        "rounds": [round(each, digits) for each in figure.rounds],
    }


def dumps(results: dict[str, Any]) -> str:
    return json.dumps(results, indent=2, ensure_ascii=False)


def _step(journal: Journal, stage: str) -> dict[str, float | int]:
    spans = [span for span in journal.spans if span.stage == stage and span.ended is not None]
    good = sorted(span.seconds for span in spans if not span.error)
    return {
        "attempts": len(spans),
        "failed_attempts": len(spans) - len(good),
        "median": round(statistics.median(good), 4) if good else 0.0,
        "longest": round(good[-1], 4) if good else 0.0,
    }


def most_at_once(spans: list[Span]) -> int:
    """The greatest number of spans that overlap."""
    edges = [(span.started, 1) for span in spans]
    edges += [(span.ended, -1) for span in spans if span.ended is not None]
    most = level = 0
    for _, step in sorted(edges):
        level += step
        most = max(most, level)
    return most


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1
