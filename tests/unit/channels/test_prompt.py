"""The task that waits for an answer goes on in the callback that has read it."""

import asyncio
import gc
import weakref
from contextvars import ContextVar, copy_context
from typing import Any

import pytest

from aioconc.channels import open_channel

# The order of callbacks within a turn is that loop's.
in_order = pytest.mark.loops("asyncio")

NAME: ContextVar[str] = ContextVar("NAME", default="nobody")


async def waits(ours: Any, order: list[Any]) -> None:
    order.append(await ours.receive())


def two_turns(order: list[Any], *, first: Any = None) -> None:
    """Mark the next two turns of the loop; `first` is called in the first of them."""
    loop = asyncio.get_running_loop()

    def turn() -> None:
        order.append("turn")
        if first is not None:
            first()
        loop.call_soon(order.append, "next turn")

    loop.call_soon(turn)


@in_order
@pytest.mark.parametrize("asked", [True, False])
async def test_an_answer_is_had_in_the_turn_in_which_it_is_read(asked: bool) -> None:
    """What comes unasked is had one turn later, together with what arrives meanwhile."""
    ours, theirs = open_channel()
    order: list[Any] = []
    async with ours, theirs:
        if asked:
            await ours.send("question")
        task = asyncio.create_task(waits(ours, order))
        await asyncio.sleep(0)
        await theirs.send("item")
        two_turns(order)
        await task
        expected = ["turn", "item", "next turn"] if asked else ["turn", "next turn", "item"]
        await asyncio.sleep(0)
        assert order == expected


@in_order
async def test_who_is_cancelled_in_the_turn_of_the_answer_leaves_it() -> None:
    """The cancellation came first: the task gets that, and the next one the answer."""
    ours, theirs = open_channel()
    order: list[Any] = []
    async with ours, theirs:
        await ours.send("question")
        task = asyncio.create_task(waits(ours, order))
        await asyncio.sleep(0)
        await theirs.send("answer")
        two_turns(order, first=task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await ours.receive(timeout=60) == "answer"
        assert order == ["turn", "next turn"]


async def test_two_who_wait_get_their_answers_in_order() -> None:
    """Both arrive in one read; nobody is served twice."""
    ours, theirs = open_channel()
    order: list[Any] = []
    async with ours, theirs:
        await ours.send("question")
        tasks = [asyncio.create_task(waits(ours, order)) for _ in range(2)]
        await asyncio.sleep(0)
        await theirs.send_many([1, 2])
        await asyncio.gather(*tasks)
        assert order == [1, 2]


async def test_the_task_goes_on_in_its_own_context() -> None:
    """Not in that of the callback, which is empty; and nothing of it stays there."""
    ours, theirs = open_channel()
    seen: list[Any] = []

    async def ask(name: str) -> None:
        NAME.set(name)
        await ours.send(name)
        seen.append((await ours.receive(), NAME.get(), asyncio.current_task()))

    async with ours, theirs:
        for name in ("one", "two"):
            task = asyncio.create_task(ask(name), name=name)
            assert await theirs.receive() == name
            await theirs.send(name)
            await task
            assert seen.pop() == (name, name, task)
    assert NAME.get() == "nobody"


def test_what_stops_the_loop_in_the_callback_breaks_nothing() -> None:
    """KeyboardInterrupt of the task leaves through the loop; the channel is used on afterwards."""
    ours, theirs = open_channel()

    async def ask(*, interrupted: bool) -> Any:
        await ours.send("question")
        asyncio.get_running_loop().call_soon(asyncio.ensure_future, theirs.send("answer"))
        answer = await ours.receive()
        if interrupted:
            raise KeyboardInterrupt
        return answer

    loop = asyncio.new_event_loop()
    try:
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(ask(interrupted=True))
        assert loop.run_until_complete(ask(interrupted=False)) == "answer"
        loop.run_until_complete(ours.aclose())
        loop.run_until_complete(theirs.aclose())
    finally:
        loop.close()


class Interrupted:
    """A context before which Ctrl+C comes once, after it was told so."""

    def __init__(self) -> None:
        self.context = copy_context()
        self.interrupts = 0

    def run(self, *args: Any) -> Any:
        if self.interrupts:
            self.interrupts -= 1
            raise KeyboardInterrupt
        return self.context.run(*args)


def test_an_interrupt_before_the_task_goes_on_leaves_that_to_a_later_turn() -> None:
    """What was granted to it, it has as soon as the loop runs again."""
    ours, theirs = open_channel()
    loop = asyncio.new_event_loop()
    context: Any = Interrupted()

    async def ask() -> Any:
        await ours.send("question")
        return await ours.receive()

    async def answer() -> None:
        await asyncio.sleep(0)
        context.interrupts = 1
        await theirs.send("answer")
        await asyncio.sleep(60)

    try:
        task = loop.create_task(ask(), context=context)
        answering = loop.create_task(answer())
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(answering)
        assert loop.run_until_complete(asyncio.wait_for(task, 60)) == "answer"
        answering.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(answering)
        loop.run_until_complete(ours.aclose())
        loop.run_until_complete(theirs.aclose())
    finally:
        loop.close()


@pytest.mark.parametrize("watches", [False, True])
async def test_who_awaits_without_a_task_has_the_answer(watches: bool) -> None:
    """A coroutine driven by hand: by who looks at its future now and then, or has it call."""
    ours, theirs = open_channel()
    heard: list[Any] = []
    async with ours, theirs:
        await ours.send("question")
        driven = ours.receive()
        future: Any = driven.send(None)
        future._asyncio_future_blocking = False
        if watches:
            future.add_done_callback(heard.append)
        await theirs.send("answer")
        while not future.done() or len(heard) < watches:
            await asyncio.sleep(0)
        with pytest.raises(StopIteration) as ended:
            driven.send(None)
        assert ended.value.value == "answer"
        assert heard == [future] * watches


async def test_who_watches_the_task_is_called_in_a_later_turn() -> None:
    """Two are to hear of the answer: both do as of any future, first come first."""
    ours, theirs = open_channel()
    order: list[Any] = []
    async with ours, theirs:
        await ours.send("question")
        task = asyncio.create_task(waits(ours, order))
        await asyncio.sleep(0)
        future: Any = task._fut_waiter  # type: ignore[attr-defined]
        future.add_done_callback(lambda _: order.append("watcher"))
        await theirs.send("answer")
        await task
        while len(order) < 2:
            await asyncio.sleep(0)
        assert order == ["answer", "watcher"]


class Held:
    """Something that the task has when it fails."""


async def fails(ours: Any, how: str, references: list[Any]) -> None:
    held = Held()
    references.append(weakref.ref(held))
    timeout = 0.001 if how == "timeout" else None
    try:
        await ours.receive(timeout=timeout)
    except BaseException as error:
        raise ValueError from error


@pytest.mark.parametrize("how", ["cancel", "end", "timeout"])
async def test_a_task_that_failed_is_not_kept(how: str) -> None:
    """Nothing holds it in a circle: what it had is gone with its error, without a collection."""
    ours, theirs = open_channel()
    references: list[Any] = []
    gc.collect()
    gc.disable()
    try:
        async with ours, theirs:
            await ours.send("question")
            task = asyncio.create_task(fails(ours, how, references))
            await asyncio.sleep(0)
            if how == "cancel":
                task.cancel()
            elif how == "end":
                await theirs.close_send()
            await asyncio.wait([task])
            assert isinstance(task.exception(), ValueError)
            del task
            await asyncio.sleep(0)
            assert references[0]() is None
    finally:
        gc.enable()
