"""`delegate` does for async generators what `yield from` does for plain ones."""

import asyncio
import gc
import weakref

import pytest

from aioconc.generators import delegate
from aioconc.testing import cancel_everywhere

pytestmark = pytest.mark.loops("all")


def plain(log):
    """Tells what reaches it."""
    try:
        got = yield "first"
        while got != "end":
            try:
                got = yield f"got {got}"
            except LookupError as error:
                got = f"error {error}"
        return "returned"
    finally:
        log.append("closed")


async def asynchronous(log):
    """The same as an async generator."""
    try:
        got = yield "first"
        while got != "end":
            await asyncio.sleep(0)
            try:
                got = yield f"got {got}"
            except LookupError as error:
                got = f"error {error}"
    finally:
        await asyncio.sleep(0)
        log.append("closed")


INNER = pytest.mark.parametrize("inner", [plain, asynchronous])


async def outer(inner, log):
    yield "before"
    async with delegate(inner(log)) as steps:
        async for step in steps:
            with step:
                step.sent = yield step.value
    yield f"result {steps.result}"


@INNER
async def test_values_sent_arrive_inside(inner):
    """Each asend of the consumer is answered by the inner generator."""
    log = []
    generator = outer(inner, log)
    assert await generator.asend(None) == "before"
    assert await generator.asend("dropped, as by a plain yield") == "first"
    assert await generator.asend("a") == "got a"
    assert await generator.asend("b") == "got b"
    assert await anext(generator) == "got None"
    expected = "returned" if inner is plain else None
    assert await generator.asend("end") == f"result {expected}"
    assert log == ["closed"]
    with pytest.raises(StopAsyncIteration):
        await anext(generator)


@INNER
async def test_exceptions_thrown_are_raised_inside(inner):
    """The inner generator may catch what is thrown, and goes on with a value."""
    log = []
    generator = outer(inner, log)
    await anext(generator)
    await anext(generator)
    assert await generator.asend(1) == "got 1"
    assert await generator.athrow(LookupError("x")) == "got error x"
    error = OSError("not caught inside")
    with pytest.raises(OSError) as caught:
        await generator.athrow(error)
    assert caught.value is error
    assert log == ["closed"]


@INNER
async def test_close_of_the_outer_one_closes_the_inner_one(inner):
    """Leaving the consumer's loop early runs the clean-up inside, which may await."""
    log = []
    generator = outer(inner, log)
    async for value in generator:
        if value == "got None":
            break
    await generator.aclose()
    assert log == ["closed"]


@INNER
async def test_plain_consumer_sees_one_stream(inner):
    """Without values sent it is as if the inner yields were the outer one's."""

    async def both():
        for _ in range(2):
            async with delegate(count()) as steps:
                async for step in steps:
                    with step:
                        step.sent = yield step.value

    def count():
        if inner is plain:
            return (n for n in range(3))
        return later(3)

    async def later(n):
        for each in range(n):
            await asyncio.sleep(0)
            yield each

    assert [n async for n in both()] == [0, 1, 2, 0, 1, 2]


async def test_error_of_the_inner_one_leaves_bare():
    """What it raises by itself is raised by the outer one, unchanged."""
    error = LookupError()

    async def failing():
        yield 1
        raise error

    async def generator():
        async with delegate(failing()) as steps:
            async for step in steps:
                with step:
                    step.sent = yield step.value

    with pytest.raises(LookupError) as caught:
        async for _ in generator():
            pass
    assert caught.value is error


async def test_delegates_nest():
    """A value goes through two outer generators to the innermost one and back."""
    log = []

    async def outermost():
        async with delegate(outer(asynchronous, log)) as steps:
            async for step in steps:
                with step:
                    step.sent = yield step.value

    generator = outermost()
    await anext(generator)
    await anext(generator)
    assert await generator.asend("deep") == "got deep"
    assert await generator.athrow(LookupError("down")) == "got error down"
    await generator.aclose()
    assert log == ["closed"]


async def test_step_without_an_answer_is_refused():
    """A `yield` outside of `with step` would lose what is thrown; the message has the lines."""

    async def generator():
        async with delegate(plain([])) as steps:
            async for step in steps:
                yield step.value

    with pytest.raises(RuntimeError, match=r"step\.sent = yield step\.value"):
        async for _ in generator():
            pass


async def test_wrong_use_is_refused():
    """Functions, lists, a bare `async for`, a second entry, a result that is not there."""
    with pytest.raises(TypeError, match=r"did you mean delegate\(asynchronous\(...\)\)"):
        delegate(asynchronous)
    with pytest.raises(TypeError, match="expected a generator, got"):
        delegate([1])
    steps = delegate(plain([]))
    with pytest.raises(TypeError, match="async with delegate"):
        async for _ in steps:
            pass
    async with steps:
        async for step in steps:
            assert repr(step) == "<Step 'first'>"
            break
        with pytest.raises(RuntimeError, match="no result"):
            _ = steps.result
        assert repr(steps) == "<Delegation to plain, open>"
    with pytest.raises(RuntimeError, match="make one for each"):
        await steps.__aenter__()
    assert [step async for step in steps] == []


async def test_thrown_exception_is_freed_without_the_garbage_collector():
    """Once the inner generator has dealt with it, nobody keeps it."""

    class Marker(LookupError):
        pass

    generator = outer(asynchronous, [])
    await anext(generator)
    await anext(generator)
    await generator.asend(1)
    error = Marker("x")
    reference = weakref.ref(error)
    gc.collect()
    gc.disable()
    try:
        assert await generator.athrow(error) == "got error x"
        del error
        await generator.asend(2)
        assert reference() is None
    finally:
        gc.enable()
    await generator.aclose()


def test_cancelled_at_any_await():
    """A cancel strikes inside the inner generator, and both are closed."""
    log = []

    async def inner():
        try:
            for n in range(2):
                await asyncio.sleep(1)
                yield n
        finally:
            await asyncio.sleep(1)
            log.append("closed")

    async def generator():
        async with delegate(inner()) as steps:
            async for step in steps:
                with step:
                    step.sent = yield step.value

    async def program():
        assert [n async for n in generator()] == [0, 1]

    report = cancel_everywhere(program)
    assert report.points
    assert not report.swallowed
