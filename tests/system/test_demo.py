"""`python -m aioconc demo` as a user runs it: a program, its files, its exit status, Ctrl-C.

Every test starts the real thing with few pages. What it leaves running is looked for by the
session that it was started in and by its own children, none of which may survive it.
"""

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiohttp")

pytestmark = pytest.mark.slow

LINUX = sys.platform == "linux"


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "aioconc", "demo", *words]


def environment(cache: Path) -> dict[str, str]:
    return {**os.environ, "XDG_CACHE_HOME": str(cache), "AIOCONC_DEMO_TEST": str(cache)}


def demo(cache: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(*words),
        check=False,
        env=environment(cache),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )


def processes_left(cache: Path) -> list[str]:
    """The processes that carry this test's environment: the demo's own and all it started."""
    sign = f"AIOCONC_DEMO_TEST={cache}".encode()
    left = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if sign in (entry / "environ").read_bytes():
                left.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue  # gone meanwhile, or not ours
    return left


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all tests, so that the pages are made once."""
    return tmp_path_factory.mktemp("cache")


def test_demo_crawls_indexes_and_reports_under_faults(cache: Path, tmp_path: Path) -> None:
    """All pages but the faulty ones are indexed, every fault is settled, nothing is left."""
    done = demo(cache, "--pages", "20", "--no-compare", "--json", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = json.loads(done.stdout)
    assert results == json.loads((tmp_path / "results.json").read_text())
    pages = results["pages"]
    assert pages["found"] == pages["indexed"] + pages["given_up"] == 25  # five index pages
    assert pages["given_up"] == 4  # 500 for ever, unpicklable, hang, crash
    states = {fault["kind"]: fault["state"] for fault in results["faults"]}
    assert len(states) == 8 and "pending" not in states.values()
    killed = {"hang", "crash"} if os.name == "nt" else set()  # no call can be killed alone there
    assert {kind for kind, state in states.items() if state != "handled"} <= killed
    where = results["where"]
    assert where["event_loop_pid"] not in where["parser_pids"]
    assert not results["interrupted"]
    report = (tmp_path / "report.html").read_text()
    assert "<!--data-->" not in report
    # Self-contained: nothing is loaded. (Texts may name addresses, such as those of errors.)
    assert not re.search(r"""(src|href)=["']?https?:|url\(["']?https?:|@import""", report)
    with sqlite3.connect(tmp_path / "index.sqlite") as base:
        assert base.execute("SELECT count(*) FROM pages").fetchone()[0] == pages["indexed"]
    base.close()
    if LINUX:
        assert processes_left(cache) == []


def test_demo_in_a_pipe_prints_plain_lines(cache: Path, tmp_path: Path) -> None:
    """The faults come first, each is ticked off, and no escape sequence is among the lines."""
    done = demo(cache, "--pages", "16", "--no-compare", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert sum(line.startswith("  [ ] ") for line in lines) == 8
    assert sum(line.startswith(("  [x] ", "  [!] ")) for line in lines) == 8
    assert lines[-1] == f"Report: {tmp_path / 'report.html'}"


@pytest.mark.skipif(os.name != "posix", reason="signals to process groups are POSIX's")
@pytest.mark.parametrize("to_group", [True, False], ids=["terminal", "kill"])
def test_ctrl_c_keeps_what_was_done(cache: Path, tmp_path: Path, to_group: bool) -> None:
    """Interrupted in the crawl, by a terminal (the whole group) or alone: status 130, the pages
    read so far are in the report and the index, and no process is left.
    """
    process = subprocess.Popen(
        command("--pages", "20", "--no-compare", "--out", str(tmp_path)),
        env=environment(cache),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if "] parser raises" in line and not line.startswith("  [ ]"):
                break  # in the midst of the crawl: the hang, for one, is to come or under way
        if to_group:
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "Interrupted; what was done until then is kept." in output
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["interrupted"] is True
    with sqlite3.connect(tmp_path / "index.sqlite") as base:
        indexed = base.execute("SELECT count(*) FROM pages").fetchone()[0]
    base.close()
    # The last page may be in the index and not yet in the notes.
    assert results["pages"]["indexed"] <= indexed
    assert (tmp_path / "report.html").stat().st_size > 10_000
    if LINUX:
        assert processes_left(cache) == []


def test_own_folder_is_crawled_without_faults(cache: Path, tmp_path: Path) -> None:
    """Every page of a folder is indexed, also one that misuses the mark of a fault."""
    source = tmp_path / "pages"
    (source / "deep").mkdir(parents=True)
    (source / "one.html").write_text("<h1>Heron</h1>stands still <a href='deep/two.html'>2</a>")
    (source / "deep" / "two.html").write_text(
        '<head><meta name="aioconc-demo-fault" content="crash"></head><h1>Owl</h1>sleeps'
    )
    out = tmp_path / "out"
    done = demo(cache, "--source", str(source), "--json", "--out", str(out))
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert results["faults"] == results["comparison"] == []
    report = (out / "report.html").read_text()
    assert "Heron" in report and "Owl" in report


class _Web(BaseHTTPRequestHandler):
    asked: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["User-Agent"]))
        pages = {
            "/robots.txt": "User-agent: *\nDisallow: /private\n",
            "/": "<a href='/next'>n</a><a href='/private/x'>p</a><a href='http://other/'>o</a>",
            "/next": "<h1>Next</h1>",
            "/huge": "<a href='/endless'>e</a>" + "x" * 10_000_000,
        }
        if self.path == "/endless":
            self.send_endless()
            return
        body = pages.get(self.path, "").encode()
        self.send_response(200 if body else 404)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # it may not be read to its end
            self.wfile.write(body)

    def send_endless(self) -> None:
        """A body without a length, that goes on until nobody reads."""
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            while True:
                self.wfile.write(b"x" * 65536)

    def log_message(self, *args: object) -> None:
        """Tests are quiet."""


@contextmanager
def web() -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    asked: list[tuple[str, str | None]] = []
    handler = type("Handler", (_Web,), {"asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/", asked
        finally:
            server.shutdown()
            thread.join()


def test_a_web_site_is_asked_politely(cache: Path, tmp_path: Path) -> None:
    """robots.txt comes first and is obeyed, other sites are left alone, and we say who asks."""
    with web() as (address, asked):
        done = demo(cache, "--source", address, "--json", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert [path for path, _ in asked] == ["/robots.txt", "/", "/next"]
    assert all(agent and agent.startswith("aioconc-demo/") for _, agent in asked)
    assert json.loads(done.stdout)["pages"]["indexed"] == 2


@pytest.mark.parametrize("page", ["huge", "endless"])
def test_a_page_of_any_size_costs_no_more_than_its_cap(
    cache: Path, tmp_path: Path, page: str
) -> None:
    """It counts as given up, the reason says how much is read, and the demo ends well."""
    with web() as (address, _):
        done = demo(cache, "--source", address + page, "--json", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert (results["pages"]["indexed"], results["pages"]["given_up"]) == (0, 1)
    (reason,) = results["given_up"].values()
    assert reason.startswith("TooLarge: the page has ")
    assert "10,000,000 that are read" in reason or "10,000,000 bytes that are read" in reason


def test_a_cache_that_cannot_be_used_is_said_and_done_without(tmp_path: Path) -> None:
    """The pages go into a temporary folder, which is gone afterwards."""
    blocked = tmp_path / "cache"
    blocked.write_text("a file where the folder should be")
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    words = command("--pages", "16", "--no-compare", "--out", str(tmp_path / "out"))
    done = subprocess.run(
        words,
        check=False,
        env={**environment(blocked), "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Pages are not kept for the next run: " in done.stdout
    assert [each.name for each in temporary.iterdir() if "aioconc-demo" in each.name] == []


def test_an_output_folder_that_cannot_be_used_is_said(cache: Path, tmp_path: Path) -> None:
    """One line and status 1, before anything is done."""
    (tmp_path / "file").touch()
    done = demo(cache, "--out", str(tmp_path / "file"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("aioconc demo: cannot write to --out ")
    assert "Traceback" not in done.stderr


def test_a_web_site_that_is_not_there_is_said_so(cache: Path, tmp_path: Path) -> None:
    """No traceback: one line and status 1."""
    done = demo(cache, "--source", "http://127.0.0.1:9/", "--out", str(tmp_path))
    assert done.returncode == 1
    assert "aioconc demo: " in done.stderr and "Traceback" not in done.stderr


def test_comparison_tells_how_each_approach_dies(cache: Path, tmp_path: Path) -> None:
    """The naive ways die of a hang and a crash, aioconc survives more than any of them."""
    done = demo(cache, "--quick", "--json", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    compared = {each["name"]: each for each in json.loads(done.stdout)["comparison"]}
    survived = {name: each["faults_survived"] for name, each in compared.items()}
    ours = survived.pop("aioconc")
    assert len(survived) == 4 and ours > max(survived.values())
    assert os.name == "nt" or ours == 8
    for name in survived:
        assert not compared[name]["faults"]["hang"]["survived"], name
        assert not compared[name]["faults"]["crash"]["survived"], name
    for each in compared.values():
        assert 2 <= len(each["seconds"]["rounds"]) <= 3
        figures = [each["seconds"], each["peak_memory_bytes"], each["worst_loop_stall"]]
        for figure in figures:
            if figure is not None:
                assert figure["least"] <= figure["median"] <= figure["greatest"]
    if LINUX:
        assert all(each["peak_memory_bytes"]["least"] > 0 for each in compared.values())
        assert processes_left(cache) == []
