"""The simulated loop's clock: when it jumps, what it waits for, and what verdicts it gives."""

import asyncio
import concurrent.futures
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from aioconc.errors import DeadlockError, LivelockError, ScheduleFailure, StuckError
from aioconc.testing import _idle, explore, external, loop_factory, run, settle

Main = Callable[[], Coroutine[Any, Any, Any]]


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real waits that end soon, for tests of what comes after them."""
    monkeypatch.setattr(_idle, "PATIENCE", 0.02)
    monkeypatch.setattr(_idle, "STUCK_AFTER", 0.05)


# -- jumping -------------------------------------------------------------------------------------


def test_sleeping_takes_no_time() -> None:
    """A day passes at once, and the clock says so."""

    async def main() -> float:
        await asyncio.sleep(86_400)
        return now()

    began = time.perf_counter()
    assert run(main) == 86_400
    assert time.perf_counter() - began < 10


def test_timers_fire_in_order_of_their_time() -> None:
    """However they were set."""

    async def main() -> list[str]:
        order: list[str] = []
        loop = asyncio.get_running_loop()
        for name, delay in [("c", 2), ("a", 0.5), ("d", 2.5), ("b", 1)]:
            loop.call_later(delay, order.append, name)
        await asyncio.sleep(3)
        return order

    assert run(main) == ["a", "b", "c", "d"]


def test_many_small_sleeps_do_not_drift() -> None:
    """Time is kept in whole nanoseconds."""

    async def main() -> float:
        for _ in range(5_000):
            await asyncio.sleep(0.1)
        return now()

    assert run(main) == pytest.approx(500, abs=1e-4)


@pytest.mark.parametrize("start", [0.0, 1e6, 1e12])
@pytest.mark.parametrize("delay", [1e-9, 1.0, 1e9])
def test_the_clock_always_reaches_the_timer(start: float, delay: float) -> None:
    """Also far out, where two floats are further apart than the timer's resolution."""

    async def main() -> float:
        await asyncio.sleep(delay)
        return now()

    with asyncio.Runner(loop_factory=loop_factory(start=start)) as runner:
        assert runner.run(main()) >= start + delay


def test_timeouts_fire_in_virtual_time() -> None:
    """A time limit beside a longer sleep."""

    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await asyncio.sleep(1_000)
        return now()

    assert run(main) == 10


def test_advance_is_a_step_that_takes_long() -> None:
    """Timers that became due meanwhile fire in order afterwards."""

    async def main() -> list[int]:
        order: list[int] = []
        loop: Any = asyncio.get_running_loop()
        loop.call_later(2, order.append, 2)
        loop.call_later(1, order.append, 1)
        loop.advance(5)
        assert order == []
        await settle()
        assert loop.time() == 5
        return order

    assert run(main) == [1, 2]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
def test_eager_tasks_run_in_virtual_time() -> None:
    """A task factory of the user's is respected."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined, unused-ignore]
        await asyncio.gather(*(asyncio.sleep(each) for each in range(5)))
        return now()

    assert run(main) == 4


def test_debug_mode_works() -> None:
    """asyncio's debug mode looks at the clock around each step."""
    with asyncio.Runner(debug=True, loop_factory=loop_factory()) as runner:
        runner.run(asyncio.sleep(3_600))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_a_program_without_descriptors_opens_none() -> None:
    """Neither a selector nor a pipe is made before there is something real to wait for."""
    folder = Path("/proc/self/fd")
    before = {each.name for each in folder.iterdir()}

    async def main() -> set[str]:
        await asyncio.gather(asyncio.sleep(1), asyncio.sleep(2))
        return {each.name for each in folder.iterdir()}

    assert run(main) == before


# -- what is real ----------------------------------------------------------------------------------


def test_a_foreign_thread_wakes_an_idle_loop() -> None:
    """With no timer set, the loop waits for a thread that nobody keeps books about."""

    async def main() -> str:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[str] = loop.create_future()

        def work() -> None:
            time.sleep(0.1)  # longer than any grace
            loop.call_soon_threadsafe(future.set_result, "from the thread")

        thread = threading.Thread(target=work)
        thread.start()
        try:
            return await future
        finally:
            thread.join()

    assert run(main) == "from the thread"


def test_a_pool_that_is_not_the_loops_holds_the_clock() -> None:
    """A busy worker of `concurrent.futures` is known by its state, whoever submitted."""

    async def main() -> None:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            for _ in range(2):
                async with asyncio.timeout(0.001):
                    await asyncio.wrap_future(pool.submit(time.sleep, 0.08))
            await asyncio.sleep(3_600)  # idle workers hold nothing

    run(main)


def test_external_holds_the_clock() -> None:
    """Time stands still in the block, and jumps after it."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)

            def answer() -> None:
                time.sleep(0.1)
                theirs.send(b"x")

            thread = threading.Thread(target=answer)
            async with asyncio.timeout(0.001):
                with external("an answer"):
                    thread.start()
                    assert await loop.sock_recv(ours, 1) == b"x"
            thread.join()
            await asyncio.sleep(60)

    run(main)


def test_external_in_real_time_does_nothing() -> None:
    """So that a helper that uses it works on every loop."""

    async def main() -> str:
        with external():
            return "done"

    assert asyncio.run(main()) == "done"


@pytest.mark.usefixtures("impatient")
def test_a_thread_may_wait_for_the_loops_time() -> None:
    """Held work that itself waits for a timer: after a while the clock goes on beside it."""

    async def main() -> str:
        loop = asyncio.get_running_loop()

        def ask() -> str:
            return asyncio.run_coroutine_threadsafe(asyncio.sleep(0.05, "slept"), loop).result()

        return await asyncio.to_thread(ask)

    assert run(main) == "slept"


def test_the_default_executor_is_shut_down_without_a_timeout() -> None:
    """`asyncio.Runner` waits for it with a time limit, which must not fire in virtual time."""

    async def main() -> None:
        await asyncio.to_thread(time.sleep, 0.01)

    before = threading.active_count()
    run(main)
    assert threading.active_count() == before


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_signal_handlers_of_the_loop_are_called() -> None:
    """A handler counts as something that may wake the loop."""

    async def main() -> str:
        loop = asyncio.get_running_loop()
        came = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, came.set_result, "signal")
        try:
            timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
            timer.start()
            return str(await came)
        finally:
            loop.remove_signal_handler(signal.SIGUSR1)
            timer.join()

    assert run(main) == "signal"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_ends_a_real_wait() -> None:
    """SIGINT cancels the main task, also while the loop waits without a selector."""
    cancelled = []

    async def main() -> None:
        timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        try:
            with external("for ever"):
                await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        finally:
            timer.join()

    with pytest.raises(KeyboardInterrupt):
        run(main)
    assert cancelled == [True]


# -- verdicts --------------------------------------------------------------------------------------


def test_waiting_for_what_nobody_does_is_a_deadlock() -> None:
    """Said at once, with who waits."""

    async def main() -> None:
        asyncio.current_task().set_name("the waiter")  # type: ignore[union-attr]
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError, match="the waiter"):
        run(main)


def test_a_circle_of_locks_is_named() -> None:
    """Who holds what, and who waits for it."""

    async def main() -> None:
        first, second = asyncio.Lock(), asyncio.Lock()

        async def take(one: asyncio.Lock, other: asyncio.Lock) -> None:
            async with one:
                await asyncio.sleep(1)
                async with other:
                    pass

        async with asyncio.TaskGroup() as group:
            group.create_task(take(first, second), name="tick")
            group.create_task(take(second, first), name="tock")

    with pytest.raises(DeadlockError) as caught:
        run(main)
    assert "tick" in str(caught.value)
    assert "tock" in str(caught.value)
    assert "held by" in str(caught.value)


def test_tasks_that_await_each_other_are_a_deadlock() -> None:
    """Though `Task.cancel` cannot end them: it would go round for ever."""

    async def main() -> None:
        tasks: list[asyncio.Task[Any]] = []

        async def wait_for(other: int) -> None:
            await asyncio.sleep(0)
            await tasks[other]

        tasks += [asyncio.create_task(wait_for(1)), asyncio.create_task(wait_for(0))]
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError):
        run(main)
    with pytest.raises(ScheduleFailure) as caught:
        explore(main)
    assert isinstance(caught.value.__cause__, DeadlockError)


def test_a_circle_is_found_beside_timers_that_keep_firing() -> None:
    """A keep-alive does not hide it."""

    async def main() -> None:
        lock = asyncio.Lock()

        async def keep_alive() -> None:
            while True:
                await asyncio.sleep(1)

        async def lock_twice() -> None:
            async with lock, lock:
                pass

        async with asyncio.TaskGroup() as group:
            group.create_task(keep_alive())
            group.create_task(lock_twice())

    with pytest.raises(DeadlockError):
        run(main)


def test_a_circle_that_a_timeout_breaks_is_none() -> None:
    """Trying a lock with a time limit is how programs avoid a deadlock."""

    async def main() -> str:
        lock = asyncio.Lock()

        async def tick() -> None:
            for _ in range(3_000):
                await asyncio.sleep(1)

        async with asyncio.TaskGroup() as group:
            group.create_task(tick())
            async with lock:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(2_900):
                        await lock.acquire()
        return "done"

    assert run(main) == "done"


@pytest.mark.usefixtures("impatient")
def test_with_a_thread_alive_it_is_stuck_not_deadlocked() -> None:
    """A thread that never comes might have come."""
    release = threading.Event()
    thread = threading.Thread(target=release.wait, name="the sleeper")

    async def main() -> None:
        thread.start()
        await asyncio.Event().wait()

    try:
        with pytest.raises(StuckError, match="the sleeper"):
            run(main)
    finally:
        release.set()
        thread.join()


@pytest.mark.usefixtures("impatient")
def test_with_a_socket_open_it_is_stuck_not_deadlocked() -> None:
    """A silent peer might speak."""

    async def main() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            await asyncio.get_running_loop().sock_recv(ours, 1)

    with pytest.raises(StuckError, match="file descriptor"):
        run(main)


def test_running_without_time_passing_is_a_livelock() -> None:
    """Two tasks that ask each other again and again; a third starves meanwhile."""

    async def main() -> None:
        async def polite() -> None:
            while True:
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            group.create_task(polite(), name="after you")
            group.create_task(polite(), name="no, after you")
            group.create_task(asyncio.sleep(1), name="the starving")

    runner = asyncio.Runner(loop_factory=loop_factory(max_steps=5_000))
    with runner, pytest.raises(LivelockError) as caught:
        runner.run(main())
    for name in ("after you", "no, after you", "the starving"):
        assert name in str(caught.value)


def test_steps_are_counted_between_two_moments_only() -> None:
    """A long program is no livelock as long as time passes."""

    async def main() -> None:
        for _ in range(20):
            for _ in range(500):
                await asyncio.sleep(0)
            await asyncio.sleep(1)

    with asyncio.Runner(loop_factory=loop_factory(max_steps=5_000)) as runner:
        runner.run(main())


def test_traffic_on_sockets_is_no_livelock() -> None:
    """What comes from outside is progress, though no virtual time passes."""

    async def main() -> int:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.setblocking(False)

            async def receive() -> int:
                return len(await loop.sock_recv(ours, 1))

            total = 0
            for _ in range(500):
                reading = asyncio.create_task(receive())
                await asyncio.sleep(0)
                await loop.sock_sendall(theirs, b"x")
                total += await reading
        return total

    with asyncio.Runner(loop_factory=loop_factory(max_steps=500)) as runner:
        assert runner.run(main()) == 500


# -- settle ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("runner", [run, lambda main: asyncio.run(main())], ids=["virtual", "real"])
def test_settle_returns_when_all_others_wait(runner: Callable[[Main], Any]) -> None:
    """However many steps they take, and before any time passes."""

    async def main() -> None:
        steps = 0

        async def step() -> None:
            nonlocal steps
            for _ in range(10):
                await asyncio.sleep(0)
                steps += 1
            await asyncio.sleep(0.01)
            steps = 99

        task = asyncio.create_task(step())
        await settle()
        assert steps == 10
        await task

    runner(main)


def test_settle_waits_for_real_work_under_way() -> None:
    """A thread's result is taken in before `settle` returns."""

    async def main() -> bool:
        task = asyncio.create_task(asyncio.to_thread(time.sleep, 0.05))
        await settle()
        return task.done()

    assert run(main)


def test_several_tasks_may_settle() -> None:
    """They are woken together, and settle again if they do so again."""

    async def main() -> None:
        await asyncio.gather(settle(), settle())
        await asyncio.gather(settle(), asyncio.sleep(1))

    run(main)


def test_settle_can_be_cancelled() -> None:
    """A cancelled call leaves nothing that would be woken."""

    async def main() -> None:
        async def wait() -> None:
            while True:
                await settle()
                await asyncio.Event().wait()

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await settle()

    run(main)


@pytest.mark.loops("uvloop")
async def test_settle_refuses_a_loop_that_hides_its_queue() -> None:
    """The error says what to use."""
    with pytest.raises(RuntimeError, match="shows what is ready"):
        await settle()


# -- bad input -------------------------------------------------------------------------------------


def test_bad_arguments_are_refused() -> None:
    """Before a loop is made."""
    with pytest.raises(ValueError, match="max_steps must be an int >= 1, got 0"):
        loop_factory(max_steps=0)
    with pytest.raises(ValueError, match="start must be a number of seconds"):
        loop_factory(start=-1)
    with pytest.raises(ValueError, match="reorder must be one of"):
        loop_factory(reorder="all")  # type: ignore[arg-type]

    async def main() -> None: ...

    coro = main()
    with pytest.raises(TypeError, match=r"did you mean run\(.*main\)"):
        run(coro)  # type: ignore[arg-type]


@pytest.mark.loops("asyncio")
async def test_run_inside_a_loop_is_refused() -> None:
    """The error says where to call it."""

    async def main() -> None: ...

    with pytest.raises(RuntimeError, match="from a plain function"):
        run(main)
