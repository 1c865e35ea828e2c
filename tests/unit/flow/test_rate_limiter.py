"""RateLimiter: order, exactness, cancellation, pauses, and the loops it serves."""

import asyncio
import dataclasses
import threading
import time

import pytest

from aioconc.flow import RateLimiter
from aioconc.tasks import CancelScope
from aioconc.testing._loop import SimulationLoop
from tests.virtual_time import run_virtual


async def _log_when_acquired(limiter, log, name, cost=1):
    await limiter.acquire(cost)
    log.append((name, asyncio.get_running_loop().time()))


def test_calls_are_spaced_evenly_after_the_burst():
    """The burst goes at once, then one call per interval."""

    async def main():
        limiter = RateLimiter(2, burst=3)
        times = []
        for _ in range(6):
            await limiter.acquire()
            times.append(asyncio.get_running_loop().time())
        return times

    assert run_virtual(main()) == [0, 0, 0, 0.5, 1.0, 1.5]


def test_waiters_go_in_order_of_arrival_whatever_their_cost():
    """A cheap call never overtakes an expensive one that came first."""

    async def main():
        limiter = RateLimiter(1, burst=5)
        await limiter.acquire(5)
        log = []
        async with asyncio.TaskGroup() as group:
            for name, cost in [("big", 5), ("small", 1), ("middle", 3)]:
                group.create_task(_log_when_acquired(limiter, log, name, cost))
        return log

    assert run_virtual(main()) == [("big", 5), ("small", 6), ("middle", 9)]


def test_a_newcomer_queues_behind_those_who_wait():
    """Neither acquire nor try_acquire takes what the head of the queue waits for."""

    async def main():
        limiter = RateLimiter(1, burst=2)
        await limiter.acquire(2)
        log = []
        waiting = asyncio.create_task(_log_when_acquired(limiter, log, "first", 2))
        await asyncio.sleep(1)  # one call is free now, but the head wants two
        assert limiter.try_acquire() is False
        newcomer = asyncio.create_task(_log_when_acquired(limiter, log, "second"))
        await asyncio.gather(waiting, newcomer)
        return log

    assert run_virtual(main()) == [("first", 2), ("second", 3)]


def test_a_cancelled_waiter_gives_its_place_to_those_behind():
    """Cancelling a waiter moves the later ones up; the head's timer goes to the next."""

    async def main():
        limiter = RateLimiter(1, burst=3)
        await limiter.acquire(3)
        log = []
        tasks = [
            asyncio.create_task(_log_when_acquired(limiter, log, n, cost))
            for n, cost in enumerate([3, 1, 1])
        ]
        await asyncio.sleep(0.25)
        tasks[0].cancel()
        await asyncio.sleep(0.25)
        tasks[1].cancel()
        await asyncio.wait(tasks)
        return log, limiter.statistics().waiting

    assert run_virtual(main()) == ([(2, 1.0)], 0)


def test_cancelled_in_the_tick_of_its_turn_nothing_is_lost():
    """A waiter that is woken and cancelled in one tick takes nothing; the next one goes."""

    async def main():
        loop = asyncio.get_running_loop()
        limiter = RateLimiter(1)
        await limiter.acquire()
        log = []
        first = asyncio.create_task(_log_when_acquired(limiter, log, "first"))
        second = asyncio.create_task(_log_when_acquired(limiter, log, "second"))
        await asyncio.sleep(0)
        loop.call_at(1.0, first.cancel)  # after the limiter's own timer of that moment
        await asyncio.wait([first, second])
        return first.cancelled(), log, limiter.statistics().acquired

    assert run_virtual(main()) == (True, [("second", 1.0)], 2)


async def test_many_waiters_cancelled_at_once_leave_a_clean_limiter():
    """On every loop: no waiter, no timer, nothing taken."""
    limiter = RateLimiter(1, per=60)
    await limiter.acquire()
    tasks = [asyncio.create_task(limiter.acquire()) for _ in range(100)]
    await asyncio.sleep(0)
    for task in reversed(tasks):
        task.cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)
    assert limiter.statistics().waiting == 0
    assert limiter.statistics().acquired == 1
    assert limiter._timer is None


async def test_only_the_head_has_a_timer(monkeypatch):
    """A thousand waiters cost one timer."""
    armed = []
    loop = asyncio.get_running_loop()
    limiter = RateLimiter(1, per=60)
    await limiter.acquire()
    serve = limiter.__class__._serve

    def counting(self, loop, *, least=0.0):
        before = self._timer
        serve(self, loop, least=least)
        armed.append(self._timer is not None and self._timer is not before)

    monkeypatch.setattr(RateLimiter, "_serve", counting)
    tasks = [loop.create_task(limiter.acquire()) for _ in range(1000)]
    await asyncio.sleep(0)
    assert limiter.statistics().waiting == 1000
    assert sum(armed) == 1
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def test_a_million_acquisitions_do_not_drift():
    """Three a second: after a million the clock shows a third of a million seconds, exactly."""

    async def main():
        loop = asyncio.get_running_loop()
        limiter = RateLimiter(3)
        assert limiter.try_acquire()
        for n in range(1, 1_000_000):
            # Straight to the moment it is due: what a queue of a million would do.
            due = limiter._due_at(1)
            if n % 1000 == 0:
                loop.advance(-(-due // limiter._scale) / 1e9 - loop.time())
                assert limiter.try_acquire(), n
                limiter._full_at = due + limiter._interval  # undo the rounding up to a nanosecond
            else:
                limiter._full_at += limiter._interval
        return limiter._full_at, limiter._scale

    assert run_virtual(main()) == (1_000_000 * 1_000_000_000, 3)


@pytest.mark.parametrize(("rate", "per"), [(3, 1), (0.1, 1.0), (7, 0.3), (1e-6, 1), (2.5, 1e-3)])
def test_the_interval_is_exactly_what_the_arguments_say(rate, per):
    """`rate` intervals make `per` seconds, without a rounding error."""
    from decimal import Decimal
    from fractions import Fraction

    limiter = RateLimiter(rate, per)
    interval = Fraction(limiter._interval, limiter._scale)
    assert interval * Fraction(Decimal(str(rate))) == Fraction(Decimal(str(per))) * 10**9


@pytest.mark.parametrize("start", [0.0, 12345.678, 3e6])
def test_it_never_spins_or_stalls_at_any_clock_reading(start):
    """Where floats are coarse, a timer that is a hair early is armed again, and time goes on."""

    async def main():
        limiter = RateLimiter(3)
        began = asyncio.get_running_loop().time()
        for _ in range(7):
            await limiter.acquire()
        return asyncio.get_running_loop().time() - began

    took = run_virtual(main(), start=start)
    assert 2 - 1e-6 <= took <= 2.01


def test_a_timer_that_fires_early_is_not_believed():
    """The clock is read again and the wait goes on."""

    class EarlyTimers(SimulationLoop):
        def call_later(self, delay, callback, *args, context=None):
            return super().call_later(delay * 0.9, callback, *args, context=context)

    async def main():
        limiter = RateLimiter(1)
        await limiter.acquire()
        await limiter.acquire()
        return asyncio.get_running_loop().time()

    with asyncio.Runner(loop_factory=EarlyTimers) as runner:
        assert 1.0 <= runner.run(main()) <= 1.002


def test_pause_also_holds_those_already_waiting():
    """A pause moves everybody back, and the longest of several counts."""

    async def main():
        limiter = RateLimiter(1)
        await limiter.acquire()
        log = []
        waiting = asyncio.create_task(_log_when_acquired(limiter, log, "waiting"))
        await asyncio.sleep(0.5)
        limiter.pause(10)
        limiter.pause(2)
        assert limiter.statistics().paused_for == 10
        assert limiter.statistics().available == 0
        assert limiter.try_acquire() is False
        await waiting
        return log

    assert run_virtual(main()) == [("waiting", 10.5)]


def test_pause_in_the_tick_of_the_turn_still_holds():
    """A waiter that was woken but has not run yet waits out the pause."""

    async def main():
        loop = asyncio.get_running_loop()
        limiter = RateLimiter(1)
        await limiter.acquire()
        log = []
        waiting = asyncio.create_task(_log_when_acquired(limiter, log, "waiting"))
        await asyncio.sleep(0)
        loop.call_at(1.0, limiter.pause, 4)  # after the limiter's own timer of that moment
        await waiting
        return log

    assert run_virtual(main()) == [("waiting", 5.0)]


async def test_acquire_of_a_free_call_does_not_suspend():
    """With a free call, acquire ends in its first step."""
    coroutine = RateLimiter(1).acquire()
    with pytest.raises(StopIteration):
        coroutine.send(None)


async def test_a_loop_of_free_acquisitions_leaves_others_their_turn():
    """Another task runs at least once per hundred or so acquisitions."""
    turns = 0
    stop = False

    async def other():
        nonlocal turns
        while not stop:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    limiter = RateLimiter(1e9, burst=10_000)
    for _ in range(2000):
        await limiter.acquire()
    stop = True
    await task
    assert turns >= 15


async def test_a_loop_of_free_acquisitions_sees_its_cancellation():
    """A plain cancel strikes within a hundred acquisitions, though none has to wait."""
    limiter = RateLimiter(1e9, burst=10_000)
    acquired = 0

    async def greedy():
        nonlocal acquired
        asyncio.current_task().cancel()
        while True:
            await limiter.acquire()
            acquired += 1

    task = asyncio.create_task(greedy())
    await asyncio.wait([task])
    assert task.cancelled()
    assert acquired <= 101
    assert limiter.statistics().acquired == acquired


async def test_acquire_inside_a_cancelled_scope_raises_at_once():
    """Also with a free call: nothing is taken."""
    limiter = RateLimiter(1)
    with CancelScope() as scope:
        scope.cancel()
        await limiter.acquire()
    assert scope.cancelled_caught
    assert limiter.statistics().acquired == 0


async def test_async_with_acquires_one():
    """The block runs once a call may go; leaving it returns nothing."""
    limiter = RateLimiter(1, per=60, burst=2)
    async with limiter:
        pass
    assert limiter.statistics().available == 1


def test_give_back_lets_the_next_one_go():
    """A call given back at once is as if it had never been taken."""

    async def main():
        limiter = RateLimiter(1)
        await limiter.acquire()
        log = []
        waiting = asyncio.create_task(_log_when_acquired(limiter, log, "waiting"))
        await asyncio.sleep(0)
        limiter.give_back()
        await waiting
        return log

    assert run_virtual(main()) == [("waiting", 0)]


async def test_rate_holds_on_the_real_clock():
    """By the loop's clock, no window of `per` has more than rate + burst, on every loop."""
    limiter = RateLimiter(10, per=0.02, burst=3)
    went = []

    async def caller():
        await limiter.acquire()
        # The reading by which it went, in nanoseconds: another one here could be late by a
        # time slice of the machine's, and so prove nothing.
        went.append(limiter._seen // limiter._scale)

    async with asyncio.TaskGroup() as group:
        for _ in range(40):
            group.create_task(caller())
    assert len(went) == 40
    assert went == sorted(went)
    for i, start in enumerate(went):
        assert sum(at <= start + 20_000_000 for at in went[i:]) <= 13


def test_successive_loops_share_the_limiter_and_its_rate():
    """asyncio.run twice is fine, and the second run still counts the first one's calls."""
    limiter = RateLimiter(1, per=60)

    async def take():
        return limiter.try_acquire()

    assert asyncio.run(take()) is True
    assert asyncio.run(take()) is False


def test_a_loop_with_another_clock_takes_over_what_is_left_to_wait():
    """A clock that lies behind counts the time between as none, and nobody waits for ever."""
    limiter = RateLimiter(1)

    async def take():
        await limiter.acquire()
        return asyncio.get_running_loop().time()

    assert run_virtual(take(), start=1e6) == 1e6
    assert run_virtual(take(), start=0) == 1.0


def test_use_by_a_second_running_loop_is_refused():
    """While one loop runs with it, another thread's loop gets an error with the remedy."""
    limiter = RateLimiter(1, burst=2)
    errors = []

    async def other():
        await limiter.acquire()

    def thread():
        try:
            asyncio.run(other())
        except RuntimeError as error:
            errors.append(str(error))

    async def main():
        await limiter.acquire()
        worker = threading.Thread(target=thread)
        worker.start()
        while worker.is_alive():
            await asyncio.sleep(0.001)
        worker.join()

    asyncio.run(main())
    assert "in use by another event loop; make one limiter for each loop" in errors[0]
    assert limiter.statistics().acquired == 1


def test_without_a_loop_it_says_how_to_call_from_a_thread():
    """try_acquire and pause need the loop's clock."""
    with pytest.raises(RuntimeError, match="call_soon_threadsafe"):
        RateLimiter(1).pause(1)
    with pytest.raises(RuntimeError, match="run_coroutine_threadsafe"):
        RateLimiter(1).try_acquire()


def test_waiters_of_a_loop_that_was_closed_under_them_are_forgotten():
    """A new loop starts with an empty queue; the old waiters do no harm when collected."""
    limiter = RateLimiter(1000)
    old = asyncio.new_event_loop()

    async def hang():
        limiter.pause(1e-3)
        await limiter.acquire()

    coroutine = hang()
    asyncio._set_running_loop(old)
    try:
        coroutine.send(None)
    finally:
        asyncio._set_running_loop(None)

    async def fresh():
        await limiter.acquire()

    with pytest.raises(RuntimeError, match="another event loop"):
        asyncio.run(fresh())
    old.close()
    asyncio.run(fresh())
    coroutine.close()
    assert limiter.statistics().waiting == 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"rate": 0}, ValueError, "rate must be a number > 0, got 0"),
        ({"rate": -1.5}, ValueError, "rate must be a number > 0, got -1.5"),
        ({"rate": float("inf")}, ValueError, "use no RateLimiter"),
        ({"rate": float("nan")}, ValueError, "rate must be"),
        ({"rate": True}, TypeError, "rate must be a number > 0, got True"),
        ({"rate": "5"}, TypeError, "rate must be a number > 0, got '5'"),
        ({"rate": 1, "per": 0}, ValueError, "per must be a number of seconds > 0"),
        ({"rate": 1, "per": 1e-12}, ValueError, "at least a nanosecond"),
        ({"rate": 1, "burst": 0}, ValueError, "burst must be an int >= 1, got 0"),
        ({"rate": 1, "burst": 1.5}, TypeError, "burst must be an int >= 1, got 1.5"),
    ],
)
def test_bad_arguments_are_refused(arguments, error, message):
    """With the value, the rule and the remedy."""
    with pytest.raises(error, match=message):
        RateLimiter(**arguments)


async def test_a_cost_above_the_burst_is_refused():
    """It could never go, so it is an error and not a wait for ever."""
    limiter = RateLimiter(1, burst=2)
    for call in (limiter.try_acquire, limiter.acquire):
        with pytest.raises(ValueError, match=r"cost must be <= burst \(2\), got 3"):
            result = call(3)
            await result
    with pytest.raises(ValueError, match="cost must be an int >= 1, got 0"):
        limiter.try_acquire(0)
    with pytest.raises(ValueError, match="seconds must be a number of seconds >= 0, got -1"):
        limiter.pause(-1)
    assert limiter.statistics().acquired == 0


def test_repr_and_statistics_tell_the_state():
    """One line for a person, a frozen snapshot for a program."""

    async def main():
        limiter = RateLimiter(5, burst=2)
        assert repr(limiter) == "<RateLimiter 5 per 1 s, burst 2>"
        assert (limiter.rate, limiter.per, limiter.burst) == (5, 1.0, 2)
        assert limiter.rested
        await limiter.acquire(2)
        limiter.pause(3)
        waiting = asyncio.create_task(limiter.acquire())
        await asyncio.sleep(0)
        assert not limiter.rested
        text, numbers = repr(limiter), limiter.statistics()
        waiting.cancel()
        await asyncio.wait([waiting])
        return text, numbers

    text, numbers = run_virtual(main())
    assert text == "<RateLimiter 5 per 1 s, burst 2, 1 waiting, paused for 3 s>"
    assert dataclasses.astuple(numbers) == (2, 0, 1, 3.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        numbers.waiting = 0


async def test_waiting_costs_no_turns_of_the_loop(monkeypatch):
    """A wait of many milliseconds is one timer, not a busy loop; also where uvloop rounds."""
    served = 0
    serve = RateLimiter._serve

    def counting(self, loop, *, least=0.0):
        nonlocal served
        served += 1
        serve(self, loop, least=least)

    monkeypatch.setattr(RateLimiter, "_serve", counting)
    limiter = RateLimiter(1, per=0.0104)
    await limiter.acquire()
    began = time.monotonic()
    await limiter.acquire()
    assert time.monotonic() - began > 0.008
    assert served <= 6
