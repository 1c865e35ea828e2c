"""Who runs a marked test, pytest-asyncio or anyio, and how it comes to a loop of ours there.

pytest-asyncio asks the hook `pytest_asyncio_loop_factories` while tests are collected. As soon as
that has an implementation, every async test of the run is parametrized by it, which reorders tests
of wider loop scopes and refuses those for which the answer is empty. So ours is there only while a
marked test is collected, and tests without the mark are as if this plugin were not installed.
"""

import inspect
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Literal, cast

import pytest

from aioconc.testing._plugin._mark import Wish, refuse, wish_of
from aioconc.testing._plugin._order import LoopFactory, factory_of, seeded

Runner = Literal["asyncio", "anyio"]


class _Offer:
    """What answers pytest-asyncio."""

    def __init__(self) -> None:
        self.factories: Mapping[str, LoopFactory] | None = None

    # Optional: pytest-asyncio may be absent, or older than the hook. First: a project that offers
    # loops of its own does so for tests that leave the choice open.
    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_asyncio_loop_factories(
        self, config: pytest.Config, item: pytest.Item
    ) -> Mapping[str, LoopFactory] | None:
        return self.factories


_OFFER: Final = pytest.StashKey[_Offer]()


@contextmanager
def offered(metafunc: pytest.Metafunc) -> Generator[None]:
    """While the marked test of `metafunc` is parametrized: have its runner find our loops."""
    node = metafunc.definition
    wish = wish_of(node)
    runner = runner_of(node, metafunc.fixturenames)
    # What cannot run fails alone, when it is its turn, and not the collection.
    can_run = runner is not None and why_not(node, wish, metafunc.fixturenames) is None
    factories = _factories(node, wish) if can_run else {}
    if not factories:
        yield
    elif runner == "anyio":
        _parametrize_anyio(node, factories)
        yield
    else:
        offer = node.config.stash.setdefault(_OFFER, _Offer())
        offer.factories = factories
        node.config.pluginmanager.register(offer)
        try:
            yield
        finally:
            node.config.pluginmanager.unregister(offer)
            offer.factories = None


def keep_offering(config: pytest.Config) -> None:
    """After collection, when the hook is not called any more: have an implementation of it.

    Where there is one, pytest-asyncio looks at a test's loop before it looks at fixtures of wider
    scopes. Else a fixture that lives on the loop of the unmarked test before would be handed to a
    marked one, and the other way round.
    """
    offer = config.stash.get(_OFFER, None)
    if offer is not None and not config.pluginmanager.is_registered(offer):
        config.pluginmanager.register(offer)


def check_can_run(item: pytest.Item) -> None:
    """Refuse a test that cannot get what it asks for."""
    wish = wish_of(item)
    if reason := why_not(item, wish, getattr(item, "fixturenames", ())):
        refuse(item, reason)


# -- what a test is ---------------------------------------------------------------------------------


def body_of(node: pytest.Item) -> tuple[Any, str, Any] | None:
    """Where the test's function is found when it is called: its owner, the attribute, itself."""
    function = getattr(node, "obj", None)
    if function is None:
        return None
    hypothesis = getattr(function, "hypothesis", None)
    if hypothesis is not None and hasattr(hypothesis, "inner_test"):
        inner = hypothesis.inner_test
        # anyio leaves a synchronous function there after the first of its backends.
        return hypothesis, "inner_test", getattr(inner, "_anyio_original_func", inner)
    return node, "obj", function


def is_async(node: pytest.Item) -> bool:
    """Whether the test is an async function."""
    body = body_of(node)
    return body is not None and inspect.iscoroutinefunction(body[2])


def _is_hypothesis(node: pytest.Item) -> bool:
    body = body_of(node)
    return body is not None and body[1] == "inner_test"


def runner_of(node: pytest.Item, fixturenames: Any) -> Runner | None:
    """Which plugin runs the async test `node`; None: none that can be given a loop."""
    if not is_async(node) or is_test_case(node):
        return None
    if node.config.pluginmanager.has_plugin("asyncio"):
        mode = node.config.getoption("asyncio_mode", None) or node.config.getini("asyncio_mode")
        if mode == "auto" or node.get_closest_marker("asyncio") is not None:
            return "asyncio"
    return "anyio" if "anyio_backend" in fixturenames else None


def is_test_case(node: pytest.Item) -> bool:
    """Whether the test is a method of a `unittest.TestCase`."""
    owner = getattr(node, "cls", None)
    return owner is not None and any(
        each.__module__ == "unittest.case" and each.__name__ == "TestCase" for each in owner.__mro__
    )


def _loop_scope(node: pytest.Item) -> str:
    mark = node.get_closest_marker("asyncio")
    told = {} if mark is None else mark.kwargs
    default = node.config.getini("asyncio_default_test_loop_scope")
    return cast(str, told.get("loop_scope") or told.get("scope") or default)


def _has_looptime(config: pytest.Config) -> bool:
    # It has several plugins; the others are fixtures that do no harm.
    names = (str(getattr(each, "__name__", "")) for each in config.pluginmanager.get_plugins())
    return any(name.startswith("looptime.") and name.endswith(".plugin") for name in names)


# -- what it can get --------------------------------------------------------------------------------


def _factories(node: pytest.Item, wish: Wish) -> dict[str, LoopFactory]:
    count = node.config.getoption("aioconc_schedules")
    if count and wish.schedule is None and not _why_no_order(node):
        return {
            str(each): factory_of(each, virtual_time=wish.virtual_time) for each in seeded(count)
        }
    if wish.needs_loop:
        return {"aioconc": factory_of(wish.schedule, virtual_time=wish.virtual_time)}
    return {}


def why_not(node: pytest.Item, wish: Wish, fixturenames: Any) -> str | None:
    """Why the test cannot get what it asks for; None: it can."""
    if not wish.needs_loop:
        return None
    if not is_async(node):
        if wish.schedule is None or not wish.fixed:
            return None
        return (
            "a schedule orders the tasks of an async test, and this one is not async; "
            "did you mean run(fn, schedule=...) in it?"
        )
    runner = runner_of(node, fixturenames)
    if runner is None:
        return _why_no_runner(node)
    if wish.virtual_time and _has_looptime(node.config):
        return (
            "looptime is active, and replaces the class of every loop of pytest-asyncio, so two "
            "clocks would fight; run with -p no:looptime_plugin, or leave one of the two out"
        )
    if runner == "asyncio":
        if not hasattr(node.config.hook, "pytest_asyncio_loop_factories"):
            return "it takes pytest-asyncio 1.4 or newer to run tests on a loop of ours"
        mark = node.get_closest_marker("asyncio")
        if mark is not None and "loop_factories" in mark.kwargs:
            return (
                "the mark asks for a loop of its own, and asyncio(loop_factories=...) for others; "
                "leave one of them out"
            )
    return None if wish.schedule is None else _why_no_order(node)


def _why_no_runner(node: pytest.Item) -> str:
    if is_test_case(node):
        return (
            "tests of unittest make their own loops; on Python 3.13 or newer write "
            "loop_factory = staticmethod(aioconc.testing.loop_factory()) into the class, and "
            "leave this mark out"
        )
    if not node.config.pluginmanager.has_plugin("asyncio"):
        return "no plugin runs this async test; install pytest-asyncio 1.4 or newer"
    return (
        "no plugin runs this async test: pytest-asyncio is in strict mode; add "
        "@pytest.mark.asyncio, or set asyncio_mode = auto"
    )


def _why_no_order(node: pytest.Item) -> str | None:
    from aioconc.testing._loop import check_schedules_work

    try:
        check_schedules_work()
    except RuntimeError as error:
        return str(error)
    scope = _loop_scope(node) if node.config.pluginmanager.has_plugin("asyncio") else "function"
    if scope != "function":
        return (
            f"a schedule needs a loop of the test's own, and this one has loop_scope={scope!r}; "
            "leave the schedule out, or the loop scope"
        )
    if _is_hypothesis(node):
        return (
            "examples of a @given test share a loop, so no schedule could be replayed; take "
            "aioconc.testing.schedules() as an argument of a plain test and call "
            "run(fn, schedule=schedule) in it"
        )
    return None


def _parametrize_anyio(node: pytest.Item, factories: Mapping[str, LoopFactory]) -> None:
    hidden = getattr(pytest, "HIDDEN_PARAM", "asyncio")  # since pytest 8.4
    ids = [*factories] if len(factories) > 1 else [hidden]
    values = [("asyncio", {"loop_factory": each}) for each in factories.values()]
    node.add_marker(pytest.mark.parametrize("anyio_backend", values, ids=ids))
