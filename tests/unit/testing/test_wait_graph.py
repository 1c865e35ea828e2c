"""What the wait graph tells about tasks that wait, whatever they wait for."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest

import aioconc
from aioconc.testing._wait_graph import cycle_key, wait_graph
from tests.unit.testing.graphs import all_wait, edges, names, waiting

pytestmark = pytest.mark.loops("all")

Coro = Coroutine[Any, Any, Any]


async def take_both(first: Any, second: Any, ready: asyncio.Event) -> None:
    async with first:
        await ready.wait()
        async with second:
            pass


async def set_soon(event: asyncio.Event) -> None:
    await asyncio.sleep(0)
    event.set()


async def test_text_names_the_circle_the_tasks_and_the_lines() -> None:
    """A person reads who waits for which lock, who holds it, and at which line of which file."""
    a, b, ready = asyncio.Lock(), asyncio.Lock(), asyncio.Event()
    async with waiting(
        ab=take_both(a, b, ready), ba=take_both(b, a, ready), go=set_soon(ready)
    ) as graph:
        text = str(graph).splitlines()
    assert names(graph) == ["ab", "Lock#1", "ba", "Lock#2"]
    assert text[0] == "3 unfinished tasks, 2 waiting"
    assert text[1] == "circle: ab -> Lock#1 held by ba -> Lock#2 held by ab"
    assert text[2] == "ab waits for Lock#1, held by ba"
    assert f"{__file__}:" in text[3]
    assert text[3].endswith(" in take_both")
    assert text[6].endswith(" is running")


async def test_edges_of_a_lock() -> None:
    """A waiter waits for the lock, and the lock is held by its holder."""
    lock, ready = asyncio.Lock(), asyncio.Event()

    async def hold() -> None:
        async with lock:
            await ready.wait()

    async def want() -> None:
        async with lock:
            pass

    async with waiting(holder=hold(), waiter=want()) as graph:
        assert edges(graph) == [
            "holder waits for Event#1",
            "waiter waits for Lock#1",
            "Lock#1 held by holder",
        ]
        assert graph.cycle == ()
        assert graph.tasks_waiting == 2


async def test_lock_on_its_way_to_a_woken_waiter_has_no_holder() -> None:
    """A waiter that has been woken waits no more, and those behind it wait for no task yet."""
    lock = asyncio.Lock()
    await lock.acquire()

    async def want() -> None:
        async with lock:
            pass

    async with waiting(first=want(), second=want()):
        lock.release()
        graph = wait_graph()
        assert edges(graph) == ["second waits for Lock#1"]
        assert {node.name: node.state for node in graph.tasks}["first"] == "ready"


async def test_cancelled_task_waits_no_more() -> None:
    """A task whose cancellation is on its way is ready, although its lock is still held."""
    lock = asyncio.Lock()
    async with lock, waiting(waiter=lock.acquire()):
        task = next(each for each in asyncio.all_tasks() if each.get_name() == "waiter")
        task.cancel()
        assert "waiter waits for Lock#1" not in edges(wait_graph())


async def wait_for_condition(condition: asyncio.Condition) -> None:
    async with condition:
        await condition.wait()


async def join_queue(queue: "asyncio.Queue[int]") -> None:
    queue.put_nowait(1)
    await queue.join()


async def put_two(queue: "asyncio.Queue[int]") -> None:
    await queue.put(1)
    await queue.put(2)


async def wait_for_future(future: "asyncio.Future[Any]") -> None:
    await future


def plain_waits() -> dict[str, tuple[Callable[[], Coro], str]]:
    def future() -> Coro:
        return wait_for_future(asyncio.get_running_loop().create_future())

    return {
        "event": (lambda: asyncio.Event().wait(), "Event#1 (to be set)"),
        "condition": (
            lambda: wait_for_condition(asyncio.Condition()),
            "Condition#1 (to be notified)",
        ),
        "get": (lambda: asyncio.Queue[int]().get(), "Queue#1 (get: it is empty)"),
        "put": (lambda: put_two(asyncio.Queue(1)), "Queue#1 (put: it is full)"),
        "join": (lambda: join_queue(asyncio.Queue()), "Queue#1 (join: it has unfinished items)"),
        "barrier": (lambda: asyncio.Barrier(2).wait(), "Barrier#1 (for the others to come)"),
        "semaphore": (lambda: asyncio.Semaphore(0).acquire(), "Semaphore#1 (0 free)"),
        "future": (future, "Future#1"),
        "anyio event": (lambda: anyio.Event().wait(), "Event#1 (to be set)"),
    }


@pytest.mark.parametrize("what", plain_waits())
async def test_what_anybody_may_set_is_named_and_has_no_holder(what: str) -> None:
    """Events, conditions, queues, barriers and bare futures are named; no task holds them."""
    make, text = plain_waits()[what]
    async with waiting(waiter=make()) as graph:
        assert f"waiter waits for {text}" in str(graph)
        assert [edge.label for edge in graph.edges] == ["waits for"]
        assert not graph.edges[0].certain or not graph.edges_from(graph.edges[0].target)
        assert graph.cycle == graph.likely_cycle == ()


async def test_sleep_shows_until_when() -> None:
    """A task that sleeps shows when it will wake."""
    async with waiting(sleeper=asyncio.sleep(3600)) as graph:
        assert "sleeper sleeps until loop time " in str(graph)


async def test_call_in_a_thread_is_named() -> None:
    """A task that waits for a call in an executor says so."""
    release = threading.Event()
    call = asyncio.get_running_loop().run_in_executor(None, release.wait)
    async with waiting(waiter=wait_for_future(call)) as graph:
        text = str(graph)
        release.set()
    assert "waiter waits for call#1 (in a thread, a process or an executor)" in text
    await asyncio.get_running_loop().shutdown_default_executor()


async def never() -> None:
    await asyncio.get_running_loop().create_future()


async def gather_two() -> None:
    await asyncio.gather(
        asyncio.create_task(never(), name="a"), asyncio.create_task(never(), name="b")
    )


async def group_two() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(never(), name="a")
        group.create_task(never(), name="b")


async def aioconc_group_two() -> None:
    async with aioconc.TaskGroup() as group:
        group.create_task(never(), name="a")
        group.create_task(never(), name="b")


async def handle() -> None:
    async with aioconc.TaskGroup() as group:
        await group.start_soon(never, name="a")


async def anyio_group_two() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(never, name="a")
        group.start_soon(never, name="b")


async def wait_two() -> None:
    tasks = {asyncio.create_task(never(), name=name) for name in "ab"}
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)


async def race_two() -> None:
    await aioconc.race(never, never)


async def map_two() -> None:
    async def call(item: int) -> None:
        await never()

    await aioconc.map_limited(call, [1, 2], limit=2)


async def stream_two() -> None:
    async def call(item: int) -> None:
        await never()

    async with aioconc.map_limited(call, [1, 2], limit=2) as results:
        async for _ in results:
            pass


async def supervise() -> None:
    async with aioconc.Supervisor() as supervisor:
        supervisor.start_child(never, name="a")


async def completed_two() -> None:
    tasks = [asyncio.create_task(never(), name=name) for name in "ab"]
    for each in asyncio.as_completed(tasks):
        await each


async def await_shield() -> None:
    await asyncio.shield(asyncio.create_task(never(), name="a"))


async def await_shielded() -> None:
    await aioconc.shielded(asyncio.create_task(never(), name="a"))


async def await_for() -> None:
    await asyncio.wait_for(asyncio.create_task(never(), name="a"), 3600)


async def await_task() -> None:
    await asyncio.create_task(never(), name="a")


JOINS = [
    (gather_two, "awaits a, b (gather)"),
    (group_two, "awaits a, b (TaskGroup)"),
    (aioconc_group_two, "awaits a, b (TaskGroup)"),
    (anyio_group_two, "awaits a, b (TaskGroup)"),
    (handle, "awaits a (join)"),
    (wait_two, "awaits a, b (asyncio.wait)"),
    (race_two, "awaits race:never, race:never (2) (join)"),
    (await_shield, "awaits a (shield)"),
    (await_shielded, "awaits a (join)"),
    (await_task, "awaits a"),
]


@pytest.mark.parametrize(("join", "text"), JOINS, ids=[join.__name__ for join, _ in JOINS])
async def test_joined_tasks_are_named(join: Callable[[], Coro], text: str) -> None:
    """Whatever joins tasks, the waiter awaits those tasks by name, and the join is named."""
    async with waiting(main=join()) as graph:
        assert f"main {text}" in str(graph).splitlines()
        assert {str(edge) for edge in graph.edges if edge.source.name == "main"} == {
            f"main awaits {edge.target}" for edge in graph.edges if edge.source.name == "main"
        }


@pytest.mark.parametrize("join", [map_two, stream_two, supervise, await_for])
async def test_joins_that_name_their_tasks_themselves(join: Callable[[], Coro]) -> None:
    """The waiter of a map, a supervisor or wait_for awaits tasks, and no bare future."""
    async with waiting(main=join()) as graph:
        mine = [edge for edge in graph.edges if edge.source.name == "main"]
        assert mine
        # Since 3.12 wait_for awaits the task itself.
        assert {edge.label for edge in mine} == {"awaits"}


async def test_as_completed_is_named() -> None:
    """A wait for the next task to complete is one, not one for the queue inside."""
    async with waiting(main=completed_two()) as graph:
        assert "as_completed" in next(
            line for line in str(graph).splitlines() if line.startswith("main ")
        )


async def test_line_is_that_of_the_users_code() -> None:
    """The site is the innermost await outside asyncio and aioconc."""
    async with waiting(main=group_two()) as graph:
        sites = {node.name: node.site for node in graph.tasks}
    assert sites["main"].endswith(" in group_two")
    assert sites["a"].endswith(" in never")
    assert sites["main"].startswith(f"{__file__}:")


async def test_task_of_a_library_coroutine_shows_its_name() -> None:
    """A task without any frame of the user's shows which library function it runs."""
    async with waiting(main=asyncio.Event().wait()) as graph:
        assert {node.name: node.site for node in graph.tasks}["main"] == "asyncio.locks.Event.wait"


async def test_tasks_are_in_natural_order_and_equal_names_told_apart() -> None:
    """Task-2 comes before Task-10, and a second task of a name gets a number."""
    tasks = [asyncio.create_task(never(), name=name) for name in ("t10", "t2", "t2")]
    graph = await all_wait()
    assert [node.name for node in graph.tasks if node.name.startswith("t")][:3] == [
        "t2",
        "t2 (2)",
        "t10",
    ]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_long_lists_are_cut() -> None:
    """The text shows a hundred tasks and counts the others."""
    tasks = [asyncio.create_task(never()) for _ in range(120)]
    graph = await all_wait()
    assert str(graph).splitlines()[-1] == "... and 21 more tasks"
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Proxy(Coroutine[Any, Any, Any]):
    """Stands in for a coroutine, as instrumentation does."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def send(self, value: Any) -> Any:
        return self.inner.send(value)

    def throw(self, *error: Any) -> Any:
        return self.inner.throw(*error)

    def close(self) -> None:
        self.inner.close()

    def __await__(self) -> Any:
        return self.inner.__await__()


class TransparentProxy(Proxy):
    @property
    def cr_await(self) -> Any:
        return self.inner.cr_await

    @property
    def cr_frame(self) -> Any:
        return self.inner.cr_frame


class EndlessProxy(Proxy):
    @property
    def cr_await(self) -> Any:
        return self


class BrokenProxy(Proxy):
    @property
    def cr_await(self) -> Any:
        raise ValueError("not now")


@pytest.mark.parametrize(
    ("proxy", "expected"),
    [
        (Proxy, "Future#1"),
        (TransparentProxy, "Event#1"),
        (BrokenProxy, "Future#1"),
        (EndlessProxy, "Future#1"),
    ],
)
async def test_stand_ins_for_coroutines_are_tolerated(proxy: type[Proxy], expected: str) -> None:
    """A coroutine that only pretends to be one hides what it waits for, and breaks nothing."""
    async with waiting(main=proxy(asyncio.Event().wait())) as graph:
        assert edges(graph) == [f"main waits for {expected}"]


async def test_waits_inside_generators_are_found() -> None:
    """The chain goes through `__await__` generators and through async generators."""
    lock, inside = asyncio.Lock(), asyncio.Lock()

    class Waits:
        def __await__(self) -> Any:
            yield from inside.acquire().__await__()

    async def numbers() -> Any:
        await lock.acquire()
        yield 1

    async def iterate() -> None:
        async for _ in numbers():
            pass

    async def use() -> None:
        await Waits()

    async with lock, inside, waiting(iterates=iterate(), uses=use()) as graph:
        assert edges(graph)[:2] == ["iterates waits for Lock#1", "uses waits for Lock#2"]


async def test_bare_yield_is_no_wait() -> None:
    """A task that only lets others run is ready, however it says so."""

    class Pause:
        def __await__(self) -> Any:
            return iter([None])

    async def pause() -> None:
        while not done:
            await Pause()

    done: list[bool] = []
    task = asyncio.create_task(pause(), name="pauses")
    await asyncio.sleep(0)
    assert "pauses is ready" in str(wait_graph()).splitlines()
    done.append(True)
    await task


async def test_awaitable_that_hands_a_future_on() -> None:
    """An object whose `__await__` is that of a future is a wait for that future."""

    class Wrapper:
        def __init__(self, future: "asyncio.Future[Any]") -> None:
            self.future = future

        def __await__(self) -> Any:
            return self.future.__await__()

    future = asyncio.get_running_loop().create_future()
    async with waiting(main=asyncio.wait_for(Wrapper(future), None)) as graph:
        assert edges(graph) == ["main waits for Future#1"]


def test_graph_of_a_loop_that_does_not_run() -> None:
    """A loop that has stopped is looked at from outside; without one to look at, an error."""
    with pytest.raises(RuntimeError, match=r"give one: wait_graph\(loop\)"):
        wait_graph()
    loop = asyncio.new_event_loop()
    task = loop.create_task(never(), name="left")
    loop.call_soon(lambda: loop.call_soon(loop.stop))
    loop.run_forever()
    assert edges(wait_graph(loop)) == ["left waits for Future#1"]
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()


async def test_graph_from_another_thread() -> None:
    """Another thread may ask while the loop is busy with something else."""
    loop = asyncio.get_running_loop()
    async with waiting(left=never()):
        found: list[list[str]] = []
        thread = threading.Thread(target=lambda: found.append(edges(wait_graph(loop))))
        thread.start()
        thread.join()
    assert found == [["left waits for Future#1"]]


async def test_looking_keeps_nothing_alive() -> None:
    """Neither the graph nor the frames that were looked into hold a lock or a task afterwards."""
    a, b, ready = asyncio.Lock(), asyncio.Lock(), asyncio.Event()
    gc.collect()
    gc.disable()
    try:
        async with waiting(
            ab=take_both(a, b, ready), ba=take_both(b, a, ready), go=set_soon(ready)
        ) as graph:
            left: list[weakref.ref[Any]] = [weakref.ref(task) for task in asyncio.all_tasks()]
        watched: list[weakref.ref[Any]] = [weakref.ref(a), weakref.ref(b), weakref.ref(ready)]
        del a, b, ready
        await asyncio.sleep(0)
        assert graph.cycle
        assert [each() for each in watched] == [None, None, None]
        assert [each() for each in left if each() is not asyncio.current_task()] == [None] * 2
    finally:
        gc.enable()


async def test_key_of_a_circle_is_stable() -> None:
    """The same circle has the same key in every graph, another one has another, none has None."""
    assert cycle_key(wait_graph()) is None
    a, b, ready = asyncio.Lock(), asyncio.Lock(), asyncio.Event()
    async with waiting(ab=take_both(a, b, ready), ba=take_both(b, a, ready), go=set_soon(ready)):
        key = cycle_key(wait_graph())
        other = asyncio.create_task(never())
        await all_wait()
        assert key is not None
        assert cycle_key(wait_graph()) == key
        other.cancel()
    c, d = asyncio.Lock(), asyncio.Lock()
    async with waiting(cd=take_both(c, d, ready), dc=take_both(d, c, ready)) as graph:
        # Both take their locks at once: one of them gets both, so there is no circle.
        assert cycle_key(graph) is None
