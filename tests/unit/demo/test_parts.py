"""The parts of the demo, one by one, without its processes and sockets."""

import asyncio
import time
from pathlib import Path

import pytest

pytest.importorskip("aiohttp")

from aioconc.demo._charts import Bar, Lane, Mark, bars, timeline
from aioconc.demo._faults import Fault, Kind, mark, parse_with_faults, plan_faults
from aioconc.demo._frontier import Frontier
from aioconc.demo._index import Hit, Index, read_sections
from aioconc.demo._journal import Journal, PageError
from aioconc.demo._live import clip
from aioconc.demo._modules import choose_modules, render
from aioconc.demo._options import parse_options
from aioconc.demo._parse import likeness, parse, sketch
from aioconc.demo._politeness import Robots
from aioconc.demo._report import search_data
from aioconc.demo._results import most_at_once
from aioconc.demo._server import Plan, Site
from aioconc.demo._site import plan_folder
from aioconc.demo._verdicts import judge
from aioconc.errors import WorkerCrashed

URL = "http://docs.localhost/page.html"


# -- pages ------------------------------------------------------------------------------------


def test_modules_that_act_on_import_are_never_chosen() -> None:
    """No page needs a module that opens a browser or prints a poem."""
    chosen = choose_modules(10_000)
    assert len(chosen) == len(set(chosen)) > 100
    assert not {"antigravity", "this", "idlelib", "turtle", "test"} & set(chosen)


def test_more_modules_are_the_fewer_and_some() -> None:
    """A larger crawl contains the smaller, so pages kept from one serve the other."""
    assert choose_modules(60)[:30] == choose_modules(30)


def test_a_module_that_cannot_be_imported_has_no_page() -> None:
    """`render` answers None instead of failing."""
    assert render("no_such_module_anywhere") is None


def test_a_rendered_page_is_parsed_into_entries(capfd: pytest.CaptureFixture[str]) -> None:
    """pydoc's page of a module has a section for each function, and nothing is printed."""
    html = render("bisect")
    assert html is not None
    assert capfd.readouterr() == ("", "")
    page = parse(URL, render("heapq") or "")
    assert {"heapify", "heappush"} <= {section.title for section in page.sections}
    assert page.words > 100


def test_links_are_whole_and_each_once() -> None:
    """Links are resolved; places in a page, other schemes and bad addresses are dropped."""
    html = (
        '<a href="b.html#x">1</a><a href="b.html#y">2</a><a href="#z">3</a>'
        '<a href="mailto:a@b">4</a><a href="http://[">5</a><a href="https://c/d">6</a>'
    )
    assert parse("http://a/a.html", html).links == ("http://a/b.html", "https://c/d")


def test_scripts_are_not_text() -> None:
    """What a reader would not see is not indexed."""
    page = parse(URL, "<h2 id=t>Title</h2><script>var secret</script><p>seen</p>")
    assert [(part.title, part.anchor, part.text) for part in page.sections] == [
        ("Title", "t", "seen")
    ]


def test_fingerprints_tell_alike_from_unlike() -> None:
    """The same text agrees fully, half of it partly, another not at all."""
    words = [f"word{number}" for number in range(400)]
    other = [f"other{number}" for number in range(400)]
    assert likeness(sketch(words), sketch(words)) == 1
    assert 0.2 < likeness(sketch(words), sketch(words[:200] + other[:200])) < 0.6
    assert likeness(sketch(words), sketch(other)) < 0.1
    assert likeness(sketch([]), sketch(words)) == 0


# -- faults -----------------------------------------------------------------------------------


def test_faults_are_drawn_again_with_the_same_seed() -> None:
    """A seed gives the same pages whatever the order they come in; each has one fault at most."""
    pages = [f"{number}.html" for number in range(30)]
    assert plan_faults(pages, 5) == plan_faults(pages[::-1], 5) != plan_faults(pages, 6)
    assert len({fault.page for fault in plan_faults(pages, 5)}) == len(Kind)


def test_faults_need_a_page_each() -> None:
    """Too few pages are refused before anything starts."""
    with pytest.raises(ValueError, match="8 faults need as many pages, got 2"):
        plan_faults(["a", "b"], 1)


def test_unmarked_pages_have_no_fault_in_the_parser() -> None:
    """Only the mark in the head of a page counts, so a user's page cannot have one by chance."""
    html = "<html><head><title>x</title></head>text about a fault called crash"
    assert parse_with_faults(URL, html).title == "x"
    with pytest.raises(Exception, match="cannot read line 17"):
        parse_with_faults(URL, mark(html, Kind.UNPICKLABLE))


def _fail(journal: Journal, url: str, stage: str, error: Exception) -> PageError:
    with pytest.raises(PageError) as caught, journal.span(url, stage):  # type: ignore[arg-type]
        raise error
    return caught.value


def _verdict(kind: Kind, journal: Journal) -> tuple[str, str]:
    [verdict] = judge([Fault(kind, "page.html")], {"page.html": URL}, journal)
    return verdict.state, verdict.detail


def _read(journal: Journal, url: str = URL) -> None:
    with journal.span(url, "fetch"):
        pass
    journal.read(parse(url, "<p>text</p>"))


class ServerSaidNo(Exception):
    """As aiohttp's: it knows the status."""

    status = 429


def test_a_fault_is_pending_until_its_page_is_settled() -> None:
    """Nothing is claimed early; at the end an unread page counts against us."""
    journal = Journal()
    assert _verdict(Kind.FLAKY, journal) == ("pending", "")
    journal.ended = time.monotonic()
    assert _verdict(Kind.FLAKY, journal) == ("not handled yet", "never reached")


def test_a_fault_that_never_struck_is_not_called_handled() -> None:
    """A page that is read at once proves nothing about retrying."""
    journal = Journal()
    _read(journal)
    assert _verdict(Kind.FLAKY, journal)[0] == "not handled yet"
    assert _verdict(Kind.CRASH, journal)[0] == "not handled yet"


def test_retry_after_is_handled_only_if_the_host_was_left_alone() -> None:
    """One request in the pause that the server asked for, to any page of the host, and it is not."""
    for early, state in ((False, "handled"), (True, "not handled yet")):
        journal = Journal()
        _fail(journal, URL, "fetch", ServerSaidNo())
        if early:
            time.sleep(0.001)  # later than the refusal by the clock
            _read(journal, "http://docs.localhost/other.html")
        span = journal.spans[0]
        assert span.ended is not None
        for each in journal.spans if not early else ():
            each.started -= 2
            each.ended = span.ended - 2
        _read(journal)
        assert _verdict(Kind.THROTTLED, journal)[0] == state


@pytest.mark.parametrize(
    ("fate", "state"), [("abandoned", "not handled yet"), ("killed", "handled")]
)
def test_a_hang_is_handled_when_its_worker_is_killed(fate: str, state: str) -> None:
    """The verdict follows the fate that the executor reports, so a better one turns the row."""
    journal = Journal()
    journal.gave_up(_fail(journal, URL, "parse", TimeoutError("late")))
    journal.fates.append(fate)
    assert _verdict(Kind.HANG, journal)[0] == state


def test_a_crash_is_handled_when_it_costs_one_page() -> None:
    """Neighbours that had to be parsed again, or were lost, are counted against it."""
    journal = Journal()
    journal.gave_up(_fail(journal, URL, "parse", WorkerCrashed("died")))
    assert _verdict(Kind.CRASH, journal) == (
        "handled",
        "crashed its worker 1 time; no other page noticed",
    )
    lost = _fail(journal, "http://docs.localhost/neighbour.html", "parse", WorkerCrashed("died"))
    assert "1 other page had to be parsed again" in _verdict(Kind.CRASH, journal)[1]
    journal.gave_up(lost)
    state, detail = _verdict(Kind.CRASH, journal)
    assert state == "not handled yet" and "1 other page was lost" in detail


# -- frontier ---------------------------------------------------------------------------------


async def test_frontier_ends_when_all_is_done_and_not_before() -> None:
    """An empty frontier waits while a page is under way, because that may add more."""
    frontier = Frontier(["a"])
    assert await anext(frontier) == "a"
    waiting = asyncio.ensure_future(anext(frontier))
    await asyncio.sleep(0)
    assert not waiting.done()
    frontier.add(["b", "a"])
    frontier.done()
    assert await waiting == "b"
    frontier.done()
    with pytest.raises(StopAsyncIteration):
        await anext(frontier)


async def test_frontier_read_that_is_cancelled_loses_no_address() -> None:
    """The next reader gets what the cancelled one waited for."""
    frontier = Frontier(["a"])
    await anext(frontier)
    waiting = asyncio.ensure_future(anext(frontier))
    await asyncio.sleep(0)
    frontier.add(["b"])
    waiting.cancel()  # in the tick in which the address arrives
    await asyncio.wait((waiting,))
    assert await anext(frontier) == "b"


async def test_frontier_keeps_to_its_number_and_its_wishes() -> None:
    """No more than `most`, none that is not wanted, none twice."""
    frontier = Frontier("abcabc", most=2, wanted=lambda url: url != "a")
    frontier.add("xyz")
    assert [await anext(frontier), await anext(frontier)] == ["b", "c"]
    assert frontier.found == 2


# -- index and report -------------------------------------------------------------------------


def test_index_finds_by_words_and_keeps_what_was_added(tmp_path: Path) -> None:
    """Signs in a query are harmless; a second index in the same file starts anew."""
    file = tmp_path / "index.sqlite"
    with Index(file) as index:
        index.add(parse(URL, "<h1>Queues</h1>wait with a timeout<h1>Other</h1>nothing"))
        assert [hit.title for hit in index.search("timeout WAIT")] == ["Queues"]
        assert index.search('" OR *') == index.search("  ") == []
    assert {hit.title for hit in read_sections(file)} == {"Queues", "Other"}
    with Index(file) as index:
        assert index.search("timeout") == []


def test_search_data_cannot_end_its_script_element() -> None:
    """Text of pages stands in the report as data, whatever it says."""
    text, left_out = search_data([Hit(URL, "t", "</script><!--", "", "<script>alert(1)")])
    assert "<" not in text and left_out == 0


def test_search_data_has_a_size_and_says_what_is_left_out() -> None:
    """More than the report should carry is counted, not carried."""
    hits = [Hit(f"http://a/{n}.html", "t", "t" * 200, "", "x" * 500) for n in range(20_000)]
    text, left_out = search_data(hits)
    assert len(text) < 2_500_000 and left_out > 0


def test_charts_escape_and_label() -> None:
    """Names in charts are text, not markup; a bar without a value has only its words."""
    chart = bars("a<b", "", [Bar("<x>", 2.0, "2 s"), Bar("y", None, "no loop")])
    assert "&lt;x&gt;" in chart and "<x>" not in chart and "no loop" in chart
    drawn = timeline([Lane("h", [Mark(0, 1, "fetch", "<p>"), Mark(0.5, 1, "fetch", "q")])], 1)
    assert drawn.count("<rect") == 2 and "&lt;p&gt;" in drawn


def test_most_at_once_counts_overlaps() -> None:
    """Spans that only touch do not overlap."""
    journal = Journal()
    for start, end in ((0.0, 2.0), (1.0, 3.0), (2.0, 4.0)):
        with journal.span(URL, "fetch") as span:
            pass
        span.started, span.ended = start, end
    assert most_at_once(journal.spans) == 2


def test_clip_counts_columns_and_keeps_escapes() -> None:
    """Colours take no room, and the one that ends them is not cut off."""
    assert clip("\x1b[1mabcdef\x1b[0m", 3) == "\x1b[1mabc\x1b[0m"


# -- server, manners, options, comparison -----------------------------------------------------


def test_server_names_hosts_in_links_and_drops_dead_ones() -> None:
    """A link leads to the host that has the page, or nowhere."""
    site = Site(Plan("", {"a.html": "docs.localhost", "b.html": "mirror.localhost"}))
    site.port = 80
    text = site._point_to_hosts('<a href="b.html#x">b</a><a href="gone.html">c</a>')
    assert text == '<a href="http://mirror.localhost:80/b.html#x">b</a><a href="#">c</a>'


def test_plan_crosses_to_the_server_unchanged() -> None:
    """What is planned is what is served."""
    plan = Plan("/pages", {"a.html": "docs.localhost"}, (Fault(Kind.HANG, "a.html"),), seed=3)
    assert Plan.from_json(plan.to_json()) == plan


def test_a_folder_is_served_as_it_is(tmp_path: Path) -> None:
    """All pages of the user's folder, without delay and without faults."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "page.html").write_text("x")
    (tmp_path / "notes.txt").write_text("x")
    plan = plan_folder(tmp_path)
    assert list(plan.pages) == ["sub/page.html"]
    assert plan.delay == (0.0, 0.0) and not plan.faults


def test_robots_are_obeyed() -> None:
    """Forbidden pages and other sites are not visited; a delay that is asked for is kept."""
    lines = ["User-agent: *", "Disallow: /private", "Crawl-delay: 4"]
    robots = Robots("http://a/index.html", lines)
    assert robots.allows("http://a/page")
    assert not robots.allows("http://a/private/page")
    assert not robots.allows("http://b/page")
    assert robots.requests_per_second == 0.25


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pages", "0"], "whole number >= 1"),
        (["--pages", "9"], "at least 16"),
        (["--source", "/no/such/folder"], "a folder or a http"),
    ],
)
def test_wrong_options_say_what_is_right(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong command line starts nothing and ends with status 2."""
    with pytest.raises(SystemExit) as caught:
        parse_options(words)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
