"""Supervisor: policies, strategies, intensity, backoff, the order of stopping, cancellation."""

import asyncio
import gc
import logging
import pickle
import weakref

import pytest

from aioconc._internal import _hooks
from aioconc.errors import SupervisorFailed, TaskCancelled
from aioconc.tasks import CancelScope, Supervisor, effective_deadline, move_on_after
from tests.virtual_time import run_virtual


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.CRITICAL + 1, logger="aioconc")


class Child:
    """A child whose runs a test ends by hand, and which writes down what happens to it."""

    def __init__(self, name, log, *, cleanup=0):
        self.name, self.log, self.cleanup = name, log, cleanup
        self.runs = 0
        self.up = asyncio.Event()
        self._end = None

    async def __call__(self):
        self.runs += 1
        self.log.append(f"{self.name}+")
        self._end = asyncio.get_running_loop().create_future()
        self.up.set()
        try:
            await self._end
        except asyncio.CancelledError:
            for _ in range(self.cleanup):
                await asyncio.sleep(0)
            self.log.append(f"{self.name}-")
            raise

    def fail(self, error=None):
        self.up.clear()
        self._end.set_exception(error or OSError(self.name))

    def finish(self):
        self.up.clear()
        self._end.set_result(None)


def start_three(supervisor, log, **options):
    children = [Child(name, log, cleanup=3) for name in "abc"]
    for child in children:
        supervisor.start_child(child, name=child.name, **options)
    return children


async def all_up(*children):
    for child in children:
        await child.up.wait()


@pytest.mark.parametrize(
    ("restart", "outcome", "again"),
    [
        ("permanent", "fail", True),
        ("permanent", "finish", True),
        ("transient", "fail", True),
        ("transient", "finish", False),
        ("temporary", "fail", False),
        ("temporary", "finish", False),
    ],
)
async def test_restart_policy(restart, outcome, again):
    """Permanent restarts always, transient after a failure, temporary never."""
    child = Child("x", [])
    async with Supervisor() as supervisor:
        view = supervisor.start_child(child, restart=restart)
        await child.up.wait()
        getattr(child, outcome)()
        if again:
            await child.up.wait()
            assert (view.state, view.restarts, child.runs) == ("running", 1, 2)
            supervisor.cancel()
    assert view.state == "ended"
    assert child.runs == 1 + again
    assert isinstance(view.error, OSError) == (outcome == "fail")


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("one_for_one", ["b+"]),
        ("one_for_all", ["c-", "a-", "a+", "b+", "c+"]),
        ("rest_for_one", ["c-", "b+", "c+"]),
    ],
)
async def test_strategy(strategy, expected):
    """What restarts along stops in reverse order of start, and starts in order."""
    log = []
    async with Supervisor(strategy=strategy) as supervisor:
        a, b, c = start_three(supervisor, log)
        await all_up(a, b, c)
        log.clear()
        for each in (a, b, c):
            each.up.clear()
        b.fail()
        await b.up.wait()
        if strategy != "one_for_one":
            await c.up.wait()
        assert log == expected
        supervisor.cancel()


async def test_a_temporary_sibling_that_is_taken_along_is_not_restarted():
    """one_for_all stops temporary children, and lets them go."""
    log = []
    async with Supervisor(strategy="one_for_all") as supervisor:
        a, b = Child("a", log), Child("b", log)
        supervisor.start_child(a, name="a")
        view = supervisor.start_child(b, restart="temporary")
        await all_up(a, b)
        a.fail()
        await a.up.wait()
        assert view.state == "ended"
        assert [each.name for each in supervisor.children] == ["a"]
        supervisor.cancel()


async def test_too_many_restarts_end_the_supervisor():
    """One restart more than allowed stops all children and raises the failures, oldest first."""
    log = []
    errors = [OSError(n) for n in range(3)]
    with pytest.raises(SupervisorFailed, match="more than 2 restarts in 60 s") as caught:
        async with Supervisor(max_restarts=2, within=60, name="sup") as supervisor:
            other = Child("other", log)
            supervisor.start_child(other)
            child = Child("x", log)
            supervisor.start_child(child)
            for error in errors:
                await child.up.wait()
                child.fail(error)
            await asyncio.Event().wait()
    assert list(caught.value.exceptions) == errors
    assert log == ["other+", "x+", "x+", "x+", "other-"]
    assert supervisor.children == ()


async def test_no_restart_allowed():
    """With max_restarts=0 the first failure is one too many."""
    with pytest.raises(SupervisorFailed):
        async with Supervisor(max_restarts=0) as supervisor:
            child = Child("x", [])
            supervisor.start_child(child)
            await child.up.wait()
            child.fail()


async def test_a_permanent_child_that_keeps_ending_is_too_much():
    """Ends without an error count as restarts, and show as errors that say so."""

    async def ends():
        pass

    with pytest.raises(SupervisorFailed) as caught:
        async with Supervisor() as supervisor:
            supervisor.start_child(ends, name="ends")
    assert "ends ended, and it is permanent" in str(caught.value.exceptions[0])


async def test_the_failure_group_splits_and_pickles():
    """SupervisorFailed works with except* and crosses processes."""
    failed = SupervisorFailed("gave up", [OSError(1), KeyError(2)])
    assert isinstance(failed.subgroup(OSError), SupervisorFailed)
    copy = pickle.loads(pickle.dumps(failed))
    assert repr(copy) == repr(failed)
    assert copy.exceptions[0].args == (1,)


async def test_backoff_is_asked_and_waited_for():
    """The hook gets the number of restarts in a row and the error; the child waits meanwhile."""
    asked = []

    def backoff(attempt, error):
        asked.append((attempt, str(error)))
        return 0.001 if attempt == 1 else 60

    async with Supervisor(backoff=backoff) as supervisor:
        child = Child("x", [])
        view = supervisor.start_child(child)
        for _ in range(2):
            await child.up.wait()
            child.fail()
        while view.state != "waiting" or view.restarts < 2:
            await asyncio.sleep(0)
        assert supervisor.statistics().running == 0
        supervisor.cancel()
    assert asked == [(1, "x"), (2, "x")]
    assert child.runs == 2


async def test_backoff_may_give_up():
    """None from the hook ends the supervisor."""
    with pytest.raises(SupervisorFailed, match="backoff gave up on child 'x'"):
        async with Supervisor(backoff=lambda attempt, error: None) as supervisor:
            child = Child("x", [])
            supervisor.start_child(child, name="x")
            await child.up.wait()
            child.fail()


async def test_a_backoff_hook_that_fails_ends_the_supervisor():
    """Its error is raised bare, after the children have stopped."""
    log = []

    def backoff(attempt, error):
        raise LookupError("hook")

    with pytest.raises(LookupError, match="hook"):
        async with Supervisor(backoff=backoff) as supervisor:
            a, b, c = start_three(supervisor, log)
            await all_up(a, b, c)
            b.fail()
    assert log[3:] == ["c-", "a-"]


@pytest.mark.parametrize("how", ["cancel", "outside", "body", "timeout"])
async def test_children_stop_in_reverse_order_one_after_the_other(how):
    """However the block ends, the child started last has ended before the next one is cancelled."""
    log = []
    children = []

    async def serve():
        async with Supervisor() as supervisor:
            children.extend(start_three(supervisor, log))
            await all_up(*children)
            if how == "cancel":
                supervisor.cancel("done")
                assert supervisor._group.scope.reason == "done"
            if how == "body":
                raise KeyError("body")
            await asyncio.Event().wait()

    task = asyncio.create_task(serve())
    if how == "body":
        with pytest.raises(KeyError, match="body"):
            await task
    elif how == "cancel":
        await task
    elif how == "outside":
        while len(log) < 3:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        log.clear()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await serve()
    assert log == ["a+", "b+", "c+", "c-", "b-", "a-"]


async def test_the_block_waits_for_children_that_end():
    """Without permanent children the block ends when all have ended."""
    done = []

    async def work(n):
        await asyncio.sleep(0)
        done.append(n)

    async with Supervisor() as supervisor:
        for n in range(3):
            supervisor.start_child(work, n, restart="transient")
    assert sorted(done) == [0, 1, 2]
    assert supervisor.statistics().children == 0


async def test_an_empty_supervisor_ends_at_once():
    """No children, no wait."""
    async with Supervisor():
        pass


async def test_a_child_cancelled_by_somebody_else_has_failed():
    """A third-party cancel is a failure, and restarts a transient child."""
    child = Child("x", [])
    async with Supervisor() as supervisor:
        view = supervisor.start_child(child, restart="transient")
        await child.up.wait()
        child.up.clear()
        view._task.cancel()
        await child.up.wait()
        assert isinstance(view.error, TaskCancelled)
        assert isinstance(view.error.__cause__, asyncio.CancelledError)
        supervisor.cancel()


async def test_a_child_that_outlasts_its_shutdown_time_is_reported_and_waited_for():
    """It is cancelled again, listeners hear of it, and the block still waits."""
    events = []
    cancels = []

    async def stubborn():
        while len(cancels) < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancels.append(1)

    unsubscribe = _hooks.subscribe(lambda event, fields: events.append(event))
    try:
        async with Supervisor() as supervisor:
            view = supervisor.start_child(stubborn, shutdown=0.005)
            while view.state != "running":
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            supervisor.cancel()
    finally:
        unsubscribe()
    assert len(cancels) == 2
    assert "supervisor.child_overdue" in events


async def test_a_failure_of_the_clean_up_is_reported():
    """A child that fails as it is stopped does not disturb the end; the error is seen."""
    events = []

    async def messy():
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("while stopping")

    unsubscribe = _hooks.subscribe(lambda event, fields: events.append((event, fields["error"])))
    try:
        async with Supervisor() as supervisor:
            view = supervisor.start_child(messy)
            while view.state != "running":
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            supervisor.cancel()
    finally:
        unsubscribe()
    assert ("supervisor.child_failed", view.error) in events
    assert str(view.error) == "while stopping"


async def test_children_may_start_children():
    """start_child works from inside a child, and later children stop first."""
    log = []
    inner = Child("inner", log)

    async with Supervisor() as supervisor:

        async def outer():
            supervisor.start_child(inner)
            try:
                await asyncio.Event().wait()
            finally:
                log.append("outer-")

        supervisor.start_child(outer)
        await inner.up.wait()
        supervisor.cancel()
    assert log == ["inner+", "inner-", "outer-"]


async def test_cancelled_during_a_restart():
    """A cancel that arrives while siblings are being stopped stops the rest, once."""
    log = []

    async def serve():
        async with Supervisor(strategy="one_for_all") as supervisor:
            a, b, c = start_three(supervisor, log)
            await all_up(a, b, c)
            a.fail()
            while "c-" not in log:
                await asyncio.sleep(0)
            raise_here.set()
            await asyncio.Event().wait()

    raise_here = asyncio.Event()
    task = asyncio.create_task(serve())
    await raise_here.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == ["a+", "b+", "c+", "c-", "b-"]


async def test_a_failure_and_a_cancel_in_the_same_tick_keep_both():
    """Giving up is raised, and the outer cancellation strikes at the next await."""

    async def serve():
        try:
            async with Supervisor(max_restarts=0) as supervisor:
                child = Child("x", [])
                supervisor.start_child(child)
                await child.up.wait()
                child.fail()
                asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)
                await asyncio.Event().wait()
        except SupervisorFailed:
            with pytest.raises(asyncio.CancelledError):
                await asyncio.sleep(0)
            return "both"
        except asyncio.CancelledError:
            return "cancelled first"

    task = asyncio.create_task(serve())
    assert await task in {"both", "cancelled first"}


async def test_cancel_before_the_block_starts_no_child():
    """The block is cancelled at its first suspension, and children are refused."""
    supervisor = Supervisor()
    supervisor.cancel()
    async with supervisor:
        with pytest.raises(RuntimeError, match="is stopping"):
            supervisor.start_child(asyncio.sleep, 0)
        await asyncio.sleep(0)
        pytest.fail("not reached")


async def test_two_children_that_fail_in_the_same_tick_are_restarted_once():
    """The failure of a child that was restarted meanwhile is over and done."""
    log = []
    async with Supervisor(strategy="one_for_all") as supervisor:
        a, b, _ = children = start_three(supervisor, log)
        await all_up(*children)
        a.fail()
        b.fail()
        await all_up(a, b)
        assert [child.restarts for child in supervisor.children] == [1, 1, 1]
        assert supervisor.statistics().restarts == 1
        supervisor.cancel()


def test_failures_that_are_far_apart_are_not_too_many():
    """Only those within the last `within` seconds count towards `max_restarts`."""

    async def fails_after_a_while():
        await asyncio.sleep(10)
        raise OSError

    async def main():
        async with Supervisor(max_restarts=1, within=5) as supervisor:
            view = supervisor.start_child(fails_after_a_while)
            await asyncio.sleep(95)
            supervisor.cancel()
        return view.restarts

    assert run_virtual(main()) == 9


async def test_a_host_cancelled_while_it_waits_for_its_children():
    """The body is over; the children are stopped, and the cancellation is raised."""
    log = []

    async def host():
        async with Supervisor() as supervisor:
            children.extend(start_three(supervisor, log))

    children = []
    task = asyncio.create_task(host())
    await asyncio.sleep(0)
    await all_up(*children)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert log[-3:] == ["c-", "b-", "a-"]


async def test_cancel_in_the_first_tick():
    """Children asked for in the tick of the cancellation never leave anything behind."""
    async with Supervisor() as supervisor:
        view = supervisor.start_child(asyncio.sleep, 60)
        supervisor.cancel()
    assert view.state == "ended"


async def test_children_see_their_context_and_the_deadline_around_the_supervisor():
    """Every run has a copy of the context of start_child, and the scopes around the supervisor."""
    import contextvars

    var = contextvars.ContextVar("var")
    seen = []

    async def child():
        seen.append((var.get(), effective_deadline() == outer.deadline))
        var.set("changed")
        if len(seen) < 2:
            raise OSError

    with move_on_after(60) as outer:
        async with Supervisor() as supervisor:
            var.set("mine")
            with CancelScope(timeout=5):
                supervisor.start_child(child, restart="transient")
            var.set("later")
    assert seen == [("mine", True)] * 2


def test_system_exit_of_a_child_ends_the_program(loop_errors):
    """SystemExit is no failure to restart after: it leaves the loop, and the others are stopped."""
    log = []

    async def exits():
        await other.up.wait()
        raise SystemExit(3)

    async def main():
        async with Supervisor() as supervisor:
            supervisor.start_child(other)
            supervisor.start_child(exits)

    other = Child("other", log)
    with pytest.raises(SystemExit) as caught:
        asyncio.run(main())
    assert caught.value.code == 3
    assert log == ["other+", "other-"]
    del caught
    gc.collect()
    assert all("SystemExit: 3" in error for error in loop_errors)  # asyncio.run tells it again
    loop_errors.clear()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Supervisor(strategy="all"), ValueError, "strategy must be one of"),
        (lambda: Supervisor(max_restarts=-1), ValueError, "max_restarts must be an int >= 0"),
        (lambda: Supervisor(within=0), ValueError, "within must be a number of seconds > 0"),
        (lambda: Supervisor(backoff=3), TypeError, "backoff must be a function"),
        (lambda: Supervisor().start_child(asyncio.sleep), RuntimeError, "has not been entered"),
        (lambda: Supervisor().start_child(3), TypeError, "expected an async function, got 3"),
        (
            lambda: Supervisor().start_child(asyncio.sleep, restart="always"),
            ValueError,
            "restart must be one of",
        ),
        (
            lambda: Supervisor().start_child(asyncio.sleep, shutdown=-1),
            ValueError,
            "shutdown must be",
        ),
    ],
)
def test_bad_arguments(call, error, message):
    """Each is refused before anything starts."""
    with pytest.raises(error, match=message):
        call()


async def test_entering_twice_is_refused():
    """A supervisor serves one block."""
    async with Supervisor() as supervisor:
        pass
    with pytest.raises(RuntimeError, match="already been entered"):
        async with supervisor:
            pass


async def test_repr_tells_the_state():
    """The repr is a status line."""
    supervisor = Supervisor(name="web")
    assert repr(supervisor) == "<Supervisor 'web' one_for_one, new, 0 restarts>"
    async with supervisor:
        child = Child("x", [])
        view = supervisor.start_child(child, name="x")
        await child.up.wait()
        assert repr(view) == "<SupervisedChild 'x' running, 0 restarts>"
        assert repr(supervisor) == "<Supervisor 'web' one_for_one, 1 children, 0 restarts>"
        supervisor.cancel()


# The error of an eager child leads by f_back to every frame that started it, asyncio's included.
@pytest.mark.loops("asyncio", "uvloop")
async def test_a_supervisor_leaves_no_reference_cycle():
    """Giving up frees what the failing child held, without the garbage collector (gh-128552)."""

    class Local:
        pass

    async def fails():
        local = Local()
        refs.append(weakref.ref(local))
        raise OSError

    refs = []
    gc.collect()
    gc.disable()
    try:
        try:
            async with Supervisor(max_restarts=0) as supervisor:
                supervisor.start_child(fails)
        except SupervisorFailed:
            pass
        del supervisor
        await asyncio.sleep(0)
        assert refs[0]() is None
    finally:
        gc.enable()
