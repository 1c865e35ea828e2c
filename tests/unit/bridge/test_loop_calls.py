"""LoopCalls: a thread gets the answer of the loop, or is told why there is none."""

import asyncio
import concurrent.futures
import threading
from collections.abc import Iterator

import pytest

from aioconc._bridge import _loop_calls
from aioconc._bridge._loop_calls import LoopCalls
from aioconc._bridge._mailbox import Mailbox
from aioconc.errors import TaskCancelled


class Unwanted(BaseException):
    """What the thread is to raise once its work is no longer wanted."""


class Work:
    """The calls of one piece of work in `loop`, made in a thread of its own."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.unwanted = False
        self.calls = LoopCalls(
            loop, Mailbox(), "work", lambda: Unwanted() if self.unwanted else None
        )
        self.threads = concurrent.futures.ThreadPoolExecutor(1)

    def ask(self, fn: object) -> "concurrent.futures.Future[object]":
        return self.threads.submit(self.calls.call, fn, "fn", (), {})  # type: ignore[arg-type]

    def give_up(self) -> None:
        self.unwanted = True
        self.calls.cancel()


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    if not loop.is_closed():
        loop.close()


@pytest.fixture
def work(loop: asyncio.AbstractEventLoop) -> Iterator[Work]:
    work = Work(loop)
    yield work
    work.threads.shutdown()


def answer_of(
    loop: asyncio.AbstractEventLoop, asked: "concurrent.futures.Future[object]"
) -> object:
    return loop.run_until_complete(asyncio.wait_for(asyncio.wrap_future(asked, loop=loop), 30))


def test_functions_and_coroutine_functions_run_in_the_loop(
    loop: asyncio.AbstractEventLoop, work: Work
) -> None:
    """Both answer from the loop's thread."""

    async def later() -> int:
        await asyncio.sleep(0)
        return threading.get_ident()

    here = threading.get_ident()
    assert answer_of(loop, work.ask(threading.get_ident)) == here
    assert answer_of(loop, work.ask(later)) == here


def test_giving_up_cancels_what_runs_in_the_loop(
    loop: asyncio.AbstractEventLoop, work: Work
) -> None:
    """Its clean-up runs in the loop before the thread goes on, with the error of who gave up."""
    ended: list[str] = []

    async def endless() -> None:
        loop.call_soon(work.give_up)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("cleaned up")

    with pytest.raises(Unwanted):
        answer_of(loop, work.ask(endless))
    assert ended == ["cleaned up"]


def test_giving_up_in_the_moment_of_the_start_is_not_missed(
    loop: asyncio.AbstractEventLoop, work: Work
) -> None:
    """The order that a lost cancellation needs: asked, given up, and only then a task to cancel."""

    def start() -> object:
        work.give_up()  # as another thread may do between the check and the task
        return asyncio.Event().wait()

    with pytest.raises(Unwanted):
        answer_of(loop, work.ask(start))


def test_what_is_given_up_already_does_not_start(
    loop: asyncio.AbstractEventLoop, work: Work
) -> None:
    """The function is not called."""
    called: list[int] = []
    work.give_up()
    with pytest.raises(Unwanted):
        answer_of(loop, work.ask(lambda: called.append(1)))
    assert called == []


def test_a_cancellation_by_somebody_else_is_an_ordinary_error(
    loop: asyncio.AbstractEventLoop, work: Work
) -> None:
    """The work is still wanted, so it gets `TaskCancelled`."""

    async def cancelled() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    with pytest.raises(TaskCancelled, match="fn was cancelled in the loop"):
        answer_of(loop, work.ask(cancelled))


def test_an_exit_ends_the_loop_and_answers(loop: asyncio.AbstractEventLoop, work: Work) -> None:
    """`SystemExit` in the function is raised where the loop runs, and the thread learns it too."""

    def leave() -> None:
        raise SystemExit(3)

    asked = work.ask(leave)
    with pytest.raises(SystemExit):
        loop.run_forever()
    assert isinstance(asked.exception(timeout=30), SystemExit)


def test_a_closed_loop_leaves_no_thread_waiting(
    loop: asyncio.AbstractEventLoop, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closed before the call or during it: the thread gets an error that says so."""
    monkeypatch.setattr(_loop_calls, "_LOOK", 0.001)
    asked = work.ask(print)
    while not work.calls._mailbox._letters:  # it waits, and the loop does not run
        pass
    loop.close()
    with pytest.raises(RuntimeError, match="was closed before fn had ended"):
        asked.result(timeout=30)
    with pytest.raises(RuntimeError, match="work is closed; nothing can be called"):
        work.ask(print).result(timeout=30)
