"""Progress: every kind of display, and that none of them can harm the map."""

import asyncio
import functools
import io
import subprocess
import sys

import pytest
import rich.console
import rich.progress
import tqdm as tqdm_module
import tqdm.auto

from aioconc.flow import ProgressEvent, map_limited
from aioconc.flow._progress import make_reporter
from tests.virtual_time import run_virtual


class Terminal(io.StringIO):
    def isatty(self):
        return True


async def _double(n):
    await asyncio.sleep(0)
    if n < 0:
        raise ValueError(n)
    return 2 * n


@pytest.mark.parametrize("progress", [None, False])
async def test_none_costs_nothing(progress):
    """There is no reporter to call."""
    assert make_reporter(progress, 3, "map") is None


async def test_a_function_hears_of_every_item():
    """One event per item that ends, with the counts so far."""
    events = []
    results = await map_limited(
        _double, [1, -2, 3], limit=1, on_error="skip", progress=events.append
    )
    assert results == [2, 6]
    assert [(e.done, e.failed, e.total) for e in events] == [(1, 0, 3), (2, 1, 3), (3, 1, 3)]
    assert all(isinstance(event, ProgressEvent) and event.elapsed >= 0 for event in events)


def test_counts_follow_what_the_map_tells():
    """Started, retried and ended items are counted; the last event has nothing in flight."""

    async def main():
        events = []
        reporter = make_reporter(events.append, None, "map")
        reporter.started(3)
        reporter.retried()
        await asyncio.sleep(2)
        reporter.advanced(2, failed=1)
        reporter.close()
        reporter.close()
        reporter.advanced()
        return events

    assert run_virtual(main()) == [
        ProgressEvent(done=2, failed=1, retried=1, in_flight=1, total=None, elapsed=2),
        ProgressEvent(done=2, failed=1, retried=1, in_flight=0, total=None, elapsed=2),
    ]


async def test_an_empty_map_is_told_once():
    """So a display can show that it is over."""
    events = []
    assert await map_limited(_double, [], limit=1, progress=events.append) == []
    assert [(event.done, event.total) for event in events] == [(0, 0)]


def _reports():
    reports = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
    return reports


@pytest.mark.parametrize("error", [OSError("full"), asyncio.CancelledError()])
async def test_a_function_that_raises_is_reported_and_loses_no_item(error):
    """The loop's exception handler gets the error, once; the map goes on untold."""
    reports = _reports()
    calls = []

    def broken(event):
        calls.append(event)
        raise error

    results = await map_limited(_double, range(5), limit=2, progress=broken)
    assert results == [0, 2, 4, 6, 8]
    assert len(calls) == 1
    assert [report["exception"] for report in reports] == [error]
    assert "is not told any more; the map goes on" in reports[0]["message"]


async def test_a_function_that_returns_a_coroutine_is_reported():
    """The coroutine is closed: no warning that it was never awaited."""
    reports = _reports()
    await map_limited(_double, [1], limit=1, progress=lambda _: _double(1))
    assert "returned a coroutine" in str(reports[0]["exception"])


@pytest.mark.parametrize(
    ("progress", "message"),
    [
        ("yes", "progress must be True, a tqdm class or bar, .* got 'yes'"),
        (_double, "progress must be a plain function, got the async function _double"),
        (io, "progress must be True"),
    ],
)
async def test_bad_progress_is_refused(progress, message):
    """Before anything starts, with what is wanted."""
    with pytest.raises(TypeError, match=message):
        make_reporter(progress, 1, "map")


async def test_true_draws_a_bar_on_a_terminal(monkeypatch):
    """Redrawn in place, ended by a new line, and in plain ASCII."""
    monkeypatch.setattr(sys, "stderr", Terminal())
    await map_limited(_double, [1, -1, 3, 4], limit=1, on_error="skip", progress=True)
    text = sys.stderr.getvalue()
    assert text.startswith("\r")
    assert text.endswith("\n")
    assert text.isascii()
    assert "4/4 [====================]" in text
    assert ", 1 failed" in text


def test_true_redraws_at_most_ten_times_a_second(monkeypatch):
    """A thousand items in a second do not flood the terminal."""

    async def main():
        reporter = make_reporter(True, None, "map")
        for _ in range(1000):
            await asyncio.sleep(0.001)
            reporter.advanced()
        reporter.retried()
        reporter.close()

    monkeypatch.setattr(sys, "stderr", Terminal())
    run_virtual(main())
    lines = sys.stderr.getvalue().split("\r")[1:]
    assert 9 <= len(lines) <= 12
    assert lines[-1].rstrip() == "map: 1000 1000.0/s 0:01, 1 retried"


async def test_true_writes_one_line_elsewhere(monkeypatch):
    """A log file gets the result, not the bar; nothing for an absent stderr."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    await map_limited(_double, [1, 2], limit=1, progress=True)
    assert sys.stderr.getvalue().count("\n") == 1
    assert "2/2" in sys.stderr.getvalue()
    assert "\r" not in sys.stderr.getvalue()
    monkeypatch.setattr(sys, "stderr", None)
    await map_limited(_double, [1, 2], limit=1, progress=True)


async def test_a_closed_stderr_is_reported_and_loses_no_item(monkeypatch):
    """A display's trouble is not the map's."""
    reports = _reports()
    closed = Terminal()
    monkeypatch.setattr(sys, "stderr", closed)
    run = map_limited(_double, [1, 2], limit=1, progress=True)
    closed.isatty = lambda: True
    closed.write = lambda _: (_ for _ in ()).throw(BrokenPipeError())
    assert await run == [2, 4]
    assert [type(report["exception"]) for report in reports] == [BrokenPipeError]


@pytest.mark.parametrize("spelling", ["class", "auto", "module", "partial"])
async def test_a_tqdm_class_makes_a_bar_and_closes_it(monkeypatch, spelling):
    """With total and label; the number of failures is its postfix."""
    monkeypatch.setattr(tqdm_module.tqdm, "monitor_interval", 0)
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    made = []

    class Recorded(tqdm_module.tqdm):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, file=out, mininterval=0, **kwargs)
            made.append(self)

    if spelling == "module":
        monkeypatch.setattr(tqdm_module, "tqdm", Recorded)
    elif spelling == "auto":
        Recorded.__bases__ = (tqdm.auto.tqdm,)
    progress = {
        "class": Recorded,
        "auto": Recorded,
        "module": tqdm_module,
        "partial": functools.partial(Recorded, desc="mine"),
    }[spelling]
    await map_limited(_double, [1, -1, 3], limit=1, on_error="skip", progress=progress)
    (bar,) = made
    assert (bar.n, bar.total, bar.disable) == (3, 3, True)  # disable: closed
    assert "failed=1" in out.getvalue()
    assert ("mine:" in out.getvalue()) == (spelling == "partial")


async def test_a_tqdm_bar_is_updated_and_left_open(monkeypatch):
    """Its owner closes it, so one bar may show several maps."""
    monkeypatch.setattr(tqdm_module.tqdm, "monitor_interval", 0)
    with tqdm_module.tqdm(file=io.StringIO()) as bar:
        await map_limited(_double, [1, 2], limit=1, progress=bar)
        assert (bar.n, bar.total, bar.disable) == (2, 2, False)
        await map_limited(_double, iter([1]), limit=1, progress=bar)
        assert bar.n == 3


@pytest.mark.parametrize("started", [False, True])
async def test_a_rich_progress_gets_a_task(started):
    """Started and stopped by the map only if it was not running."""
    console = rich.console.Console(file=io.StringIO())
    progress = rich.progress.Progress(console=console, auto_refresh=False)
    if started:
        progress.start()
    await map_limited(_double, iter([1, -1, 3]), limit=1, on_error="skip", progress=progress)
    (task,) = progress.tasks
    assert (task.completed, task.total, task.fields["failed"]) == (3, 3, 1)
    assert progress.live.is_started == started
    progress.stop()


@pytest.mark.slow
def test_nothing_of_tqdm_or_rich_is_imported():
    """A map with `progress=True` works without them."""
    code = (
        "import asyncio, sys, aioconc\n"
        "async def f(n): return n\n"
        "async def main(): return await aioconc.map_limited(f, [1], limit=1, progress=True)\n"
        "assert asyncio.run(main()) == [1]\n"
        "assert not {'tqdm', 'rich'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
