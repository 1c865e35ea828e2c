"""The mark `aioconc` on async tests that pytest-asyncio runs: time, order, fixtures, options."""

import pytest

from tests.unit.testing.plugin_runs import passes, run

pytest_plugins = ["pytester"]

SHARED = """
@pytest_asyncio.fixture
async def server():
    loop = asyncio.get_running_loop()
    await asyncio.sleep(100)
    yield loop
    assert asyncio.get_running_loop() is loop
    await asyncio.sleep(100)
    assert loop.time() == 3800
    print("the fixture has ended")

@marked
{mark}
async def test_shares(server, clock):
    assert server is asyncio.get_running_loop()
    assert clock.now == 100
    await asyncio.sleep(3600)
    assert clock.now == 3700
"""


@pytest.mark.parametrize(
    ("mode", "mark"), [("auto", ""), ("strict", "@pytest.mark.asyncio")], ids=["auto", "strict"]
)
def test_marked_test_and_its_fixtures_share_a_loop_in_virtual_time(
    pytester: pytest.Pytester, mode: str, mark: str
) -> None:
    """The set-up, the test and the clean-up run on one loop, and none of them takes real time."""
    result = run(pytester, SHARED.format(mark=mark), "-s", mode=mode)
    passes(result, 1)
    result.stdout.fnmatch_lines(["*::test_shares PASSED*the fixture has ended"])


def test_id_of_a_marked_test_is_unchanged(pytester: pytest.Pytester) -> None:
    """The mark does not show in the ids of tests, parametrized or not."""
    code = """
@marked
async def test_plain(): pass

@marked
@pytest.mark.parametrize("n", [1, 2])
async def test_with(n): pass
"""
    result = run(pytester, code, "--collect-only", "-qq")
    result.stdout.fnmatch_lines(
        ["*<Coroutine test_plain>", "*<Coroutine test_with?1?>", "*<Coroutine test_with?2?>"]
    )


def test_mark_of_a_class_and_of_a_file_reach_their_tests(pytester: pytest.Pytester) -> None:
    """The closest mark counts: that of the function before the class's, before the file's."""
    code = """
pytestmark = marked

async def test_file(clock):
    assert clock.now == 0

@marked(virtual_time=False)
class TestClass:
    async def test_class(self, clock):
        with pytest.raises(RuntimeError, match="needs a loop in virtual time"):
            clock.now

    @marked
    async def test_function(self, clock):
        assert clock.now == 0

    @staticmethod
    @marked
    async def test_static(clock):
        assert clock.now == 0

def test_synchronous():
    pass
"""
    passes(run(pytester, code), 5)


def test_wider_loop_scope_keeps_its_clock(pytester: pytest.Pytester) -> None:
    """Tests that share a loop share its time; unmarked ones beside them have a loop in real time."""
    code = """
pytestmark = pytest.mark.asyncio(loop_scope="module")
loops = []

@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server():
    yield asyncio.get_running_loop()
    await asyncio.sleep(0)

async def test_unmarked(server):
    loops.append(server)
    assert server is asyncio.get_running_loop()

@marked
async def test_first(server, clock):
    loops.append(server)
    assert server is asyncio.get_running_loop()
    await asyncio.sleep(1000)

@marked
async def test_second(server, clock):
    loops.append(server)
    assert server is asyncio.get_running_loop()
    assert clock.now == 1000

async def test_unmarked_again(server):
    loops.append(server)
    assert server is asyncio.get_running_loop()
    assert loops[1] is loops[2]
    assert len({id(each) for each in loops}) == 3
"""
    passes(run(pytester, code), 4)


# -- schedules -----------------------------------------------------------------------------------

ORDER = """
@pytest_asyncio.fixture
async def busy():
    # Choice points of a fixture do not count.
    await asyncio.gather(*(asyncio.sleep(0) for _ in range(5)))
    yield
    done = []
    await asyncio.gather(note(done, 1), note(done, 2))
    assert done == [1, 2]

async def note(done, n):
    done.append(n)

async def two():
    done = []
    await asyncio.gather(note(done, 1), note(done, 2))
    return done
"""


def test_schedule_orders_the_test_and_not_its_fixtures(pytester: pytest.Pytester) -> None:
    """Choice points count from the test's first step; the clean-up runs in the usual order."""
    code = """
@marked
async def test_usual(busy):
    assert await two() == [1, 2]

@marked(schedule="d0")
async def test_text(busy):
    assert await two() == [2, 1]

@marked(schedule=Schedule.parse("p0:1"))
async def test_value(busy):
    assert await two() == [2, 1]

@marked(schedule="d0", virtual_time=False)
async def test_real_time(busy):
    assert await two() == [2, 1]
    assert type(asyncio.get_running_loop()).__name__ == "ScheduledLoop"
"""
    passes(run(pytester, ORDER + code), 4)


def test_schedule_of_the_mark_is_that_of_explore(pytester: pytest.Pytester) -> None:
    """What `explore` finds is found again by the mark, with the same text."""
    code = """
from aioconc.errors import ScheduleFailure

async def program():
    total = 0
    async def add():
        nonlocal total
        before = total
        await asyncio.sleep(0)
        total = before + 1
    first = asyncio.create_task(add())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await asyncio.gather(add(), first)
    assert total == 2

try:
    explore(program)
except ScheduleFailure as failure:
    found = failure.schedule

@marked(schedule=found)
async def test_found(busy):
    with pytest.raises(AssertionError):
        await program()

@marked
async def test_usual(busy):
    await program()
"""
    passes(run(pytester, ORDER + code), 2)


def test_random_priorities_hold_in_a_test(pytester: pytest.Pytester) -> None:
    """Random choices and priorities run to the end, in some other order for some seed."""
    code = """
orders = set()

@marked
@pytest.mark.parametrize("n", range(1))
async def test_it(busy, n):
    done = []
    await asyncio.gather(*(note(done, each) for each in range(5)))
    orders.add(tuple(done))
    assert sorted(done) == [0, 1, 2, 3, 4]

def test_orders():
    assert len(orders) > 3
"""
    result = run(pytester, ORDER + code, "--aioconc-schedules=9")
    passes(result, 10)
    result.stdout.fnmatch_lines(["*::test_it?fifo-0? *", "*?r1-0? *", "*?pct1-0? *", "*?r2-0? *"])


def test_schedules_option_makes_fixtures_anew(pytester: pytest.Pytester) -> None:
    """Each of the N runs has a loop and fixtures of its own; a schedule in the mark stays alone."""
    code = """
@pytest_asyncio.fixture
async def fresh():
    return []

@marked
async def test_fresh(fresh, clock):
    assert fresh == [] and clock.now == 0
    fresh.append(1)
    await asyncio.sleep(1)

@marked(schedule="d1")
async def test_fixed(): pass

async def test_unmarked(): pass

@marked
def test_synchronous(): pass

@marked
@pytest.mark.asyncio(loop_scope="module")
async def test_wide(): pass
"""
    result = run(pytester, code, "--aioconc-schedules=3")
    passes(result, 3 + 4)


def test_schedule_option_overrides_the_mark(pytester: pytest.Pytester) -> None:
    """`--aioconc-schedule` runs marked tests in that order, also those with another in the mark."""
    code = """
@marked
async def test_marked(busy):
    assert await two() == [2, 1]

@marked(schedule="fifo")
async def test_with_schedule(busy):
    assert await two() == [2, 1]

async def test_unmarked(busy):
    assert await two() == [1, 2]
"""
    passes(run(pytester, ORDER + code, "--aioconc-schedule=d0"), 3)


def test_budget_option_is_the_default_of_explore(pytester: pytest.Pytester) -> None:
    """`explore` without a budget takes that of the option; a budget of its own wins."""
    code = """
async def program():
    await asyncio.gather(*(asyncio.sleep(n % 3) for n in range(9)))

def test_default():
    assert explore(program).schedules == 7

def test_own():
    assert explore(program, budget=9).schedules == 9
"""
    passes(run(pytester, code, "--aioconc-budget=7"), 2)
    from aioconc.testing import _explore

    assert _explore.default_budget == 500  # as before the run


# -- fixtures --------------------------------------------------------------------------------------


def test_clock_moves_time_at_once(pytester: pytest.Pytester) -> None:
    """`clock.advance` makes timers due, as a step that takes so long would."""
    code = """
@marked
async def test_advance(clock):
    task = asyncio.create_task(asyncio.sleep(60, "rang"))
    await settle()
    clock.advance(59)
    await settle()
    assert not task.done()
    clock.advance(1)
    await settle()
    assert task.done() and clock.now == 60
    assert repr(clock) == "<clock at 60.0 s>"
    with pytest.raises(ValueError, match="seconds must be a number of seconds >= 0, got -1"):
        clock.advance(-1)
"""
    passes(run(pytester, code), 1)


def test_clock_says_where_there_is_no_virtual_time(pytester: pytest.Pytester) -> None:
    """On a loop in real time, and without one, the clock says what is missing."""
    code = """
async def test_real(clock):
    for use in (lambda: clock.now, lambda: clock.advance(1)):
        with pytest.raises(RuntimeError, match="@pytest.mark.aioconc"):
            use()

def test_none(clock):
    with pytest.raises(RuntimeError, match="none is running"):
        clock.now
    assert repr(clock) == "<clock without a loop in virtual time>"
"""
    passes(run(pytester, code), 2)


def test_wait_graph_fixture_tells_who_waits(pytester: pytest.Pytester) -> None:
    """`wait_graph()` gives the graph of the running loop at that moment."""
    code = """
@marked
async def test_graph(wait_graph):
    lock = asyncio.Lock()
    async with lock:
        task = asyncio.create_task(lock.acquire(), name="the second")
        await settle()
        text = str(wait_graph())
    await task
    lock.release()
    assert "the second" in text and "Lock" in text
"""
    passes(run(pytester, code), 1)
