"""When the wait graph reports a circle, and, as important, when it must not."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import Any

import anyio
import pytest

import aioconc
from aioconc.testing._owners import record_owners
from aioconc.testing._wait_graph import WaitGraph, wait_graph
from tests.unit.testing.graphs import all_wait, names, waiting

pytestmark = pytest.mark.loops("all")

Coro = Coroutine[Any, Any, Any]
Enter = Callable[[Any], Any]


async def take(
    first: Any, second: Any, ready: asyncio.Event, enter: Enter = lambda lock: lock
) -> None:
    """Hold `first` until `ready`, then want `second` too."""
    async with enter(first):
        await ready.wait()
        async with enter(second):
            pass


async def crossed(
    first: Any, second: Any, *, enter: Enter = lambda lock: lock, **others: Coro
) -> "contextlib.AbstractAsyncContextManager[WaitGraph]":
    """Two tasks that each hold one and want the other; entered: their graph."""
    ready = asyncio.Event()

    async def go() -> None:
        await asyncio.sleep(0)
        ready.set()

    return waiting(
        ab=take(first, second, ready, enter),
        ba=take(second, first, ready, enter),
        go=go(),
        **others,
    )


@contextlib.asynccontextmanager
async def generated(lock: Any) -> AsyncIterator[None]:
    async with lock:
        yield


@contextlib.asynccontextmanager
async def stacked(lock: Any) -> AsyncIterator[None]:
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(lambda: None)
        stack.callback(asyncio.Event().set)
        await stack.enter_async_context(lock)
        yield


class Named(asyncio.Lock):
    """A user's own kind of lock."""

    async def __aenter__(self) -> None:
        return await super().__aenter__()


@pytest.mark.parametrize(
    "make",
    [
        asyncio.Lock,
        asyncio.Condition,
        lambda: asyncio.Condition(asyncio.Lock()),
        asyncio.BoundedSemaphore,
        Named,
        anyio.Lock,
        lambda: anyio.CapacityLimiter(1),
    ],
)
@pytest.mark.parametrize("enter", [lambda lock: lock, generated, stacked])
@pytest.mark.parametrize("recording", [False, True])
async def test_crossed_locks_are_a_circle(
    make: Callable[[], Any], enter: Enter, recording: bool
) -> None:
    """Two tasks that want each other's lock are a circle, however the block is written."""
    with record_owners() if recording else contextlib.nullcontext():
        first, second = make(), make()
        async with await crossed(first, second, enter=enter) as graph:
            assert names(graph)[::2] == ["ab", "ba"]
            assert all(edge.certain for edge in graph.edges if edge.source in graph.cycle)


async def test_lock_of_a_generator_that_is_iterated() -> None:
    """An async generator that yields inside of `async with` holds the lock for its reader."""
    lock = asyncio.Lock()

    async def numbers() -> AsyncIterator[int]:
        async with lock:
            yield 1

    async def iterate() -> None:
        async for _ in numbers():
            async with lock:
                pass

    async with waiting(reader=iterate()) as graph:
        assert names(graph) == ["reader", "Lock#1"]


async def test_task_that_takes_its_own_lock_twice() -> None:
    """A task that wants a lock that it holds is a circle of one."""
    lock = asyncio.Lock()

    async def twice() -> None:
        async with lock, lock:
            pass

    async with waiting(selfish=twice()) as graph:
        assert names(graph) == ["selfish", "Lock#1"]


async def test_tasks_that_await_each_other() -> None:
    """Tasks that wait for each other's end are a circle, without any lock."""
    tasks: list[asyncio.Task[None]] = []

    async def first() -> None:
        await asyncio.sleep(0)
        await tasks[1]

    async def second() -> None:
        await asyncio.sleep(0)
        # Shielded, since cancelling tasks that await each other recurses without end in asyncio.
        await asyncio.shield(tasks[0])

    tasks += [asyncio.create_task(first(), name="a"), asyncio.create_task(second(), name="b")]
    graph = await all_wait()
    assert names(graph) == ["a", "b"]
    assert "circle: a -> b -> a" in str(graph).splitlines()
    tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_task_behind_a_circle_is_not_in_it() -> None:
    """Who merely waits for one of the circle is not part of it; nor is it when it comes first."""
    first, second = asyncio.Lock(), asyncio.Lock()

    async def want() -> None:
        async with first:
            pass

    async with await crossed(first, second, a=want()) as graph:
        assert names(graph)[::2] == ["ab", "ba"]


# ---------------------------------------------------------------------- joins


async def join_gather(children: Iterable[Coro]) -> None:
    await asyncio.gather(*children)


async def join_gather_all(children: Iterable[Coro]) -> None:
    await asyncio.gather(*children, return_exceptions=True)


async def join_group(children: Iterable[Coro]) -> None:
    async with asyncio.TaskGroup() as group:
        for child in children:
            group.create_task(child)


async def join_aioconc_group(children: Iterable[Coro]) -> None:
    async with aioconc.TaskGroup() as group:
        for child in children:
            group.create_task(child)


async def join_anyio_group(children: Iterable[Coro]) -> None:
    async with anyio.create_task_group() as group:
        for child in children:
            group.start_soon(lambda child: child, child)


async def join_wait(children: Iterable[Coro]) -> None:
    await asyncio.wait([asyncio.create_task(child) for child in children])


async def join_first(children: Iterable[Coro]) -> None:
    tasks = [asyncio.create_task(child) for child in children]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)


async def join_race(children: Iterable[Coro]) -> None:
    await aioconc.race(*[lambda child=child: child for child in children])


async def join_map(children: Iterable[Coro]) -> None:
    async def call(child: Coro) -> None:
        await child

    await aioconc.map_limited(call, children, limit=2)


async def join_stream(children: Iterable[Coro]) -> None:
    async def call(child: Coro) -> None:
        await child

    async with aioconc.map_limited(call, children, limit=2) as results:
        async for _ in results:
            pass


async def join_shields(children: Iterable[Coro]) -> None:
    await asyncio.gather(*[asyncio.shield(child) for child in children])


async def join_completed(children: Iterable[Coro]) -> None:
    for each in asyncio.as_completed([asyncio.create_task(child) for child in children]):
        await each


JOINS = [
    join_gather,
    join_gather_all,
    join_group,
    join_aioconc_group,
    join_anyio_group,
    join_wait,
    join_first,
    join_race,
    join_map,
    join_stream,
    join_shields,
]
NEEDS_ALL = [join_gather_all, join_wait]


async def want(lock: Any) -> None:
    async with lock:
        pass


@pytest.mark.parametrize("join", JOINS)
async def test_parent_that_holds_what_its_only_child_wants(
    join: Callable[[Iterable[Coro]], Coro],
) -> None:
    """A parent that joins its child inside of the lock that the child wants is a circle."""
    lock = asyncio.Lock()

    async def parent() -> None:
        async with lock:
            await join([want(lock)])

    async with waiting(parent=parent()) as graph:
        assert "parent" in names(graph)
        assert "Lock#1" in names(graph)


@pytest.mark.parametrize("join", JOINS)
async def test_sibling_that_may_yet_end_the_join(
    join: Callable[[Iterable[Coro]], Coro],
) -> None:
    """A live sibling may fail or win, which ends the join, unless the join needs every child."""
    lock = asyncio.Lock()

    async def parent() -> None:
        async with lock:
            await join([want(lock), asyncio.sleep(3600)])

    async with waiting(parent=parent()) as graph:
        assert bool(graph.cycle) is (join in NEEDS_ALL)


async def test_as_completed_is_a_circle_where_the_iterator_tells() -> None:
    """Since 3.13 the iterator knows its tasks; before, there is no certainty and no circle."""
    lock = asyncio.Lock()

    async def parent() -> None:
        async with lock:
            await join_completed([want(lock)])

    async with waiting(parent=parent()) as graph:
        tells = hasattr(asyncio.tasks, "_AsCompletedIterator")
        assert bool(graph.cycle) is tells


async def test_slots_of_a_group_held_by_those_who_want_another() -> None:
    """A child that awaits `spawn` of its own full group waits for itself."""

    async def child(group: aioconc.TaskGroup) -> None:
        await group.spawn(asyncio.sleep, 0)

    async def parent() -> None:
        async with aioconc.TaskGroup(limit=1) as group:
            group.start_soon(child, group, name="child")

    async with waiting(parent=parent()) as graph:
        assert names(graph) == ["child"]
        assert "circle: child -> child" in str(graph)


# ---------------------------------------------------------------------- semaphores


@pytest.mark.parametrize("recording", [False, True])
async def test_semaphore_with_a_holder_outside_is_no_circle(recording: bool) -> None:
    """While one of the holders is free to go on, those who wait for the semaphore are not lost."""
    with record_owners() if recording else contextlib.nullcontext():
        lock, slots = asyncio.Lock(), asyncio.BoundedSemaphore(2)
        ready, end = asyncio.Event(), asyncio.Event()

        async def other() -> None:
            async with slots:
                await end.wait()

        async def go() -> None:
            await asyncio.sleep(0)
            ready.set()

        async with waiting(
            other=other(),
            sl=take(slots, lock, ready),
            ls=take(lock, slots, ready),
            late=want(slots),
            go=go(),
        ) as graph:
            assert "ls waits for BoundedSemaphore#1 (0 free), held by other" in str(graph)
            assert graph.cycle == ()
            # Even if it ends: then `ls` goes on, and everybody after it.
            end.set()
            assert (await all_wait()).tasks_waiting == 0


async def test_semaphore_whose_holders_are_all_caught() -> None:
    """If every holder waits for the one that waits for the semaphore, they are a knot."""
    with record_owners():
        lock, slots = asyncio.Lock(), asyncio.Semaphore(2)
        ready = asyncio.Event()

        async def go() -> None:
            await asyncio.sleep(0)
            ready.set()

        async with waiting(
            s1=take(slots, lock, ready),
            s2=take(slots, lock, ready),
            ls=take(lock, slots, ready),
            go=go(),
        ) as graph:
            assert names(graph) == ["ls", "Semaphore#1", "s1", "Lock#1"]
            assert {node.name for node in graph.knot} == {
                "ls",
                "Semaphore#1",
                "s1",
                "s2",
                "Lock#1",
            }


async def test_plain_semaphore_unrecorded_is_uncertain() -> None:
    """How many permits a plain Semaphore began with is unknown without a record: no circle."""
    async with await crossed(asyncio.Semaphore(), asyncio.Semaphore()) as graph:
        assert graph.cycle == ()
        assert [node.name for node in graph.likely_cycle][::2] == ["ab", "ba"]


async def test_semaphore_that_was_made_before_the_recording() -> None:
    """A bounded one tells how many permits it has; a plain one does not, so there is no circle."""
    bounded = asyncio.BoundedSemaphore(), asyncio.BoundedSemaphore()
    plain = asyncio.Semaphore(), asyncio.Semaphore()
    with record_owners():
        async with await crossed(*bounded) as graph:
            assert names(graph)[::2] == ["ab", "ba"]
        async with await crossed(*plain) as graph:
            assert graph.cycle == ()
            assert graph.likely_cycle


async def test_slots_acquired_by_a_producer_and_released_elsewhere() -> None:
    """The usual bounded producer waits for a semaphore that it acquired itself: no circle."""
    with record_owners():
        slots = asyncio.Semaphore(2)
        end = asyncio.Event()

        async def work() -> None:
            await end.wait()
            slots.release()

        async def produce() -> None:
            async with asyncio.TaskGroup() as group:
                for _ in range(4):
                    await slots.acquire()
                    group.create_task(work())

        async with waiting(producer=produce()) as graph:
            assert "producer waits for Semaphore#1 (0 free), held by producer" in str(graph)
            assert graph.cycle == ()
            end.set()
            await all_wait()


async def test_permits_both_in_a_block_and_by_hand() -> None:
    """A holder with more permits than blocks may have acquired one for others: no circle."""
    with record_owners():
        slots = asyncio.Semaphore(2)

        async def mixed() -> None:
            async with slots:
                await slots.acquire()
                await slots.acquire()

        async with waiting(mixed=mixed()) as graph:
            assert graph.cycle == ()


async def test_lock_that_somebody_else_has_released_before() -> None:
    """A lock that is released by tasks that do not hold it is a signal: no circle."""
    with record_owners():
        first, second = asyncio.Lock(), asyncio.Lock()
        await first.acquire()
        await asyncio.create_task(released(first))
        async with await crossed(first, second) as graph:
            assert graph.cycle == ()
            assert graph.likely_cycle


async def released(lock: asyncio.Lock) -> None:
    lock.release()


@pytest.mark.parametrize("make", [anyio.Lock, lambda: anyio.CapacityLimiter(1)])
async def test_anyio_primitive_with_several_waiters(make: Callable[[], Any]) -> None:
    """Every waiter waits for the one holder; a holder that has ended is nobody."""
    lock = make()
    end = asyncio.Event()

    async def hold() -> None:
        await lock.acquire()
        await end.wait()

    async with waiting(holder=hold(), w1=want(lock), w2=want(lock)) as graph:
        held = [edge for edge in graph.edges if edge.label == "held by"]
        assert [edge.target.name for edge in held] == ["holder"]
        assert sum("held by holder" in line for line in str(graph).splitlines()) == 2
        end.set()
        graph = await all_wait()
        assert graph.tasks_waiting == 2
        assert not [edge for edge in graph.edges if edge.label == "held by"]
        assert graph.cycle == graph.likely_cycle == ()


async def test_condition_that_is_waited_for_holds_nothing() -> None:
    """A task in `Condition.wait` has released the lock, so nobody waits for it."""
    for recording in (False, True):
        condition = asyncio.Condition()
        with record_owners() if recording else contextlib.nullcontext():

            async def consume(condition: asyncio.Condition) -> None:
                async with condition:
                    await condition.wait()

            async def hold(condition: asyncio.Condition) -> None:
                async with condition:
                    await asyncio.Event().wait()

            other = asyncio.Condition()
            async with waiting(
                a=consume(condition), b=hold(condition), c=hold(condition), d=consume(other)
            ) as graph:
                assert "c waits for Lock#1, held by b" in str(graph)
                assert graph.cycle == ()


async def test_condition_that_is_waited_for_inside_of_another_lock() -> None:
    """`Condition.wait` releases the condition's own lock, and no other that the task holds."""
    lock, condition = asyncio.Lock(), asyncio.Condition()

    async def consume() -> None:
        async with lock, condition:
            release = lock.release  # a bound method that is no way out of a block
            await condition.wait()
            release()

    async with waiting(consumer=consume(), wants=want(lock)) as graph:
        assert "wants waits for Lock#1, held by consumer" in str(graph).splitlines()


async def test_lock_of_a_condition_that_was_made_before_the_recording() -> None:
    """What the condition releases and acquires is not recorded then, and not taken for a hold."""
    lock = asyncio.Lock()
    condition = asyncio.Condition(lock)
    with record_owners():

        async def consume() -> None:
            async with lock:
                await condition.wait()

        async def hold() -> None:
            async with condition:
                await asyncio.Event().wait()

        async with waiting(consumer=consume(), holder=hold(), wants=want(lock)) as graph:
            assert "wants waits for Lock#1" in str(graph).splitlines()
            assert graph.likely_cycle == ()


async def test_blocks_that_cannot_be_read_may_have_a_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where looking for deadlines fails, there is no certain circle."""

    def fail(chain: object) -> list[object]:
        raise RuntimeError("another thread runs this loop")

    with record_owners():
        async with await crossed(asyncio.Lock(), asyncio.Lock()) as graph:
            assert graph.cycle
            monkeypatch.setattr("aioconc.testing._waits.open_blocks", fail)
            graph = wait_graph()
            assert graph.cycle == ()
            assert graph.likely_cycle


# ---------------------------------------------------------------------- deadlines


async def guarded(guard: Any, coro: Coro) -> None:
    async with guard:
        await coro


class Unrelated:
    """A user's context manager with attributes of the same names."""

    _tasks = ("not a task",)
    _background = 7
    deadline = "tomorrow"

    @property
    def gen(self) -> object:
        raise ValueError("not now")

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *error: object) -> None:
        pass


async def guarded_sync(guard: Any, coro: Coro) -> None:
    with guard:
        await coro


def deadlines() -> dict[str, Callable[[Coro], Coro]]:
    async def nested(coro: Coro) -> None:
        async with asyncio.timeout(60):
            await join_group([coro])

    async def nested_body(coro: Coro) -> None:
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(coro)
            await asyncio.Event().wait()

    async def aioconc_body(coro: Coro) -> None:
        async with aioconc.TaskGroup(timeout=60) as group:
            group.create_task(coro)
            await asyncio.Event().wait()

    async def aioconc_group(coro: Coro) -> None:
        async with aioconc.TaskGroup(timeout=60) as group:
            group.create_task(coro)

    async def supervised(coro: Coro) -> None:
        async def child() -> None:
            await coro

        with aioconc.move_on_after(60):
            async with aioconc.Supervisor() as supervisor:
                supervisor.start_child(child)
                await asyncio.Event().wait()

    async def mapped(coro: Coro) -> None:
        async def call(_: int) -> None:
            await coro

        await aioconc.map_limited(call, [1], limit=1, timeout=60)

    async def streamed(coro: Coro) -> None:
        async def call(_: int) -> None:
            await coro

        with aioconc.fail_after(60):
            async with aioconc.map_limited(call, [1], limit=1):
                await asyncio.Event().wait()

    async def patient_wait(coro: Coro) -> None:
        task = asyncio.create_task(coro)
        await asyncio.wait([task], timeout=60)
        task.cancel()

    return {
        "unrelated tasks": lambda coro: guarded(Unrelated(), guarded(asyncio.timeout(60), coro)),
        "timeout": lambda coro: guarded(asyncio.timeout(60), coro),
        "wait_for": lambda coro: asyncio.wait_for(coro, 60),
        "move_on_after": lambda coro: guarded_sync(aioconc.move_on_after(60), coro),
        "fail_after": lambda coro: guarded_sync(aioconc.fail_after(60), coro),
        "anyio move_on_after": lambda coro: guarded_sync(anyio.move_on_after(60), coro),
        "anyio fail_after": lambda coro: guarded_sync(anyio.fail_after(60), coro),
        "parent joins": nested,
        "parent in its body": nested_body,
        "aioconc group": aioconc_group,
        "aioconc group in its body": aioconc_body,
        "supervisor": supervised,
        "map": mapped,
        "stream": streamed,
        "wait": patient_wait,
    }


@pytest.mark.parametrize("deadline", deadlines())
async def test_deadline_will_break_the_circle(deadline: str) -> None:
    """A circle of which one member has a deadline, or a parent with one, is not certain."""
    guard = deadlines()[deadline]
    first, second, ready = asyncio.Lock(), asyncio.Lock(), asyncio.Event()

    async def go() -> None:
        await asyncio.sleep(0)
        ready.set()

    async with waiting(
        ab=guard(take(first, second, ready)), ba=take(second, first, ready), go=go()
    ) as graph:
        assert graph.cycle == ()
        assert graph.likely_cycle
        assert "likely circle: " in str(graph)


@pytest.mark.loops("asyncio")
async def test_timer_that_cancels_a_task_will_break_the_circle() -> None:
    """A timer that calls `cancel` of a task, or of a scope around it, is seen."""
    async with await crossed(asyncio.Lock(), asyncio.Lock()) as graph:
        assert graph.cycle
        task = next(each for each in asyncio.all_tasks() if each.get_name() == "ab")
        timer = asyncio.get_running_loop().call_later(60, task.cancel)
        assert wait_graph().cycle == ()
        timer.cancel()
        assert wait_graph().cycle == graph.cycle


async def test_deadline_without_end_is_none() -> None:
    """`timeout(None)` and scopes without a deadline change nothing."""

    async def calm(first: Any, second: Any, ready: asyncio.Event) -> None:
        async with asyncio.timeout(None), aioconc.TaskGroup():
            with aioconc.CancelScope(), anyio.CancelScope():
                await take(first, second, ready)

    first, second, ready = asyncio.Lock(), asyncio.Lock(), asyncio.Event()

    async def go() -> None:
        await asyncio.sleep(0)
        ready.set()

    async with waiting(
        ab=calm(first, second, ready), ba=take(second, first, ready), go=go()
    ) as graph:
        assert names(graph) == ["ab", "Lock#1", "ba", "Lock#2"]


# ---------------------------------------------------------------------- the protocol


class Recording:
    """A lock that knows its owners, as a primitive of aioconc will."""

    def __init__(self) -> None:
        self.owners: list[asyncio.Task[Any]] = []
        self.turn = asyncio.Event()
        self.told: list[str] = []

    def _wait_for_graph_owners(self, method: str) -> Iterable["asyncio.Task[Any]"] | None:
        self.told.append(method)
        return self.owners if method == "acquire" else None

    async def acquire(self) -> None:
        await self.turn.wait()

    async def other(self) -> None:
        await self.turn.wait()


class Strict(Recording):
    _wait_for_graph_only_owners_release = True


async def use(acquire: Callable[[], Coro]) -> None:
    await acquire()


@pytest.mark.parametrize(("kind", "certain"), [(Recording, False), (Strict, True)])
async def test_primitive_that_knows_its_owners(kind: type[Recording], certain: bool) -> None:
    """Owners told by the object are edges; they make a circle if nobody else may release it."""
    lock = kind()

    async def selfish() -> None:
        task = asyncio.current_task()
        assert task is not None
        lock.owners.append(task)
        await use(lock.acquire)

    async with waiting(selfish=selfish()) as graph:
        assert f"selfish waits for {kind.__name__}#1, held by selfish" in str(graph)
        assert bool(graph.cycle) is certain
        assert graph.likely_cycle
        assert lock.told == ["acquire"] * len(lock.told)


async def test_primitive_whose_answer_fails_is_a_bare_future() -> None:
    """An object that cannot answer breaks nothing; about its wait nothing is known."""

    class Broken(Strict):
        def _wait_for_graph_owners(self, method: str) -> Iterable["asyncio.Task[Any]"] | None:
            raise ValueError("not now")

    async with waiting(waiter=use(Broken().acquire)) as graph:
        assert "waiter waits for Future#1" in str(graph).splitlines()


async def test_waiters_of_a_primitive_that_knows_its_owners() -> None:
    """Several waiters have the same owner; an owner of another loop makes it uncertain."""
    lock = Strict()
    ended = asyncio.create_task(asyncio.sleep(0))
    await ended

    async def hold() -> None:
        task = asyncio.current_task()
        assert task is not None
        lock.owners += [task, ended]
        await use(lock.acquire)

    async with waiting(a=hold(), b=use(lock.acquire)) as graph:
        text = str(graph).splitlines()
        assert "a waits for Strict#1, held by a" in text
        assert "b waits for Strict#1, held by a" in text
        assert graph.cycle == ()
        assert graph.likely_cycle


async def test_primitive_is_told_in_which_method_the_wait_is() -> None:
    """A wait in a method that is not about owning has no owners."""
    lock = Strict()

    async def selfish() -> None:
        task = asyncio.current_task()
        assert task is not None
        lock.owners.append(task)
        await use(lock.other)

    async with waiting(selfish=selfish()) as graph:
        assert "selfish waits for Strict#1" in str(graph).splitlines()
        assert graph.likely_cycle == ()
