"""`drive`: what goes into a generator, what comes out, and how it ends."""

import asyncio
import gc
import types
import weakref
from collections.abc import Generator

import pytest

from aioconc.flow import map_limited
from aioconc.generators import drive
from aioconc.testing import cancel_everywhere

pytestmark = pytest.mark.loops("all")


async def give(value):
    await asyncio.sleep(0)
    return value


async def fail(error):
    await asyncio.sleep(0)
    raise error


class Awaitable:
    """An awaitable of one's own."""

    def __init__(self, value):
        self.value = value

    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        return self.value


async def test_each_kind_of_awaitable_gives_its_result():
    """Coroutines, tasks, futures, own awaitables and `yield from` of futures, all in one."""

    def inner(n):
        got = yield give(n)
        return got

    @types.coroutine
    def old(n):
        return (yield from give(n))

    def generator():
        loop = asyncio.get_running_loop()
        done, later = loop.create_future(), loop.create_future()
        done.set_result("done")
        loop.call_soon(later.set_result, "later")
        results = [
            (yield give("coroutine")),
            (yield asyncio.ensure_future(give("task"))),
            (yield done),
            (yield later),
            (yield Awaitable("own")),
            (yield from asyncio.ensure_future(give("from a task"))),
            (yield from inner("nested")),
            (yield old("types.coroutine")),
            (yield from old("from types.coroutine")),
            (yield drive(inner("driven"))),
            (yield),
        ]
        return results

    assert await drive(generator()) == [
        "coroutine",
        "task",
        "done",
        "later",
        "own",
        "from a task",
        "nested",
        "types.coroutine",
        "from types.coroutine",
        "driven",
        None,
    ]


async def test_bare_yield_lets_others_run():
    """As in asyncio's old coroutines, `yield` alone is one pass of the loop."""
    log = []

    def counting(name):
        for n in range(3):
            log.append((name, n))
            yield

    await asyncio.gather(drive(counting("a")), drive(counting("b")))
    assert log == [(name, n) for n in range(3) for name in "ab"]


async def test_exceptions_are_raised_at_the_yield():
    """What is awaited fails at its yield, where the generator may catch it and go on."""
    error = LookupError()

    def generator():
        caught = []
        for awaited in (fail(error), asyncio.ensure_future(fail(error))):
            try:
                yield awaited
            except LookupError as arrived:
                caught.append(arrived)
        try:
            yield from asyncio.ensure_future(fail(error))
        except LookupError as arrived:
            caught.append(arrived)
        yield fail(KeyError("lost"))
        return caught

    with pytest.raises(KeyError, match="lost"):
        await drive(generator())

    def caught():
        try:
            yield fail(error)
        except LookupError as arrived:
            return arrived

    assert await drive(caught()) is error


async def test_cancel_is_raised_where_it_waits_and_clean_up_may_wait():
    """A cancelled task ends cancelled, after the generator's own clean-up, with its error intact."""
    log = []

    def generator():
        try:
            yield asyncio.sleep(60)
        except asyncio.CancelledError as error:
            log.append(error.args)
            yield give(1)
            log.append("clean")
            raise

    task = asyncio.ensure_future(drive(generator()))
    for _ in range(3):
        await asyncio.sleep(0)
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == [("enough",), "clean"]


@pytest.mark.parametrize("raw", [False, True])
async def test_close_reaches_the_generator_and_what_it_waits_for(raw):
    """A coroutine that is thrown away closes both, the inner one first."""
    log = []

    async def inner():
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            log.append("inner")

    @types.coroutine
    def old():
        return (yield from inner())

    def generator():
        try:
            if raw:
                yield from old()
            else:
                yield inner()
        finally:
            log.append("generator")

    coroutine = drive(generator())
    coroutine.send(None)
    coroutine.close()
    assert log == ["inner", "generator"]


async def test_what_cannot_be_awaited_is_an_error_at_its_yield():
    """The message has the generator, the value and what to write, and may be caught."""

    def other():
        yield

    def generator():
        messages = []
        for wrong in (42, other(), give, [1]):
            try:
                yield wrong
            except TypeError as error:
                messages.append(str(error))
        return messages

    number, nested, function, several = await drive(generator())
    assert "generator yielded 42, which cannot be awaited" in number
    assert "write `yield from`" in nested
    assert "call it" in function
    assert "gather_limited" in several


@pytest.mark.parametrize(
    ("argument", "error", "text"),
    [
        (lambda fn: fn, TypeError, r"did you mean drive\(.*generator\(...\)\)\?"),
        (lambda fn: give(1), TypeError, "await it directly"),
        (lambda fn: 42, TypeError, "expected a generator, got 42"),
        (lambda fn: advanced(fn()), RuntimeError, "has begun already"),
        (lambda fn: ended(fn()), RuntimeError, "has ended already"),
    ],
)
async def test_wrong_argument_is_refused_at_the_call(argument, error, text):
    """Before anything is awaited, with the value and the remedy."""

    def generator():
        yield

    with pytest.raises(error, match=text):
        drive(argument(generator))


def advanced(generator):
    next(generator)
    return generator


def ended(generator):
    generator.close()
    return generator


async def test_async_generator_is_refused():
    """It has its own ways, which the message names."""

    async def generator():
        yield

    with pytest.raises(TypeError, match="async for"):
        drive(generator())


async def test_generator_that_is_not_pythons_own():
    """What only has the methods of one, as from Cython, is driven too."""

    class Wrapped(Generator):
        def __init__(self, generator):
            self.generator = generator

        def send(self, value):
            return self.generator.send(value)

        def throw(self, *error):
            return self.generator.throw(*error)

    def inner():
        return (yield give(1))

    coroutine = drive(Wrapped(inner()))
    assert coroutine.__name__ == "drive"
    assert await coroutine == 1


async def test_names_are_the_generators():
    """Tasks, warnings and reports show the user's function."""

    def fetch_all():
        yield

    coroutine = drive(fetch_all())
    assert coroutine.__name__ == "fetch_all"
    assert coroutine.__qualname__.endswith("fetch_all")
    await coroutine


async def test_many_at_once_with_a_limit():
    """What `drive` gives is a coroutine like any other."""

    def double(n):
        return 2 * (yield give(n))

    assert await map_limited(lambda n: drive(double(n)), range(5), limit=2) == [0, 2, 4, 6, 8]


async def test_failure_is_freed_without_the_garbage_collector():
    """No frame of `drive` keeps an exception, whether it was handled or not."""

    class Marker(Exception):
        pass

    async def fail():
        await asyncio.sleep(0)
        raise Marker

    def handles():
        try:
            yield fail()
        except Marker as error:
            return weakref.ref(error)

    def fails():
        yield fail()

    gc.collect()
    gc.disable()
    try:
        reference = await drive(handles())
        assert reference() is None
        try:
            await drive(fails())
        except Marker as error:
            reference = weakref.ref(error)
        assert reference() is None
    finally:
        gc.enable()


def test_cancelled_at_any_await():
    """However it waits, a cancel ends it, and nothing is left."""

    @types.coroutine
    def old():
        yield from asyncio.sleep(1)

    def generator():
        yield asyncio.sleep(1)
        yield
        yield from old()
        future = asyncio.ensure_future(asyncio.sleep(1, 7))
        try:
            return (yield from future)
        finally:
            future.cancel()

    async def program():
        assert await drive(generator()) == 7

    report = cancel_everywhere(program)
    assert report.points
    assert not report.swallowed
