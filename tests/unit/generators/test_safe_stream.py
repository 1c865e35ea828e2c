"""`safe_stream`: left, cancelled or timed out anywhere, and scopes inside that strike only inside."""

import asyncio
import contextvars
import gc
import weakref

import anyio
import pytest

from aioconc.errors import TaskCancelled
from aioconc.generators import safe_stream
from aioconc.tasks import TaskGroup, fail_after, move_on_after
from aioconc.testing import cancel_everywhere

pytestmark = pytest.mark.loops("all")

variable = contextvars.ContextVar("variable", default="outside")


@safe_stream
async def count(limit=10, log=None):
    try:
        for n in range(limit):
            await asyncio.sleep(0)
            yield n
    finally:
        await asyncio.sleep(0)
        if log is not None:
            log.append("closed")


async def test_items_in_order_and_then_the_end():
    """It gives what the generator gives, and stays ended."""
    log = []
    async with count(3, log) as items:
        assert [n async for n in items] == [0, 1, 2]
        assert [n async for n in items] == []
        assert log == ["closed"]


async def test_left_early_the_generator_has_ended_with_the_block():
    """After a break its clean-up, which awaits, is over."""
    log = []
    async with count(10, log) as items:
        async for n in items:
            if n == 3:
                break
    assert log == ["closed"]
    with pytest.raises(StopAsyncIteration):
        await anext(items)


async def test_never_read_it_never_begins():
    """No code of the generator runs before the first read."""
    log = []
    async with count(10, log):
        await asyncio.sleep(0)
    assert log == []


async def test_items_are_made_when_they_are_asked_for():
    """The generator stands at its yield while the body works."""
    made = []

    @safe_stream
    async def making():
        for n in range(10):
            made.append(n)
            yield n

    async with making() as items:
        for n in range(3):
            assert await anext(items) == n
            for _ in range(5):
                await asyncio.sleep(0)
            assert made == [*range(n + 1)]


async def test_one_task_begins_advances_and_closes_it():
    """Whoever reads, the generator sees one task and one context."""
    tasks = set()

    @safe_stream
    async def telling():
        tasks.add(asyncio.current_task())
        token = variable.set("inside")
        try:
            while True:
                yield variable.get()
                tasks.add(asyncio.current_task())
        finally:
            tasks.add(asyncio.current_task())
            variable.reset(token)

    async with telling() as items:
        assert await anext(items) == "inside"
        assert await asyncio.create_task(anext(items)) == "inside"
        assert variable.get() == "outside"
    (task,) = tasks
    assert task is not asyncio.current_task()
    assert task.get_name().endswith("telling")


@pytest.mark.parametrize("scope", [move_on_after, asyncio.timeout, anyio.move_on_after])
async def test_time_limit_inside_never_strikes_the_body(scope):
    """PEP 789: a scope around a yield is raised at that yield, not in the reader."""
    log = []

    @safe_stream
    async def limited():
        block = scope(0.01)
        try:
            if scope is asyncio.timeout:
                async with block:
                    yield "in time"
            else:
                with block:
                    yield "in time"
        except TimeoutError:
            log.append("timed out inside")
        yield "afterwards"

    async with limited() as items:
        assert await anext(items) == "in time"
        await asyncio.sleep(0.03)  # nothing is raised here
        assert asyncio.current_task().cancelling() == 0
        assert [item async for item in items] == ["afterwards"]
    assert log == (["timed out inside"] if scope is asyncio.timeout else [])


@pytest.mark.parametrize("group", [TaskGroup, asyncio.TaskGroup])
async def test_task_group_inside_lives_as_long_as_the_generator(group):
    """Children run while the body works, and are cancelled when the generator is closed."""
    log = []

    async def child():
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            log.append("child ended")

    @safe_stream
    async def with_children():
        async with group() as tasks:
            tasks.create_task(child())
            while True:
                await asyncio.sleep(0)
                yield len(log)

    async with with_children() as items:
        assert await anext(items) == 0
        assert await anext(items) == 0
    assert log == ["child ended"]


async def test_child_that_fails_while_the_body_works_is_told_at_the_next_read():
    """The group's error is raised where the reader waits for an item."""
    go = asyncio.Event()

    async def child():
        await go.wait()
        raise LookupError

    @safe_stream
    async def with_child():
        async with asyncio.TaskGroup() as group:
            group.create_task(child())
            while True:
                yield 1

    async with with_child() as items:
        assert await anext(items) == 1
        go.set()
        for _ in range(20):
            await asyncio.sleep(0)
        with pytest.raises(ExceptionGroup) as caught:
            await anext(items)
        assert caught.group_contains(LookupError)
        assert [item async for item in items] == []


async def test_failure_that_nobody_read_is_raised_at_the_end_of_the_block():
    """No error of the generator vanishes, also when the body leaves before it reads again."""
    go = asyncio.Event()

    async def child():
        await go.wait()
        raise LookupError

    @safe_stream
    async def with_child():
        async with TaskGroup() as group:
            group.create_task(child())
            yield 1

    with pytest.raises(ExceptionGroup) as caught:
        async with with_child() as items:
            await anext(items)
            go.set()
            for _ in range(20):
                await asyncio.sleep(0)
    assert caught.group_contains(LookupError)


async def test_error_of_the_generator_is_raised_by_the_read():
    """Unchanged, and only once."""
    error = LookupError()

    @safe_stream
    async def failing():
        yield 1
        raise error

    with pytest.raises(LookupError) as caught:
        async with failing() as items:
            async for _ in items:
                pass
    assert caught.value is error


async def test_error_of_the_clean_up_is_raised_by_the_block():
    """With what the body raised as its context."""

    @safe_stream
    async def failing():
        try:
            yield 1
        finally:
            raise OSError("clean-up")

    with pytest.raises(OSError, match="clean-up") as caught:
        async with failing() as items:
            async for _ in items:
                raise KeyError("body")
    assert isinstance(caught.value.__context__, KeyError)


async def test_error_of_the_body_leaves_bare():
    """After the generator has ended."""
    log = []
    error = LookupError()
    with pytest.raises(LookupError) as caught:
        async with count(3, log) as items:
            async for _ in items:
                raise error
    assert caught.value is error
    assert log == ["closed"]


async def test_read_that_times_out_loses_nothing():
    """The item that was being made is there for the next read."""
    go = asyncio.Event()

    @safe_stream
    async def slow():
        yield 0
        await go.wait()
        yield 1
        yield 2

    async with slow() as items:
        assert await anext(items) == 0
        for _ in range(2):
            with pytest.raises(TimeoutError), fail_after(0.001):
                await anext(items)
        go.set()
        assert [item async for item in items] == [1, 2]


async def test_reader_cancelled_in_the_tick_of_delivery_loses_nothing():
    """An item that was just handed over is kept."""
    ready = asyncio.get_running_loop().create_future()

    @safe_stream
    async def one():
        yield await ready

    async with one() as items:
        reader = asyncio.create_task(anext(items))
        while items._stream._reader is None or items._stream._wanted is not None:
            await asyncio.sleep(0)
        ready.set_result("item")
        while not items._stream._items:
            await asyncio.sleep(0)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert await anext(items) == "item"


async def test_block_left_while_an_item_is_made_cancels_its_making():
    """What nobody will read is stopped at its await."""
    log = []

    @safe_stream
    async def stuck():
        yield 0
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            log.append("cancelled")
            raise
        finally:
            await asyncio.sleep(0)
            log.append("closed")

    async with stuck() as items:
        await anext(items)
        with move_on_after(0.001):
            await anext(items)
    assert log == ["cancelled", "closed"]


async def test_cancel_during_the_clean_up_reaches_it_once():
    """The block still waits for the generator, and then ends cancelled."""
    log = []
    closing = asyncio.Event()

    @safe_stream
    async def slow_to_close():
        try:
            yield 0
        finally:
            closing.set()
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                await asyncio.sleep(0.01)
                log.append("closed")

    async def read():
        async with slow_to_close() as items:
            await anext(items)

    task = asyncio.create_task(read())
    await closing.wait()
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == ["closed"]


async def test_generator_cancelled_by_somebody_else_is_an_error_of_the_read():
    """The reader was not cancelled, so it does not look as if it were."""

    @safe_stream
    async def stuck():
        tasks.append(asyncio.current_task())
        await asyncio.get_running_loop().create_future()
        yield

    tasks = []
    async with stuck() as items:
        reader = asyncio.create_task(anext(items))
        while not tasks:
            await asyncio.sleep(0)
        tasks[0].cancel()
        with pytest.raises(TaskCancelled, match="stuck"):
            await reader


async def test_task_cancelled_before_it_begins_leaves_no_reader_waiting():
    """A task that never ran its code ends the stream all the same."""
    async with count() as items:
        items._stream._task.cancel()
        with pytest.raises(TaskCancelled):
            await anext(items)


async def test_anyio_scope_around_the_reader_recognises_its_cancel():
    """The error that leaves is the one that came."""
    with anyio.move_on_after(0.01) as scope:
        async with count(10) as items:
            await anext(items)
            await anyio.sleep_forever()
    assert scope.cancelled_caught


async def test_second_reader_at_the_same_time_is_refused():
    """Each item goes to one reader; two at once are a slip."""

    @safe_stream
    async def stuck():
        await asyncio.get_running_loop().create_future()
        yield

    async with stuck() as items:
        first = asyncio.create_task(anext(items))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="two tasks read"):
            await anext(items)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first


async def test_read_and_entry_inside_a_cancelled_scope_raise_at_once():
    """A cancelled scope is checked at each await, also where an item is ready."""
    with move_on_after(0) as scope:
        scope.cancel()
        async with count():
            pytest.fail("entered")
    async with count() as items:
        with move_on_after(0) as scope:
            scope.cancel()
            await anext(items)
            pytest.fail("read")
        assert await anext(items) == 0


async def test_wrong_use_is_refused_with_the_right_lines():
    """Bare iteration, second entry, and functions of other kinds."""
    with pytest.raises(TypeError, match=r"async with .*count\(...\) as items"):
        async for _ in count():
            pass
    stream = count()
    assert "new" in repr(stream)
    async with stream as items:
        await asyncio.sleep(0)
        assert repr(items).endswith("count, waiting>")
    assert repr(items).endswith("count, ended>")
    with pytest.raises(RuntimeError, match="entered before"):
        await stream.__aenter__()

    async def coroutine():
        pass

    async def generator():
        yield

    made = generator()
    for wrong in (coroutine, 42, made):
        with pytest.raises(TypeError, match="safe_stream expected an async generator function"):
            safe_stream(wrong)
    with pytest.raises(TypeError, match="gave 42"):
        safe_stream(lambda: 42)()


async def test_methods_keep_their_arguments_and_names():
    """It decorates methods as well, and looks like what it decorates."""

    class Source:
        @safe_stream
        async def items(self, n, *, step=1):
            """Some items."""
            for each in range(0, n, step):
                yield each

    async with Source().items(5, step=2) as items:
        assert [n async for n in items] == [0, 2, 4]
    assert Source.items.__doc__ == "Some items."


async def test_failure_is_freed_without_the_garbage_collector():
    """Nothing of the stream keeps an exception that was raised."""

    class Marker(Exception):
        pass

    @safe_stream
    async def failing():
        yield 1
        raise Marker

    gc.collect()
    gc.disable()
    try:
        try:
            async with failing() as items:
                async for _ in items:
                    pass
        except Marker as error:
            reference = weakref.ref(error)
        del items
        await asyncio.sleep(0)
        assert reference() is None
    finally:
        gc.enable()


async def test_reader_that_is_thrown_away_cancels_the_generator():
    """A coroutine that nobody runs any more cannot wait; its generator ends by itself."""
    log = []

    async def read():
        async with count(10, log) as items:
            async for _ in items:
                await asyncio.get_running_loop().create_future()

    async def run():  # as a task would, that is destroyed afterwards
        future = coroutine.send(None)
        while not future.done():
            await asyncio.sleep(0)
        coroutine.send(None)

    coroutine = read()
    await asyncio.create_task(run())
    coroutine.close()
    while not log:
        await asyncio.sleep(0)
    assert log == ["closed"]


async def test_generator_that_reads_a_stream_may_be_closed():
    """An async generator around it waits for the inner clean-up when it is closed itself."""
    log = []

    async def outer():
        async with count(10, log) as items:
            async for item in items:
                yield item

    generator = outer()
    assert await anext(generator) == 0
    await generator.aclose()
    assert log == ["closed"]


async def test_repr_tells_what_it_does():
    """New, waiting, making an item, closing, ended."""
    go = asyncio.Event()

    @safe_stream
    async def slow():
        try:
            await go.wait()
            yield 1
        finally:
            seen.append(repr(stream))

    seen = []
    stream = slow()
    seen.append(repr(stream))
    async with stream as items:
        reader = asyncio.create_task(anext(items))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        seen.append(repr(stream))
        go.set()
        await reader
        seen.append(repr(stream))
    seen.append(repr(stream))
    states = [each.rpartition(", ")[2] for each in seen]
    assert states == ["new>", "making an item>", "waiting>", "closing>", "ended>"]


@pytest.mark.parametrize("target", ["root", "children"])
def test_cancelled_at_any_await(target):
    """Reader or generator, at each of their awaits: all ends, and the block waits for it."""
    log = []

    @safe_stream
    async def timed():
        try:
            async with asyncio.timeout(100):
                for n in range(2):
                    await asyncio.sleep(1)
                    yield n
        finally:
            await asyncio.sleep(1)
            log.append("closed")

    async def program():
        log.clear()
        async with timed() as items:
            async for _ in items:
                await asyncio.sleep(1)

    report = cancel_everywhere(program, target=target)
    assert report.points
    assert not report.swallowed
