"""`primed`, `feed` and `into`: items pushed through pipelines of `send`, with backpressure."""

import asyncio
import inspect
import queue as standard
import threading

import anyio
import pytest

from aioconc.channels import open_channel
from aioconc.generators import feed, into, primed
from aioconc.sync import Queue, QueueFull
from aioconc.tasks import TaskGroup, move_on_after
from aioconc.testing import cancel_everywhere

pytestmark = pytest.mark.loops("all")


@primed
def total():
    """Returns the sum when it is closed."""
    found = 0
    try:
        while True:
            found += yield
    except GeneratorExit:
        return found


@primed
def each_twice(target):
    """A stage of a pipeline."""
    try:
        while True:
            item = yield
            target.send(item)
            target.send(item)
    finally:
        target.close()


async def later(n, log=None):
    try:
        for each in range(n):
            await asyncio.sleep(0)
            yield each
    finally:
        await asyncio.sleep(0)
        if log is not None:
            log.append("source closed")


# ------------------------------------------------------------------ primed


def test_primed_takes_send_at_once():
    """The first `yield` has been reached by the time the call returns."""
    got = []

    @primed
    def consumer(name, *, times=1):
        """Collects."""
        while True:
            got.append((name, times * (yield)))

    made = consumer("a", times=2)
    made.send(21)
    assert got == [("a", 42)]
    assert consumer.__name__ == "consumer"
    assert consumer.__doc__ == "Collects."
    assert inspect.signature(consumer).parameters.keys() == {"name", "times"}


def test_primed_refuses_what_cannot_take_items():
    """Coroutines, async generators, plain functions, and what ends before its first yield."""

    async def coroutine():
        pass

    async def generator():
        yield

    @primed
    def ends():
        return
        yield

    for wrong in (coroutine, 42):
        with pytest.raises(TypeError, match="primed expected a generator function"):
            primed(wrong)
    with pytest.raises(TypeError, match=r"give .*generator\(...\) to feed"):
        primed(generator)
    with pytest.raises(TypeError, match="gave 42"):
        primed(lambda: 42)()
    with pytest.raises(RuntimeError, match="ended before its first yield"):
        ends()


# ------------------------------------------------------------------ feed


@pytest.mark.parametrize("source", [lambda: range(5), lambda: iter(b"\0\1\2\3\4"), later])
async def test_feed_gives_what_the_consumer_returns_when_it_is_closed(source):
    """As `close()` does since Python 3.13, from sync and async sources."""
    items = later(5) if source is later else source()
    assert await feed(items, total()) == 10


async def test_feed_primes_a_new_generator():
    """A consumer that is not primed is advanced, and one that is loses no item."""

    def collect(into):
        while True:
            into.append((yield))

    got = []
    assert await feed("ab", collect(got)) is None
    assert await feed("cd", primed(collect)(got)) is None
    assert got == [*"abcd"]


async def test_async_consumer_holds_the_source_back():
    """The next item is read when the consumer has dealt with the last."""
    log = []

    async def source():
        for n in range(3):
            log.append(f"read {n}")
            yield n

    async def consumer():
        try:
            while True:
                n = yield
                await asyncio.sleep(0)
                log.append(f"done {n}")
        finally:
            await asyncio.sleep(0)
            log.append("closed")

    assert await feed(source(), consumer()) is None
    assert log == ["read 0", "done 0", "read 1", "done 1", "read 2", "done 2", "closed"]


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_consumer_that_ends_by_itself_ends_the_feeding(kind):
    """The source is closed, and read no further than the item that was the last."""
    log = []

    @primed
    def plain():
        yield
        yield
        return "enough"

    async def asynchronous():
        yield
        yield
        yield

    consumer = plain() if kind == "plain" else asynchronous()
    result = await feed(later(10, log), consumer)
    assert result == ("enough" if kind == "plain" else None)
    assert log == ["source closed"]


async def test_consumer_that_takes_nothing_ends_the_feeding_at_once():
    """The source is not read at all."""

    def nothing():
        return "nothing"
        yield

    source = iter([1])
    assert await feed(source, nothing()) == "nothing"
    assert next(source) == 1


async def test_sync_generator_source_is_closed_too():
    """A generator that is left early runs its clean-up before `feed` returns."""
    log = []

    def source():
        try:
            yield 1
            yield 2
        finally:
            log.append("closed")

    def once():
        yield
        return "one"

    assert await feed(source(), once()) == "one"
    assert log == ["closed"]


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_error_of_the_source_closes_the_consumer(kind):
    """It is raised bare, after the consumer has ended."""
    log = []

    async def source():
        yield 1
        raise LookupError

    @primed
    def plain():
        try:
            while True:
                yield
        finally:
            log.append("closed")

    async def asynchronous():
        try:
            while True:
                yield
        finally:
            await asyncio.sleep(0)
            log.append("closed")

    with pytest.raises(LookupError):
        await feed(source(), plain() if kind == "plain" else asynchronous())
    assert log == ["closed"]


async def test_error_of_the_consumer_closes_the_source():
    """It is raised bare, after the source has ended."""
    log = []

    def consumer():
        while True:
            if (yield) == 1:
                raise LookupError

    with pytest.raises(LookupError):
        await feed(later(5, log), consumer())
    assert log == ["source closed"]


async def test_cancel_closes_both():
    """A cancel in the source reaches it, and the consumer is closed."""
    log = []

    async def source():
        try:
            await asyncio.get_running_loop().create_future()
            yield
        finally:
            log.append("source")

    def consumer():
        try:
            while True:
                yield
        finally:
            log.append("consumer")

    with move_on_after(0.001):
        await feed(source(), consumer())
    assert log == ["source", "consumer"]


@pytest.mark.parametrize("cancelled", [False, True])
async def test_source_is_closed_when_nothing_is_read_of_it(cancelled):
    """A consumer that ends at once, or a scope that is cancelled already: one that had begun ends."""
    log = []

    async def items():
        try:
            yield 1
            yield 2
        finally:
            log.append("async")

    def plain_items():
        try:
            yield 1
            yield 2
        finally:
            log.append("plain")

    def nothing():
        return "enough"
        yield

    source, plain = items(), plain_items()
    await anext(source)
    next(plain)
    for each in (source, plain):
        with move_on_after(1) as scope:
            if cancelled:
                scope.cancel()
            assert await feed(each, nothing()) == "enough"
        assert scope.cancelled_caught is cancelled
    assert log == ["async", "plain"]


async def test_consumer_that_has_ended_is_refused():
    """It would swallow the first item; the source is left as it was."""

    def nothing():
        return
        yield

    consumer = nothing()
    next(consumer, None)
    source = iter([1, 2])
    with pytest.raises(RuntimeError, match="nothing, which has ended already"):
        await feed(source, consumer)
    assert list(source) == [1, 2]


@pytest.mark.parametrize("fails", [LookupError("close"), asyncio.CancelledError()])
async def test_end_that_fails_keeps_no_other_queue_from_its_end(fails):
    """After an error every queue at the end of a pipeline ends, whatever the other one does."""

    class Broken:
        async def send(self, item):
            raise ValueError("send")

        async def aclose(self):
            await asyncio.sleep(0)
            raise fails

    queue = Queue()

    @primed
    def both():
        first, second = into(Broken()), into(queue)
        try:
            while True:
                item = yield
                first.send(item)
                second.send(item)
        finally:
            first.close()
            second.close()

    with pytest.raises(type(fails)) as caught:
        await feed([1, 2], both())
    assert isinstance(caught.value.__context__, ValueError)
    assert [each async for each in queue] == []


async def test_loop_turns_while_nothing_waits():
    """A source and a consumer that never wait let others run all the same."""
    turns = 0
    over = False

    async def others():
        nonlocal turns
        while not over:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.ensure_future(others())

    def consumer():
        while turns < 5:
            yield

    await feed(iter(int, 1), consumer())
    over = True
    await task


async def test_consumer_that_yields_when_closed_is_an_error():
    """As `close()` says, in words that name it."""

    def stubborn():
        try:
            while True:
                yield
        except GeneratorExit:
            yield

    with pytest.raises(RuntimeError, match="stubborn yielded when it was closed"):
        await feed([1], stubborn())


async def test_feed_refuses_what_it_cannot_use():
    """Functions, queues, begun async consumers: with the line to write."""

    async def consumer():
        while True:
            yield

    def source():
        yield

    with pytest.raises(TypeError, match=r"did you mean .*source\(...\)"):
        await feed(source, total())
    with pytest.raises(TypeError, match="expected an iterable"):
        await feed(42, total())
    with pytest.raises(TypeError, match=r"did you mean .*consumer\(...\)"):
        await feed([], consumer)
    with pytest.raises(TypeError, match=r"into\(queue\)"):
        await feed([], Queue())
    with pytest.raises(TypeError, match="async for"):
        await feed([], print)
    begun = consumer()
    await begun.asend(None)
    with pytest.raises(RuntimeError, match="has begun or ended"):
        await feed([], begun)
    await begun.aclose()
    with pytest.raises(RuntimeError, match="has begun or ended"):
        await feed([], begun)


# ------------------------------------------------------------------ into


@pytest.mark.parametrize("kind", [Queue, asyncio.Queue])
async def test_full_queue_holds_the_source_back(kind):
    """A pipeline that makes two of one is pushed only as far as the queue has room."""
    read = []

    def source():
        for n in range(50):
            read.append(n)
            yield n

    queue = kind(maxsize=3)
    got = []
    async with TaskGroup() as group:
        group.start_soon(feed, source(), each_twice(into(queue)))
        while len(got) < 100:
            got.append(await queue.get())
            # In the queue, deferred by the last item, and the one being read.
            assert 2 * len(read) - len(got) <= 3 + 2 + 2
    assert got == [n for n in range(50) for _ in range(2)]


async def test_queue_ends_after_the_last_item():
    """Readers with `async for` get all, also what waited for room at the end."""
    queue = Queue(maxsize=1)

    @primed
    def flushing(target):
        held = []
        try:
            while True:
                held.append((yield))
        finally:
            for each in held:
                target.send(each)
            target.close()

    async with TaskGroup() as group:
        group.start_soon(feed, range(5), flushing(into(queue)))
        assert [item async for item in queue] == [*range(5)]


async def test_channel_is_sent_into_and_closed():
    """What has `send` and `aclose`, such as a stream of anyio."""
    send, receive = anyio.create_memory_object_stream(0)
    async with TaskGroup() as group, receive:
        group.start_soon(feed, later(3), each_twice(into(send)))
        assert [item async for item in receive] == [0, 0, 1, 1, 2, 2]


async def test_channel_of_aioconc_is_sent_into_and_closed():
    """Its other end gets every item and then the end, however small it is."""
    sending, receiving = open_channel(capacity=1)
    async with receiving, TaskGroup() as group:
        group.start_soon(feed, later(3), each_twice(into(sending)))
        assert [item async for item in receiving] == [0, 0, 1, 1, 2, 2]


async def test_one_pipeline_into_two_queues():
    """The slower queue holds both back, and no item is lost or reordered."""
    first, second = Queue(maxsize=1), Queue(maxsize=4)

    @primed
    def both(*targets):
        try:
            while True:
                item = yield
                for target in targets:
                    target.send(item)
        finally:
            for target in targets:
                target.close()

    async def read(queue):
        return [item async for item in queue]

    async with TaskGroup() as group:
        group.start_soon(feed, range(20), both(into(first), into(second)))
        readers = [group.start_soon(read, each) for each in (first, second)]
    assert [each.result() for each in readers] == [[*range(20)]] * 2


async def test_without_feed_nothing_waits():
    """`send` by hand fails where there is no room, and a channel, which always waits, at once."""
    queue = Queue(maxsize=1)
    consumer = into(queue)
    consumer.send(1)
    with pytest.raises(QueueFull):
        consumer.send(2)
    assert queue.get_nowait() == 1
    assert [item async for item in queue] == []  # the failed consumer has ended the queue
    send, receive = anyio.create_memory_object_stream(1)
    with send, receive, pytest.raises(RuntimeError, match="await feed"):
        into(send).send(1)


def test_pipeline_in_a_thread_blocks_for_room():
    """`queue.sync` and the standard queues block the thread that pushes."""
    for queue in (Queue(maxsize=2).sync, standard.Queue(maxsize=2)):
        got = []

        def push(queue=queue):
            pipeline = each_twice(into(queue))
            for n in range(10):
                pipeline.send(n)
            pipeline.close()

        thread = threading.Thread(target=push)
        thread.start()
        while len(got) < 20:
            got.append(queue.get(timeout=30))
        thread.join()
        assert got == [n for n in range(10) for _ in range(2)]


async def test_into_refuses_what_takes_no_items():
    """The message has what is needed."""
    with pytest.raises(TypeError, match="needs `put` and `put_nowait`"):
        into([])


async def test_cancel_while_there_is_no_room_ends_the_queue():
    """What waited is lost, the readers find an end, and nothing is left."""
    queue = Queue(maxsize=1)
    with move_on_after(0.001) as scope:
        await feed(range(10), each_twice(into(queue)))
    assert scope.cancelled_caught
    assert [item async for item in queue] == [0]


async def test_error_closes_the_channel_at_the_end():
    """Also a close that waits is done, so that its reader does not wait for ever."""
    send, receive = anyio.create_memory_object_stream(0)

    async def source():
        yield 1
        raise LookupError

    async def read():
        async with receive:
            return [item async for item in receive]

    reader = asyncio.create_task(read())
    with pytest.raises(LookupError):
        await feed(source(), each_twice(into(send)))
    assert await reader == [1, 1]


def test_cancelled_at_any_await():
    """In the source, where there is no room, in a channel, at the close."""

    async def consumer():
        while True:
            yield
            await asyncio.sleep(1)

    async def source():
        for n in range(2):
            await asyncio.sleep(1)
            yield n

    async def through_a_queue():
        queue = Queue(maxsize=1)

        async def read():
            got = []
            async for item in queue:
                await asyncio.sleep(1)
                got.append(item)
            return got

        async with TaskGroup() as group:
            reader = group.start_soon(read)
            await feed(source(), each_twice(into(queue)))
        assert reader.result() == [0, 0, 1, 1]

    async def through_a_channel():
        send, receive = anyio.create_memory_object_stream(0)

        async def read():
            async with receive:
                return [item async for item in receive]

        async with TaskGroup() as group:
            reader = group.start_soon(read)
            async with send:
                await feed(source(), each_twice(into(send)))
        assert reader.result() == [0, 0, 1, 1]

    async def into_an_async_consumer():
        await feed(source(), consumer())

    for program in (through_a_queue, through_a_channel, into_an_async_consumer):
        report = cancel_everywhere(program)
        assert report.points
        assert not report.swallowed
