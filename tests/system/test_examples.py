"""The programs of docs/examples, run as their readers run them, beside the classic form of each.

A program is shown on a page of docs/how-to and has a run in `RUNS`; what else is in the folder
supports them and is in `SUPPORT`.
"""

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
PAGES = ROOT / "docs" / "how-to"

# Script -> arguments and what it must print: patterns, in this order.
RUNS: dict[str, tuple[list[str], list[str]]] = {
    "countdown.py": (["2000"], ["one after the other", "two threads", "two processes"]),
    "classic/countdown.py": (["2000"], ["one after the other", "two threads", "two processes"]),
    "named_workers.py": (
        [],
        [r"\[third task\] forms ran in MainThread of a ProcessExecutor"],
    ),
    "classic/named_workers.py": ([], ["MainThread of forms"]),
    "print_lock.py": (["3"], [r"hello from (\d)\nworld from \1\n"]),
    "classic/print_lock.py": ([], ["still waiting for the lock: 0"]),
    "classic/print_lock.py die": (["die"], ["still waiting for the lock: 10"]),
    "worker_logging.py": ([], [r"\A(?=.*\[8, 8\])", r"WARNING shop.parser \[parse\] no price"]),
    "classic/worker_logging.py": ([], [r"\A(?=.*\[8, 8\])", "WARNING shop.parser no price"]),
    "pool_map.py": (
        [],
        [r"81\]\n49\nTimeoutError: compute_for", "on: False", "crashed: 1 of 6", "works on: 64"],
    ),
    "classic/pool_map.py": ([], [r"81\]\n49\nTimeoutError, but nobody", "given up: True"]),
    "classic/pool_map.py crash": (["crash"], ["given up: True", "the map waits for ever: True"]),
    "condition.py": ([], ["took 0", "took 3"]),
    "condition.py fail": (["fail"], ["cancelled, since the supplier is closed"]),
    "classic/condition.py": ([], ["took 3", "waits for ever: False"]),
    "classic/condition.py fail": (["fail"], ["waits for ever: True"]),
    "semaphore.py": ([], ["threads: 3", "limit=3.: 3"]),
    "classic/semaphore.py": ([], ["at a time: 3"]),
    "event.py": ([], ["thread: open", "it is open"]),
    "classic/event.py": ([], ["it is open", "it is open"]),
    "classic/event.py die": (["die"], [r"set\(\) waits for ever: True"]),
    "timer.py": ([], ["hello, a little later\n<Timer of print, cancelled>\ntick"]),
    "classic/timer.py": ([], ["goodbye\nprinted after the program has said goodbye"]),
    "daemon.py": ([], ["work: done\n", "heartbeat: put everything back\nnothing is left"]),
    "classic/daemon.py": ([], [r"\A(?!.*put everything back)", "work: done\n", "goodbye"]),
    "process_queue.py": ([], ["consumed 2000000 bytes"]),
    "process_queue.py die": (["die"], ["ended too, since a producer crashed"]),
    "classic/process_queue.py": ([], ["consumed 2000000 bytes", "waits for ever: False"]),
    "classic/process_queue.py join": (["join"], ["the producer waits for ever: True"]),
    "classic/process_queue.py die": (["die"], ["the consumer waits for ever: True"]),
    "shared_lifo.py": ([], ["newest first: True", "left undone: 0"]),
    "classic/shared_lifo.py": ([], ["left undone: 20"]),
    "pipe.py": ([], ["answer: HELLO", "no answer in time: True", "answer: GOODBYE"]),
    "pipe.py die": (["die"], ["answer: HELLO", "told that it died"]),
    "classic/pipe.py": ([], ["no answer in time: True", "answer: GOODBYE", "exit code: 0"]),
    "classic/pipe.py die": (["die"], ["would wait for ever", "exit code: -9"]),
    "classic/pipe.py die close": (["die", "close"], ["told that it died", "exit code: -9"]),
    "shared_numbers.py": ([], ["counted to 2000"]),
    "shared_numbers.py die": (["die"], ["recovered, and counted to 2000"]),
    "classic/shared_numbers.py": ([], ["counted to 2000"]),
    "classic/shared_numbers.py die": (["die"], ["locked for ever: True"]),
    "acquisition.py": (["0.3"], [r"mean 20\.\d+, deviation 0\.\d+", "was seen: True"]),
    "classic/acquisition.py": (["0.3"], [r"mean 20\.\d+, deviation 0\.\d+", "was seen: True"]),
    "classic/acquisition.py die": (["9", "die"], ["saw 100 readings", "wait for ever"]),
    "alarm.py": ([], ["waited too long", "was stopped", "the outer limit held: True"]),
    "classic/alarm.py": ([], ["waited too long", "the outer limit held: False"]),
    "pause.py": ([], ["ready", "got SIGHUP", "got SIGTERM"]),
    "classic/pause.py": ([], ["got SIGHUP"]),
    "classic/pause.py race": (["race"], ["got SIGHUP", "until the alarm: True"]),
    "ctrl_c.py": ([], ["whole records: True", "cut short: False"]),
    "ctrl_c.py twice": (["twice"], ["whole records: True", "cut short: True"]),
    "classic/ctrl_c.py": ([], ["whole records: True"]),
    "classic/ctrl_c.py forgotten": (["forgotten"], ["KeyboardInterrupt", "records: False"]),
    "counter.py": ([], ["15.0, 0.0, 4.0", "HELLO", "the result of a generator"]),
    "classic/counter.py": ([], ["15.0, 0.0, 4.0", "HELLO", "b1 the result of b"]),
    "sampler.py": (["0.05", "2"], [r"(cpu .*% \| mem .*% \| net .* kB/s \| disk .*\n){2}"]),
    "classic/sampler.py": (["0.05"], ["net .* kB/s", "took more than twice that: True"]),
    "forest.py": (["400"], [r"score 0\.\d\d after", r"\d+ turns of the loop meanwhile"]),
    "classic/forest.py": (["400"], [r"score 0\.\d\d after", "2 turns of the loop meanwhile"]),
}
# Those that need somebody to talk to have tests of their own, further down.
TALKING = ("downloads.py", "echo.py", "fetch_mail.py")
SUPPORT = (
    "countdown_chart.py",
    "downloads_compare.py",
    "echo_compare.py",
    "fetch_mail_compare.py",
    "imap_server.py",
    "local_site.py",
)
NEEDS = {"forest.py": "sklearn"}


def programs() -> list[str]:
    return sorted(each.name for each in EXAMPLES.glob("*.py") if each.name not in SUPPORT)


def run(script: str, *arguments: str, timeout: float = 60) -> "subprocess.CompletedProcess[str]":
    """What it printed, both streams in one; it must end well."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done


# -- what the folder promises -----------------------------------------------------------------------


@pytest.mark.parametrize("name", programs())
def test_a_program_is_short_shown_and_run(name: str) -> None:
    """At most 60 lines, on a page beside its classic form, and run by a test."""
    assert len((EXAMPLES / name).read_text().splitlines()) <= 60
    assert (EXAMPLES / "classic" / name).exists()
    pages = "\n".join(page.read_text() for page in PAGES.glob("classic-*.md"))
    assert f"{{literalinclude}} ../examples/{name}\n" in pages
    assert f"{{literalinclude}} ../examples/classic/{name}\n" in pages
    assert name in TALKING or {name, f"classic/{name}"} <= RUNS.keys()


def test_the_pages_show_what_exists() -> None:
    """No page includes a file that is not there."""
    for page in PAGES.glob("classic-*.md"):
        for path in re.findall(r"\.\./examples/[\w./]+", page.read_text()):
            assert (PAGES / path).exists(), (page.name, path)


# -- programs by themselves -------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("run_name", RUNS)
def test_a_program_prints_what_its_page_says(run_name: str) -> None:
    """It ends well, and prints this in this order."""
    script = run_name.split(maxsplit=1)[0]
    engine = NEEDS.get(script.removeprefix("classic/"))
    if engine is not None and importlib.util.find_spec(engine) is None:
        pytest.skip(f"needs {engine}, of the dependency group examples")
    arguments, patterns = RUNS[run_name]
    printed = run(script, *arguments).stdout
    assert re.search(".*".join(patterns), printed, re.DOTALL), printed


@pytest.mark.slow
def test_the_chart_is_drawn(tmp_path: Path) -> None:
    """From a run of the countdown itself, with a bar for each way."""
    target = tmp_path / "chart.svg"
    run("countdown_chart.py", "2000", "1", str(target))
    assert target.read_text().count("<rect") == 4


# -- programs that talk -----------------------------------------------------------------------------


@contextmanager
def serving(script: str, *arguments: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """A program that prints a line once it can be talked to; ended afterwards."""
    with subprocess.Popen(
        [sys.executable, str(EXAMPLES / script), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.terminate()


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.slow
def test_the_downloads_are_compared() -> None:
    """Every program downloads every page, and its times and memory are printed."""
    printed = run("downloads_compare.py", "60").stdout
    assert len(re.findall(r"(\d+\.\d\d s +){3}\d+ MB", printed)) == 3, printed


@pytest.mark.slow
@pytest.mark.parametrize("script", ["downloads.py", "classic/downloads.py"])
def test_a_download_gets_all_pages(script: str) -> None:
    """Of ten thousand bytes each."""
    with serving("local_site.py") as (port, _):
        assert "30 pages, 300000 bytes" in run(script, f"http://127.0.0.1:{port}", "30", "5").stdout


@pytest.mark.slow
def test_a_mailbox_is_fetched_over_connections_that_are_lost(tmp_path: Path) -> None:
    """Stopped in the middle it leaves whole messages only, and goes on with those that are missing."""
    folder = tmp_path / "mail"

    def files() -> list[Path]:
        return sorted(folder.glob("*.eml"))

    with serving("imap_server.py", "800", "37") as (port, server):
        command = [sys.executable, str(EXAMPLES / "fetch_mail.py"), port, str(folder)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as first:
            wait_until(lambda: len(files()) >= 40)
            first.send_signal(signal.SIGINT)
        assert first.returncode == -signal.SIGINT
        here = {each.name: each.stat().st_mtime_ns for each in files()}
        assert 40 <= len(here) < 800
        second = run("fetch_mail.py", port, str(folder)).stdout
        assert f"{800 - len(here)} messages to fetch" in second
        assert len(files()) == 800
        texts = [each.read_bytes() for each in files()]
        assert all(text.startswith(b"From:") and text.endswith(b"x\r\n") for text in texts)
        assert {name: (folder / name).stat().st_mtime_ns for name in here} == here
        assert run("fetch_mail.py", port, str(folder)).stdout.startswith("0 messages to fetch")
        assert server.poll() is None


@pytest.mark.slow
def test_the_mailboxes_are_compared() -> None:
    """Both fetch what there is, and their times and memory are printed."""
    printed = run("fetch_mail_compare.py", "40").stdout
    assert len(re.findall(r"(\d+\.\d\d s +){3}\d+ MB", printed)) == 2, printed


@pytest.mark.slow
def test_the_classic_mailbox_ends_with_its_connection(tmp_path: Path) -> None:
    """The first one that is lost ends it all."""
    script = str(EXAMPLES / "classic" / "fetch_mail.py")
    with serving("imap_server.py", "60", "0") as (port, _):
        assert run(script, port, str(tmp_path / "all")).stdout == "60 messages are here\n"
    with serving("imap_server.py", "60", "37") as (port, _):
        command = [sys.executable, script, port, str(tmp_path / "some")]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
        assert done.returncode == 1
        assert "imaplib.IMAP4.abort" in done.stderr


def say(client: socket.socket, words: bytes) -> bytes:
    client.sendall(words)
    return client.recv(100)


@pytest.mark.slow
@pytest.mark.parametrize(
    "way",
    [
        "iterate",
        "task",
        "thread",
        "process",
        "classic iterate",
        "classic thread",
        "classic process",
    ],
)
def test_an_echo_server_answers(way: str) -> None:
    """Two clients at the same time, or one after the other."""
    *classic, kind = way.split()
    script = "classic/echo.py" if classic else "echo.py"
    with serving(script, kind, "0") as (line, server):
        address = ("127.0.0.1", int(line.split()[-1]))
        with socket.create_connection(address, timeout=30) as first:
            assert say(first, b"one") == b"one"
            with socket.create_connection(address, timeout=30) as second:
                if kind == "iterate":
                    second.sendall(b"two")
                    first.close()
                    assert second.recv(100) == b"two"
                else:
                    assert say(second, b"two") == b"two"
                    assert say(first, b"three") == b"three"
        server.terminate()
        server.wait(timeout=30)
        if not classic:
            assert server.returncode == 128 + signal.SIGTERM
    assert not Path(f"/proc/{server.pid}").exists() or os.name != "posix"


@pytest.mark.slow
def test_the_echo_servers_are_compared() -> None:
    """A few clients are served by every one of them."""
    printed = run("echo_compare.py", "3").stdout
    assert len(re.findall(r" 3 +\d+\.\d\d s +\d+ MB", printed)) == 7, printed


@pytest.mark.slow
def test_the_classic_process_server_serves_forty() -> None:
    """The next client is connected, and waits until one of them goes."""
    with ExitStack() as stack:
        line, _ = stack.enter_context(serving("classic/echo.py", "process", "0"))
        address = ("127.0.0.1", int(line.split()[-1]))
        clients = []
        for _ in range(40):
            client = stack.enter_context(socket.create_connection(address, timeout=30))
            assert say(client, b"x") == b"x"
            clients.append(client)
        late = stack.enter_context(socket.create_connection(address, timeout=0.5))
        with pytest.raises(TimeoutError):
            say(late, b"x")
        clients[0].close()
        late.settimeout(30)
        assert late.recv(1) == b"x"
