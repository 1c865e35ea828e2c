"""The report: one HTML file with a search box, charts and tables, that loads nothing else.

Filled into `report.html` beside this file, whose marks (`<!--name-->`) name the parts made here.
All text that came from pages is escaped. The searchable text is cut at a size; the whole of it is
in `index.sqlite`.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from html import escape
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from aioconc.demo._charts import Bar, Lane, Mark, bars, stall_strip, timeline
from aioconc.demo._faults import TITLES, Kind
from aioconc.demo._index import Hit, read_sections
from aioconc.demo._journal import Span
from aioconc.demo._similar import similar_pages
from aioconc.demo._verdicts import Verdict

if TYPE_CHECKING:
    from aioconc.demo._compare import Compared, Figure
    from aioconc.demo._demo import Run

# The text that a report carries for its search box; more makes the file slow to open.
MOST_SEARCH_BYTES = 2_000_000
_SNIPPET = 220


def write_report(run: "Run", results: dict[str, Any]) -> Path:
    """Write `report.html` into the output folder; returns its path."""
    page = resources.files("aioconc.demo").joinpath("report.html").read_text(encoding="utf-8")
    for name, text in _parts(run, results).items():
        page = page.replace(f"<!--{name}-->", text)
    file = run.options.out / "report.html"
    file.write_text(page, encoding="utf-8")
    return file


def _parts(run: "Run", results: dict[str, Any]) -> dict[str, str]:
    verdicts = run.verdicts()
    search, left_out = search_data(read_sections(run.database))
    return {
        "about": _about(run, results),
        "tiles": _tiles(run, results),
        "faults": _faults(verdicts),
        "timeline": _timeline(run),
        "comparison": _comparison(run.compared),
        "where": _where(run, results),
        "slowest": _slowest(run),
        "similar": _similar(run),
        "failures": _failures(run),
        "search-note": f"{left_out:,} more are in index.sqlite." if left_out else "",
        "data": search,
    }


# -- search -----------------------------------------------------------------------------------


def search_data(hits: Iterable[Hit]) -> tuple[str, int]:
    """The sections as JSON that may stand in a script element, and how many did not fit."""
    pages: dict[str, int] = {}
    names: list[str] = []
    rows: list[list[Any]] = []
    size = left_out = 0
    for hit in hits:
        row = [0, hit.title, hit.text[:_SNIPPET]]
        size += len(json.dumps(row)) + 8
        if size > MOST_SEARCH_BYTES:
            left_out += 1
            continue
        if hit.url not in pages:
            pages[hit.url] = len(names)
            names.append(page_name(hit.url))
        row[0] = pages[hit.url]
        rows.append(row)
    text = json.dumps({"pages": names, "sections": rows}, ensure_ascii=False)
    # Inside a script element only "</" and "<!--" mean anything to HTML.
    return text.replace("<", "\\u003c"), left_out


def page_name(url: str) -> str:
    """What to call a page: the module for the standard library's, else its path."""
    path = unquote(urlsplit(url).path).strip("/")
    name = path.removesuffix(".html") if "/" not in path else path
    return name or (urlsplit(url).hostname or url)


# -- parts ------------------------------------------------------------------------------------


def _about(run: "Run", results: dict[str, Any]) -> str:
    versions = results["versions"]
    words = [
        f"Python {versions['python']}",
        f"aioconc {versions['aioconc']}",
        versions["system"],
        f"{results['cores']} cores",
    ]
    if run.faults:
        words.append(f"seed {run.options.seed}")
    text = " &middot; ".join(escape(word) for word in words)
    if run.interrupted:
        text += "<p class='warn'>Interrupted: this is what was done until then.</p>"
    return text


def _tiles(run: "Run", results: dict[str, Any]) -> str:
    pages, faults = results["pages"], results["faults"]
    tiles = [
        (f"{pages['indexed']:,}", "pages indexed"),
        (f"{pages['sections']:,}", "sections to search"),
        (f"{results['seconds'].get('crawl', 0.0):.1f} s", "for the crawl"),
        (f"{run.heart.worst * 1000:.0f} ms", "longest loop stall"),
    ]
    if faults:
        tiles.append((f"{results['faults_handled']} of {len(faults)}", "faults handled"))
    return "".join(f"<div><b>{value}</b><span>{label}</span></div>" for value, label in tiles)


_MARKS = {"handled": "yes", "not handled yet": "no", "pending": "wait"}


def _faults(verdicts: list[Verdict]) -> str:
    if not verdicts:
        return ""
    rows = "".join(
        f'<tr><td><span class="mark {_MARKS[each.state]}">{each.state}</span></td>'
        f"<td>{escape(each.fault.title)}</td><td><code>{escape(page_name(each.url))}</code></td>"
        f"<td>{escape(each.detail)}</td></tr>"
        for each in verdicts
    )
    return (
        "<section><h2>Faults on the way</h2><p>Drawn with the seed, announced before the crawl, "
        "and judged by what the journal of the crawl says happened.</p>"
        "<div class='wide'><table><thead><tr><th></th><th>Fault</th><th>Page</th>"
        f"<th>What happened</th></tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def _timeline(run: "Run") -> str:
    journal = run.journal
    start, seconds = journal.started, journal.seconds
    if not journal.spans:
        return ""

    def mark(span: Span, style: str) -> Mark:
        end = span.ended if span.ended is not None else start + seconds
        what = f"{span.stage} {page_name(span.url)}: {end - span.started:.3f} s"
        return Mark(
            span.started - start,
            end - start,
            f"{style} bad" if span.error else style,
            f"{what}, {span.error}" if span.error else what,
        )

    by_host: dict[str, list[Mark]] = defaultdict(list)
    trouble: list[Mark] = []
    for span in journal.spans:
        if span.stage == "fetch":
            by_host[span.host].append(mark(span, "fetch"))
        elif span.stage == "parse" and span.error:
            trouble.append(mark(span, "parse"))
    by_worker: dict[int, list[Mark]] = defaultdict(list)
    for page in journal.pages.values():
        began = page.started - start
        by_worker[page.pid].append(
            Mark(
                began,
                began + page.seconds,
                "parse",
                f"parse {page_name(page.url)}: {page.seconds:.3f} s of process {page.pid}",
            )
        )
    lanes = [Lane(host, marks, "fetch") for host, marks in by_host.items()]
    workers = sorted(by_worker.items(), key=lambda item: item[1][0].start)
    lanes += [Lane(f"process {pid}", marks, "parse") for pid, marks in workers]
    if trouble:
        lanes.append(Lane("lost parses", trouble, "parse"))
    stalls = [(when - start, late) for when, late in run.heart.stalls]
    return (
        "<section><h2>Who did what when</h2><p>Each bar is one page at one step; point at it for "
        "its name. Fetching waits in the event loop, parsing computes in worker processes, and "
        "the loop's own stalls are at the bottom.</p>"
        '<p class="key"><i class="fetch"></i>fetch <i class="parse"></i>parse '
        '<i class="bad"></i>failed, tried again or given up</p>'
        f"<div class='wide'>{timeline(lanes, seconds)}{stall_strip(stalls, seconds)}</div></section>"
    )


def _comparison(compared: "list[Compared]") -> str:
    if not compared:
        return ""

    def chart(
        title: str, figure: "Callable[[Compared], Figure | None]", unit: str, **how: Any
    ) -> str:
        rows = []
        factor = how.get("factor", 1.0)
        for each in compared:
            found = figure(each)
            if found is None:
                rows.append(Bar(each.name, None, "no loop"))
            else:
                low, high = (end * factor for end in found.spread)
                text = found.text(unit, **how)
                strong = each.name == "aioconc"
                rows.append(Bar(each.name, found.median * factor, text, strong, (low, high)))
        return bars(title, "less is better", rows)

    charts = [
        chart("Wall time", lambda each: each.wall, "s", digits=1),
        chart("Longest stall of the event loop", lambda each: each.stall, "ms", factor=1000),
        chart("Peak memory, all processes", lambda each: each.memory, "MB", factor=1e-6),
        bars(
            "Faults survived",
            "more is better",
            [
                Bar(
                    each.name,
                    float(each.survived),
                    f"{each.survived} of {len(each.survival)}",
                    each.name == "aioconc",
                )
                for each in compared
            ],
        ),
    ]
    rounds = max(len(each.wall.rounds) for each in compared)
    heads = "".join(f"<th>{escape(each.name)}</th>" for each in compared)
    rows = "".join(
        f"<tr><th>{escape(TITLES[kind])}</th>{''.join(_cell(each, kind) for each in compared)}</tr>"
        for kind in compared[0].survival
    )
    return (
        "<section><h2>The same work, five ways</h2>"
        f"<p>Each way is a program of its own. It fetches and parses {compared[0].pages} pages "
        f"without faults, in {rounds} rounds in which the ways take turns: bars and figures are "
        "medians, the thin lines and the figures in brackets go from the least to the greatest. "
        "Then it meets each fault among good pages. All catch and report errors; what else "
        "happens is below.</p>"
        f"<div class='charts'>{''.join(charts)}</div>"
        "<h3>How each one dies</h3>"
        f"<div class='wide'><table class='deaths'><thead><tr><th></th>{heads}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
        "<p class='small'>Survived: the program ended by itself, all good pages were read, and "
        "the faulty page was read where that is possible and reported where it is not. That is "
        "less than <em>handled</em> above, where a fault may also cost nothing but its own "
        "page.</p></section>"
    )


def _cell(compared: "Compared", kind: Kind) -> str:
    one = compared.survival[kind]
    mark = "yes" if one.survived else "no"
    return f'<td><span class="mark {mark}"></span>{escape(one.detail)}</td>'


def _where(run: "Run", results: dict[str, Any]) -> str:
    where, most, steps = results["where"], results["most_at_once"], results["steps"]
    parsers = ", ".join(str(pid) for pid in where["parser_pids"]) or "none"
    threads = ", ".join(where["index_threads"]) or "none"
    places = [
        ("fetch", f"the event loop, process {where['event_loop_pid']}", "map_limited"),
        ("parse", f"worker processes {parsers}", "offload_cpu"),
        ("index", f"threads {threads}", "offload_io"),
    ]
    rows = "".join(
        f"<tr><td>{stage}</td><td><code>{call}</code></td><td>{escape(place)}</td>"
        f"<td class='n'>{steps[stage]['attempts']}</td>"
        f"<td class='n'>{steps[stage]['failed_attempts']}</td><td class='n'>{most[stage]}</td>"
        f"<td class='n'>{steps[stage]['median'] * 1000:.0f} ms</td>"
        f"<td class='n'>{steps[stage]['longest'] * 1000:.0f} ms</td></tr>"
        for stage, place, call in places
    )
    return (
        "<table><thead><tr><th>Step</th><th>Called with</th><th>Ran in</th><th class='n'>Attempts"
        "</th><th class='n'>Failed</th><th class='n'>Most at once</th><th class='n'>Median</th>"
        f"<th class='n'>Longest</th></tr></thead><tbody>{rows}</tbody></table>"
    )


def _slowest(run: "Run") -> str:
    pages = sorted(run.journal.pages.values(), key=lambda page: -page.seconds)[:10]
    rows = [
        Bar(page_name(page.url), page.seconds, f"{page.seconds * 1000:.0f} ms") for page in pages
    ]
    return bars("Slowest pages to parse", "in a worker process", rows) if rows else ""


def _similar(run: "Run") -> str:
    pairs = similar_pages(run.journal.pages.values())
    rows = [
        Bar(f"{page_name(one.url)} / {page_name(other.url)}", share, f"{share:.0%}")
        for share, one, other in pairs
    ]
    return bars("Pages most alike", "share of text in common", rows) if rows else ""


def _failures(run: "Run") -> str:
    if not run.journal.failures:
        return ""
    rows = "".join(
        f"<tr><td><code>{escape(page_name(url))}</code></td><td>{error.stage}</td>"
        f"<td>{escape(str(error))}</td></tr>"
        for url, error in run.journal.failures.items()
    )
    return (
        "<section><h2>Pages given up</h2><div class='wide'><table><thead><tr><th>Page</th>"
        f"<th>Step</th><th>Reason</th></tr></thead><tbody>{rows}</tbody></table></div></section>"
    )
