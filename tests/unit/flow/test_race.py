"""race: first successes, joined losers, and every way in which it can end."""

import asyncio
import contextvars
import functools
import gc
import weakref

import anyio
import pytest

from aioconc._internal import _hooks
from aioconc.errors import TaskCancelled
from aioconc.flow import race
from aioconc.tasks import CancelScope, TaskGroup, effective_deadline, move_on_after


class Entrants:
    """Functions for a race, and a record of how each of them ended."""

    def __init__(self):
        self.log = []
        self.started = asyncio.Event()

    def wins(self, value, after=0):
        async def wins():
            for _ in range(after):
                await asyncio.sleep(0)
            self.log.append(f"{value} won")
            return value

        return wins

    def fails(self, error, after=0):
        async def fails():
            for _ in range(after):
                await asyncio.sleep(0)
            raise error

        return fails

    def hangs(self, name="hang", clean_up_steps=0, clean_up_error=None):
        async def hangs():
            self.started.set()
            try:
                await asyncio.Event().wait()
            finally:
                for _ in range(clean_up_steps):
                    await asyncio.sleep(0)
                self.log.append(f"{name} ended")
                if clean_up_error is not None:
                    raise clean_up_error

        return hangs


async def test_the_first_success_wins_and_losers_have_ended():
    """When race returns, every loser's clean-up is over."""
    e = Entrants()
    assert await race(e.hangs(clean_up_steps=5), e.wins(1, after=3)) == [1]
    assert e.log == ["1 won", "hang ended"]


async def test_results_come_in_order_of_completion():
    """With want=2, the quicker one is first, whatever its position."""
    e = Entrants()
    assert await race(e.wins("slow", 9), e.wins("quick", 3), e.hangs(), want=2) == ["quick", "slow"]


async def test_a_failure_does_not_matter_while_enough_can_succeed():
    """Failures before the win are passed over, and emitted as events."""
    e = Entrants()
    events = []
    unsubscribe = _hooks.subscribe(lambda event, fields: events.append((event, fields["error"])))
    error = OSError("down")
    try:
        assert await race(e.fails(error), e.wins(1, after=3)) == [1]
    finally:
        unsubscribe()
    assert events == [("race.failed", error)]


async def test_too_few_successes_raise_all_failures():
    """The group holds every failure, and its text says how many of what."""
    e = Entrants()
    first, second = OSError("a"), ValueError("b")
    with pytest.raises(ExceptionGroup) as caught:
        await race(e.fails(first), e.wins(1), e.fails(second, after=2), want=2)
    assert caught.value.exceptions == (first, second)
    assert caught.value.message == "race: 1 of 2 wanted succeeded, 2 failed"


async def test_it_ends_as_soon_as_too_few_can_still_succeed():
    """Who could no longer make it a success is cancelled and joined."""
    e = Entrants()
    with pytest.raises(ExceptionGroup):
        await race(e.fails(OSError(), after=2), e.hangs(clean_up_steps=3), want=2)
    assert e.log == ["hang ended"]


async def test_a_third_party_cancellation_is_that_functions_failure():
    """As TaskCancelled, with the CancelledError as cause; the caller is not cancelled."""
    e = Entrants()
    broken = asyncio.get_running_loop().create_future()
    broken.cancel("by somebody")

    async def awaits_it():
        await broken

    assert await race(awaits_it, e.wins(1, after=3)) == [1]
    with pytest.raises(ExceptionGroup) as caught:
        await race(awaits_it)
    (error,) = caught.value.exceptions
    assert isinstance(error, TaskCancelled)
    assert isinstance(error.__cause__, asyncio.CancelledError)
    assert "awaits_it" in str(error)
    assert asyncio.current_task().cancelling() == 0


@pytest.mark.loops("asyncio", "uvloop")
async def test_a_task_cancelled_before_its_first_step_is_a_failure():
    """The function never ran, and the race does not wait for it."""
    e = Entrants()

    async def kill(name):
        for task in asyncio.all_tasks():
            if task.get_name().startswith("race:") and task.get_name().endswith(name):
                task.cancel()

    killer = asyncio.create_task(kill("never"))

    async def never():
        raise AssertionError("started")

    # The killer was scheduled first, so it strikes before the race's tasks take a step.
    with pytest.raises(ExceptionGroup) as caught:
        await race(never, e.hangs(), want=2)
    await killer
    assert [type(error) for error in caught.value.exceptions] == [TaskCancelled]


@pytest.mark.parametrize("error", [StopIteration(1), StopAsyncIteration(), GeneratorExit()])
async def test_control_flow_exceptions_are_ordinary_failures(error):
    """They neither hang the race nor end it early."""
    e = Entrants()

    class Raises:
        def __await__(self):
            raise error
            yield

    for function in (e.fails(error), lambda: Raises()):
        assert await race(function, e.wins(1, after=4)) == [1]
        with pytest.raises(ExceptionGroup, match="race: 0 of 1 wanted succeeded, 1 failed"):
            await race(function)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
async def test_exits_leave_bare_after_the_join(kind):
    """KeyboardInterrupt and SystemExit of a function are raised as they are."""
    e = Entrants()
    error = kind()
    with pytest.raises(kind) as caught:
        await race(e.fails(error, after=2), e.hangs(clean_up_steps=2))
    assert caught.value is error
    assert e.log == ["hang ended"]


async def test_a_loser_that_swallows_its_cancellation_is_ignored():
    """Its result and its life end before race returns; it counts as nothing."""
    e = Entrants()

    async def stubborn():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            e.log.append("stubborn ended")
        return "late"

    assert await race(stubborn, e.wins(1, after=2)) == [1]
    assert e.log[-1] == "stubborn ended"


async def test_a_losers_clean_up_error_goes_to_the_loop(loop_errors):
    """The race is won, so nothing else can carry it; it is not lost."""
    e = Entrants()
    reports = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
    error = OSError("clean-up")
    assert await race(e.hangs(clean_up_error=error), e.wins(1, after=2)) == [1]
    assert [report["exception"] for report in reports] == [error]
    assert "loser failed" in reports[0]["message"]


async def test_a_loser_about_to_fail_in_the_tick_of_the_win_is_just_cancelled():
    """Its next step meets the cancellation, so nothing is reported and no event is sent."""
    e = Entrants()
    events = []
    unsubscribe = _hooks.subscribe(lambda event, fields: events.append(event))
    try:
        assert await race(e.wins(1, after=2), e.fails(OSError(), after=2)) == [1]
    finally:
        unsubscribe()
    assert events == []


async def test_a_clean_up_error_joins_the_group_of_a_lost_race():
    """Where there is a group, it is in it."""
    e = Entrants()
    first, late = ValueError(), OSError("clean-up")
    with pytest.raises(ExceptionGroup) as caught:
        await race(e.fails(first, after=2), e.hangs(clean_up_error=late), want=2)
    assert caught.value.exceptions == (first, late)


async def test_cancelling_the_caller_ends_all_and_keeps_the_original_error():
    """CancelledError leaves with its arguments, after the join."""
    e = Entrants()

    async def caller():
        await race(e.hangs("a", clean_up_steps=3), e.hangs("b"))

    task = asyncio.create_task(caller())
    await e.started.wait()
    await asyncio.sleep(0)
    task.cancel("why")
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.args == ("why",)
    assert sorted(e.log) == ["a ended", "b ended"]


async def test_cancelled_in_the_tick_of_the_win_it_is_cancelled():
    """The result is lost, the cancellation is not, and all have ended."""
    e = Entrants()

    async def wins_and_cancels():
        await asyncio.sleep(0)
        task.cancel("in the tick")
        return 1

    async def caller():
        return await race(wins_and_cancels, e.hangs(clean_up_steps=2))

    task = asyncio.create_task(caller())
    with pytest.raises(asyncio.CancelledError, match="in the tick"):
        await task
    assert e.log == ["hang ended"]


async def test_bad_input_is_refused_before_anything_starts():
    """With the line that was meant; coroutines given by mistake are closed."""

    async def fetch():
        raise AssertionError("started")

    coroutine = fetch()
    with pytest.raises(TypeError, match=r"did you mean race\(lambda: .*fetch\(\.\.\.\), \.\.\.\)"):
        await race(fetch, coroutine)
    with pytest.raises(RuntimeError, match="cannot reuse"):
        coroutine.send(None)
    with pytest.raises(ValueError, match="at least one function"):
        await race()
    with pytest.raises(TypeError, match=r"did you mean race\(\*fns\)"):
        await race([fetch, fetch])
    with pytest.raises(TypeError, match="expected async functions, got 5"):
        await race(5)
    with pytest.raises(ValueError, match=r"want must be <= the number of functions \(1\), got 2"):
        await race(fetch, want=2)
    with pytest.raises(ValueError, match="want must be an int >= 1, got 0"):
        await race(fetch, want=0)
    with pytest.raises(TypeError, match="want must be an int >= 1, got True"):
        await race(fetch, want=True)


async def test_a_function_that_returns_no_awaitable_fails_by_name():
    """A plain function is that one's TypeError."""
    with pytest.raises(ExceptionGroup) as caught:
        await race(functools.partial(int, "5"))
    assert "race expected async functions, but int returned 5" in str(caught.value.exceptions[0])


async def test_each_function_runs_in_its_own_copy_of_the_context():
    """It sees the caller's variables, and leaks none to the others or the caller."""
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("caller")

    async def look():
        seen = variable.get()
        variable.set("changed")
        await asyncio.sleep(0)
        return seen, asyncio.current_task()

    results = await race(look, look, want=2)
    assert [seen for seen, _ in results] == ["caller", "caller"]
    assert len({task for _, task in results} | {asyncio.current_task()}) == 3
    assert variable.get() == "caller"


async def test_functions_see_the_scopes_around_the_race():
    """The deadline of the caller's scope is theirs too."""

    async def look():
        return effective_deadline()

    with move_on_after(50) as scope:
        assert await race(look) == [scope.deadline]


@pytest.mark.loops("asyncio-eager", "uvloop-eager")
async def test_an_eager_win_starts_no_more_functions():
    """A function that succeeds in its first step has won before the next one starts."""
    e = Entrants()

    async def never():
        raise AssertionError("started")

    assert await race(e.wins(1), never) == [1]


async def test_in_a_cancelled_scope_nothing_starts():
    """A race inside a scope that is already cancelled raises at once."""

    async def never():
        raise AssertionError("started")

    with CancelScope() as scope:
        scope.cancel()
        await race(never)
    assert scope.cancelled_caught


async def test_inside_timeout_scope_group_and_anyio():
    """Every host's cancellation ends the race, and the host recognises its own error."""
    for case in ("timeout", "scope", "group", "anyio"):
        e = Entrants()
        slow = e.hangs(clean_up_steps=20)
        if case == "timeout":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.005):
                    await race(slow)
        elif case == "scope":
            with move_on_after(0.005) as scope:
                await race(slow)
            assert scope.cancelled_caught
        elif case == "group":
            async with TaskGroup() as group:
                group.start_soon(race, slow)
                await e.started.wait()
                group.cancel()
        else:
            with anyio.move_on_after(0.005) as host:
                await race(slow)
            assert host.cancelled_caught
        assert e.log == ["hang ended"], case
    assert asyncio.current_task().cancelling() == 0


async def test_failures_form_no_reference_cycle():
    """What a failing function held is free once its error is handled."""

    class Held:
        pass

    alive = None

    async def fails():
        nonlocal alive
        held = Held()
        alive = weakref.ref(held)
        raise OSError

    gc.collect()
    gc.disable()
    try:
        try:
            await race(fails)
        except ExceptionGroup:
            pass
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert alive() is None
    finally:
        gc.enable()
