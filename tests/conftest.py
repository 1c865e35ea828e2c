"""What every test gets: the event loops it runs on, and a check that it leaves nothing behind.

Async tests of the task layer run on every loop variant of this Python, the others on asyncio and
uvloop; `@pytest.mark.loops(...)` narrows or widens that. The leak check is in `leaks.py`.
"""

import asyncio
import gc
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from aioconc.testing._process_state import ProcessState
from tests import leaks

try:
    import uvloop
except ImportError:  # optional; the variants are then absent, and one test says so by skipping
    uvloop = None  # type: ignore[assignment]

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

TESTS = Path(__file__).parent

# Eager tasks and uvloop change the order of steps, which is what these folders are about.
ALL_VARIANTS = ("unit/tasks", "unit/flow", "properties")

hypothesis.settings.register_profile(
    "default",
    deadline=None,  # the machine may be slow; pytest-timeout bounds the whole test
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile(
    "ci", hypothesis.settings.get_profile("default"), derandomize=True, database=None
)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")


def _eager_task(
    loop: asyncio.AbstractEventLoop, coro: Any, *, eager_start: bool | None = None, **options: Any
) -> "asyncio.Task[Any]":
    # `asyncio.eager_task_factory`, which on 3.12 and 3.13 refuses the `eager_start` uvloop passes.
    eager = True if eager_start is None else eager_start
    return asyncio.Task(coro, loop=loop, eager_start=eager, **options)


def _eager(new_loop: LoopFactory) -> LoopFactory:
    def factory() -> asyncio.AbstractEventLoop:
        loop = new_loop()
        loop.set_task_factory(_eager_task)  # type: ignore[arg-type, unused-ignore]
        return loop

    return factory


def loop_variants() -> dict[str, LoopFactory]:
    """Every kind of event loop that this Python has, by name."""
    variants: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop}
    if uvloop is not None:
        variants["uvloop"] = uvloop.new_event_loop
    if sys.version_info >= (3, 12):
        variants |= {f"{name}-eager": _eager(each) for name, each in [*variants.items()]}
    return variants


def _wanted_loops(item: pytest.Item) -> list[str]:
    marker = item.get_closest_marker("loops")
    if marker is not None:
        return [*loop_variants()] if marker.args == ("all",) else [*marker.args]
    folder = item.path.relative_to(TESTS).as_posix() if TESTS in item.path.parents else ""
    return [*loop_variants()] if folder.startswith(ALL_VARIANTS) else ["asyncio", "uvloop"]


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, LoopFactory]:
    variants = loop_variants()
    # pytest-asyncio wants one at least; a test without any is skipped just below.
    return {name: variants[name] for name in _wanted_loops(item) if name in variants} or variants


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    variants = loop_variants()
    for item in items:
        wanted = _wanted_loops(item)
        if not variants.keys() & set(wanted):
            reason = f"needs one of the loops {wanted}; this Python has {[*variants]}"
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_collection_finish(session: pytest.Session) -> None:
    # What a loop opens once per process, such as libuv's signal pipe, is nobody's leak.
    for factory in loop_variants().values():
        factory().close()
    # The leak check collects garbage after every test. What exists by now stays for good: taking
    # it out of the collector's sight makes those collections take a millisecond, not thirty.
    gc.collect()
    gc.freeze()


@pytest.fixture
def loop_errors() -> list[str]:
    """What asyncio logged as errors during the test; whatever is left in it fails the test.

    A test that provokes such a report on purpose looks at it and clears the list.
    """
    return []


@pytest.fixture(autouse=True)
def _nothing_outlives_the_test(
    request: pytest.FixtureRequest, loop_errors: list[str]
) -> Iterator[None]:
    """Fails the test that leaves a thread, a child process or a file descriptor behind.

    Set up first, so that it looks last: after the test's fixtures and its event loop are gone.
    """
    marker = request.node.get_closest_marker("may_leave")
    if marker is not None and "reason" not in marker.kwargs:
        raise pytest.UsageError("may_leave needs a reason: may_leave('threads', reason='...')")
    allowed = marker.args if marker is not None else ()
    before = ProcessState.now()
    with leaks.asyncio_errors(loop_errors):
        yield
        gc.collect()
    if left := leaks.what_is_new(before, allowed=allowed):
        lines = "\n  ".join(left)
        pytest.fail(
            f"the test left something behind:\n  {lines}\n"
            "End it; what must stay by design is named in @pytest.mark.may_leave",
            pytrace=False,
        )
    if loop_errors:
        lines = "\n  ".join(loop_errors)
        pytest.fail(
            f"asyncio reported errors during the test:\n  {lines}\n"
            "A test that provokes them takes the fixture `loop_errors`, checks and clears it",
            pytrace=False,
        )


@pytest.fixture
async def _no_task_outlives_the_test(_nothing_outlives_the_test: None) -> AsyncIterator[None]:
    yield
    left = leaks.tasks_of_this_loop()
    if left:
        pytest.fail("the test left tasks:\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture(autouse=True)
def _tasks_are_checked(request: pytest.FixtureRequest, _nothing_outlives_the_test: None) -> None:
    """Adds the task check to async tests; a synchronous test has no loop to look into."""
    if request.node.get_closest_marker("asyncio") is not None:
        request.getfixturevalue("_no_task_outlives_the_test")
