"""The benchmarks still ask what they say, and every answer to a question is the same answer.

Nothing here looks at a clock: a benchmark that runs and agrees is all that is held. Peers that are
not installed are skipped one by one.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(path.name for path in BENCHMARKS.glob("bench_*.py"))
LIMIT = 7


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The shared harness, imported as a script in that folder would."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import _harness

    yield _harness
    for name in set(sys.modules) - before:
        if name in ("_harness", "bench_testing") or name.partition(".")[0] == "compare":
            del sys.modules[name]


def answer(harness: ModuleType, package: str, table: str, name: str) -> Callable[..., Any]:
    """One answer out of compare/, or a skip with the reason."""
    import importlib

    answers = getattr(importlib.import_module(f"compare.{package}"), table)
    found = harness.load(package, {name: answers[name]})[name]
    if isinstance(found, str):
        pytest.skip(found)
    return found  # type: ignore[no-any-return]  # what load() finds is any callable


def names(package: str, table: str) -> list[str]:
    """The names of one table of answers, read without importing any peer."""
    scope: dict[str, Any] = {}
    exec((BENCHMARKS / "compare" / package / "__init__.py").read_text(), scope)
    return list(scope[table])


class Together:
    """Calls that go on once `LIMIT` of them are in flight."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.full = asyncio.Event()

    async def call(self, item: int) -> int:
        self.running += 1
        self.most = max(self.most, self.running)
        if self.running == LIMIT:
            self.full.set()
        await self.full.wait()
        self.running -= 1
        return item


@pytest.mark.parametrize("name", names("bounded_map", "ANSWERS"))
async def test_bounded_map_answer_gives_every_result_within_the_limit(
    harness: ModuleType, name: str
) -> None:
    """All items come back once, and `limit` calls at most, and at best, were in flight."""
    collect = answer(harness, "bounded_map", "ANSWERS", name)
    fn = Together()
    assert sorted(await collect(fn.call, range(50), LIMIT)) == list(range(50))
    assert fn.most == LIMIT


@pytest.mark.parametrize("name", names("bounded_map", "STREAMS"))
async def test_bounded_stream_answer_sees_every_result_within_the_limit(
    harness: ModuleType, name: str
) -> None:
    """All results pass by, and `limit` calls at most, and at best, were in flight."""
    consume = answer(harness, "bounded_map", "STREAMS", name)
    fn = Together()
    assert await consume(fn.call, range(50), LIMIT) == 50
    assert fn.most == LIMIT


@pytest.mark.parametrize("name", names("task_group", "ANSWERS"))
async def test_task_group_answer_ends_after_all_its_children(
    harness: ModuleType, name: str
) -> None:
    """When the answer returns, every child has run to its end."""
    spawn_and_join = answer(harness, "task_group", "ANSWERS", name)
    seen: list[int] = []

    async def child(seen: list[int]) -> None:
        await asyncio.sleep(0)
        seen.append(1)

    await spawn_and_join(child, seen, 10)
    assert len(seen) == 10


@pytest.mark.parametrize("name", names("simulation", "SCHEDULES"))
def test_simulation_answer_runs_the_program_as_often_as_asked(
    harness: ModuleType, name: str
) -> None:
    """Each run is a whole one, and none is left out or made twice."""
    explore = answer(harness, "simulation", "SCHEDULES", name)
    runs = 0

    async def body() -> None:
        nonlocal runs
        await asyncio.gather(*(asyncio.sleep(0) for _ in range(6)))
        runs += 1

    assert explore(body, 20) == runs == 20


@pytest.mark.parametrize("name", names("simulation", "LOOPS"))
def test_simulation_loop_runs_every_step(harness: ModuleType, name: str) -> None:
    """Whatever order it chooses."""
    import bench_testing

    new_loop = answer(harness, "simulation", "LOOPS", name)
    assert bench_testing.run_ready(new_loop, 5, 100) == 100


@pytest.mark.parametrize("name", names("simulation", "SLEEPS"))
def test_simulation_clock_passes_the_longest_sleep(harness: ModuleType, name: str) -> None:
    """And no more, in virtual seconds."""
    sleeps = answer(harness, "simulation", "SLEEPS", name)
    assert sleeps(200) == pytest.approx(199, abs=0.01)


ASK_A_POOL = """
import asyncio, sys
sys.path.insert(0, {folder!r})
import _harness as harness
from compare import process_pool

async def ask(make, count, one_by_one):
    pool = make(2, None)
    try:
        if one_by_one:
            return [await pool.call(abs, -each) for each in range(count)]
        return await asyncio.gather(*(pool.call(abs, -each) for each in range(count)))
    finally:
        await pool.close()

if __name__ == "__main__":
    name = {name!r}
    make = harness.load("process_pool", {{name: process_pool.ANSWERS[name]}})[name]
    print(asyncio.run(ask(make, 4, name in process_pool.UNASKED["calls"])))
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", names("process_pool", "ANSWERS")[1:])  # the floor is no pool
def test_process_pool_answer_runs_calls_and_ends(
    harness: ModuleType, name: str, tmp_path: Path
) -> None:
    """Several at once get their own results, unless it says that it cannot be asked that."""
    answer(harness, "process_pool", "ANSWERS", name)  # or it is skipped
    # In a process of its own: some keep helpers, and the forkserver of the standard library is one
    # for all, and is ended only when all that it has started has ended.
    script = tmp_path / "ask.py"
    script.write_text(ASK_A_POOL.format(folder=str(BENCHMARKS), name=name))
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == "[0, 1, 2, 3]\n", done.stderr


async def test_measure_refuses_a_wrong_answer(harness: ModuleType) -> None:
    """A contender that loses an item gets no time, it stops the benchmark."""

    async def loses_one(count: int) -> list[int]:
        return list(range(count - 1))

    def right(answer: object, count: int) -> bool:
        return answer == list(range(count))

    def measure() -> None:
        harness.measure(
            [harness.Contender("loses one", loses_one, 5)],
            rounds=1,
            loop_factory=asyncio.new_event_loop,
            check=right,
        )

    with pytest.raises(AssertionError, match="loses one gave a wrong answer for 5 items"):
        await asyncio.to_thread(measure)


async def test_measure_takes_turns_and_passes_missing_contenders_through(
    harness: ModuleType,
) -> None:
    """After one check each, rounds go A B A B; who is missing has a reason and no times."""
    asked: list[str] = []

    def contender(name: str) -> Any:
        async def ask(count: int) -> int:
            asked.append(name)
            return count

        return harness.Contender(name, ask, 2)

    absent = harness.Contender("C", None, missing="not installed: c")
    timings = await asyncio.to_thread(
        harness.measure,
        [contender("A"), contender("B"), absent],
        rounds=2,
        loop_factory=asyncio.new_event_loop,
        check=lambda answer, count: answer == count,
    )
    assert "".join(asked) == "AB" + "ABAB"
    assert [len(timing.wall) for timing in timings] == [2, 2, 0]
    assert timings[2].missing == "not installed: c"


def test_times_faster_compares_each_round_with_its_own(harness: ModuleType) -> None:
    """A machine that is ten times slower in one round changes no ratio."""
    ours = harness.Timing("ours", 1, wall=[1.0, 10.0, 1.0])
    theirs = harness.Timing("theirs", 1, wall=[3.0, 30.0, 3.0])
    assert harness.times_faster(ours, theirs) == 3.0
    assert harness.times_faster(ours, None) is None


def test_a_peer_that_is_not_installed_is_named_and_not_dropped(harness: ModuleType) -> None:
    """Its row says what is missing."""
    found = harness.load("no_such_question", {"somebody": "somewhere:something"})
    assert found == {"somebody": "not installed: compare.no_such_question"}


def run(script: str, *options: str) -> tuple[int, list[dict[str, Any]]]:
    """Run one benchmark as a user would; its exit status and its JSON lines."""
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), "--json", *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_benchmark_runs_and_every_row_has_a_figure_or_a_reason(script: str) -> None:
    """With --quick each script ends well and says something of everybody it asked."""
    status, tables = run(script, "--quick")
    assert status == 0
    assert tables
    for line in tables:
        for row in line["results"]:
            assert row.get("missing") or any(
                isinstance(value, (int, float)) for value in row.values()
            )


@pytest.mark.slow
@pytest.mark.parametrize("script", ["bench_gather_limited.py", "bench_process.py"])
def test_acceptance_judges_every_target(script: str) -> None:
    """Each line ends in a verdict, and the exit status says whether all passed."""
    status, (table,) = run(script, "--acceptance", "--quick")
    verdicts = {line["verdict"] for line in table["results"]}
    assert verdicts <= {"PASS", "FAIL", "NOT RUN"}
    assert status == (0 if verdicts == {"PASS"} else 1)
