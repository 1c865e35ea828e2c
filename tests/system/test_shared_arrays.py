"""Shared arrays between real processes: one memory, freed with the last of them, and their lock."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from aioconc import ProcessExecutor, open_channel
from aioconc.channels import Channel, SharedArray
from aioconc.errors import OwnerDied, WorkerCrashed
from tests.system.executor_scripts import run_script
from tests.system.process_tools import STARTS, executor_started_by, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.loops("asyncio"),
    pytest.mark.skipif(sys.platform != "linux", reason="needs Linux"),
]


@pytest.fixture
async def pool() -> AsyncIterator[ProcessExecutor]:
    async with ProcessExecutor(2) as pool:
        yield pool


def descriptors() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


def named() -> list[Path]:
    """Memory of ours that has a name; it never has for long."""
    return [*Path("/dev/shm").glob("aioconc*")]


def double(shared: SharedArray) -> SharedArray:
    view = shared.view
    for number in range(len(shared)):
        view[number] *= 2
    return shared


def count_descriptors() -> int:
    return descriptors()


def add_in_child(shared: SharedArray, times: int) -> None:
    for _ in range(times):
        with shared.lock.sync:
            shared.view[0] += 1


# ------------------------------------------------------------------ one memory


@pytest.mark.parametrize("start", STARTS)
async def test_an_argument_and_a_result_are_the_same_memory(start: str) -> None:
    """Nothing is copied, and nothing is left in either process when all have closed."""
    async with executor_started_by(start)(1) as pool:
        with SharedArray(4, lock=True) as warm:
            (await pool.run(double, warm)).close()
        here, there = descriptors(), await pool.run(count_descriptors)
        for _ in range(3):
            with SharedArray(4, lock=True) as shared:
                shared.view[1] = 4
                back = await pool.run(double, shared)
                assert (shared.view[1], back.view[1]) == (8, 8)
                back.view[1] = 5
                assert shared.view[1] == 5
                back.close()
                assert shared.view[1] == 5
        assert descriptors() == here
        assert await pool.run(count_descriptors) == there


async def test_it_goes_through_a_map(pool: ProcessExecutor) -> None:
    """As an item, which a chunk brings many times."""

    def add(job: tuple[SharedArray, int]) -> None:
        shared, number = job
        with shared.lock.sync:
            shared.view[0] += number

    with SharedArray(1, "q", lock=True) as shared:
        await pool.map(add, [(shared, number) for number in range(50)])
        assert shared.view[0] == sum(range(50))


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_process_that_multiprocessing_starts_has_it(tmp_path: Path, method: str) -> None:
    """Given as an argument, with its lock; no resource tracker has to know of it."""
    code = f"""
    import multiprocessing
    from aioconc.channels import SharedArray

    def work(shared):
        for _ in range(500):
            with shared.lock.sync:
                shared.view[0] += 1

    if __name__ == "__main__":
        context = multiprocessing.get_context({method!r})
        with SharedArray(1, "q", lock=True) as shared:
            children = [context.Process(target=work, args=(shared,)) for _ in range(2)]
            for each in children:
                each.start()
            for each in children:
                each.join()
            print(shared.view[0], [each.exitcode for each in children])
    """
    ended = run_script(tmp_path, code)
    assert (ended.out, ended.err, ended.status) == ("1000 [0, 0]\n", "", 0)


@pytest.mark.parametrize("killed", ["owner", "user", "none"])
@pytest.mark.parametrize("kind", ["memfd", "segment"])
def test_killed_or_not_nothing_is_left_and_nobody_is_warned(
    tmp_path: Path, killed: str, kind: str
) -> None:
    """No name in /dev/shm, no warning of a resource tracker, and no line from anybody else."""
    code = f"""
    import asyncio, os, signal
    from aioconc import ProcessExecutor
    from aioconc._wire import _memory
    from aioconc.channels import SharedArray
    from aioconc.errors import WorkerCrashed

    _memory.kind = {kind!r}
    def use(shared, killed):
        shared.view[0] = 1
        if killed == "user":
            os.kill(os.getpid(), signal.SIGKILL)
        return shared.view[0]

    async def main():
        shared = SharedArray(1_000_000)
        async with ProcessExecutor(1) as pool:
            try:
                await pool.run(use, shared, {killed!r})
            except WorkerCrashed:
                pass
            print(shared.view[0], flush=True)
            if {killed!r} == "owner":
                os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(main())
    """
    ended = run_script(tmp_path, code)
    assert (ended.out, ended.err, ended.left) == ("1.0\n", "", [])
    assert ended.status == (-signal.SIGKILL if killed == "owner" else 0)
    assert not named()


async def test_it_outlives_the_process_that_made_it(pool: ProcessExecutor) -> None:
    """Made in a worker that is then killed, it is as good as before."""

    def make() -> SharedArray:
        made = SharedArray(2, lock=True)
        made.view[1] = 6
        return made

    with await pool.run(make) as shared:
        await pool.aclose(cancel=True)
        assert shared.view.tolist() == [0, 6]
        async with shared.lock:
            pass


# ------------------------------------------------------------------ its lock


async def test_one_process_at_a_time_holds_the_lock(pool: ProcessExecutor) -> None:
    """Threads, tasks and processes add to one number, and none is lost."""

    async def add_in_tasks(shared: SharedArray) -> None:
        for _ in range(200):
            async with shared.lock:
                seen = shared.view[0]
                await asyncio.sleep(0)
                shared.view[0] = seen + 1

    with SharedArray(1, "q", lock=True) as shared:
        async with asyncio.timeout(40):
            await asyncio.gather(
                pool.run(add_in_child, shared, 200),
                pool.run(add_in_child, shared, 200),
                asyncio.to_thread(add_in_child, shared, 200),
                add_in_tasks(shared),
                add_in_tasks(shared),
            )
        assert shared.view[0] == 1_000


class Holder:
    """A worker process that holds the lock until it is told, or killed."""

    def __init__(self, pool: ProcessExecutor, shared: SharedArray, folder: Path) -> None:
        self._pool, self._shared = pool, shared
        self._ready, self._go_on = folder / "ready", folder / "go on"

    async def start(self, hold: Callable[..., object] | None = None) -> None:
        self.call = asyncio.ensure_future(
            self._pool.run(hold or _hold, self._shared, str(self._ready), str(self._go_on))
        )
        await until(self._ready.exists)
        self.pid = int(self._ready.read_text())

    def let_go(self) -> None:
        self._go_on.touch()

    async def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        with pytest.raises(WorkerCrashed):
            await self.call


def _hold(shared: SharedArray, ready: str, go_on: str) -> None:
    with shared.lock.sync:
        _tell(ready)
        while not Path(go_on).exists():
            time.sleep(0.001)


def _tell(ready: str) -> None:
    Path(ready + "~").write_text(str(os.getpid()))
    Path(ready + "~").rename(ready)


@pytest.fixture
async def holder(pool: ProcessExecutor, tmp_path: Path) -> AsyncIterator[Holder]:
    with SharedArray(1, lock=True) as shared:
        yield Holder(pool, shared, tmp_path)


@pytest.mark.loops("asyncio", "uvloop")
async def test_a_wait_for_another_process_leaves_the_loop_alone(holder: Holder) -> None:
    """The loop turns meanwhile; cancelled, the wait takes nothing; released, it ends at once."""
    await holder.start()
    lock = holder._shared.lock
    waits = [asyncio.create_task(lock.acquire()) for _ in range(3)]
    for _ in range(50):
        await asyncio.sleep(0)
    assert not any(each.done() for each in waits)
    assert lock.statistics().pid == holder.pid
    waits[0].cancel()
    waits[1].cancel()
    await asyncio.wait(waits[:2])
    assert not await asyncio.to_thread(lambda: lock.sync.acquire(timeout=0.01))
    holder.let_go()
    await holder.call
    await waits[2]
    lock.release()
    async with asyncio.timeout(20), lock:
        pass


async def test_the_death_of_the_holder_is_told_to_all_until_it_is_recovered(
    holder: Holder,
) -> None:
    """Who waits, task and thread, and who comes; nobody has the lock without knowing."""
    await holder.start()
    lock = holder._shared.lock
    waits = asyncio.create_task(lock.acquire())
    thread = asyncio.ensure_future(asyncio.to_thread(lock.sync.acquire))
    await until(lambda: lock.statistics().threads_waiting)
    await holder.kill()
    for each in (waits, thread, lock.acquire()):
        with pytest.raises(OwnerDied, match=rf"process {holder.pid} died") as caught:
            await each
        assert caught.value.pid == holder.pid
    assert lock.statistics().owner_died == holder.pid
    assert f"left half done by process {holder.pid}" in repr(lock)
    with pytest.raises(KeyError):  # it could not be put right
        async with lock.recover():
            raise KeyError
    with pytest.raises(OwnerDied):
        await asyncio.to_thread(lock.sync.acquire)

    def recover() -> int | None:
        with lock.sync.recover() as died:
            return None if died is None else died.pid

    assert await asyncio.to_thread(recover) == holder.pid
    assert await asyncio.to_thread(recover) is None
    async with lock:
        assert lock.statistics().owner_died is None


def _channel() -> tuple[Channel[SharedArray], Channel[SharedArray]]:
    return open_channel()


async def test_a_holder_that_had_passed_the_array_on_is_missed_as_well(
    pool: ProcessExecutor,
) -> None:
    """What others got of it does not keep the lock when it dies: as a result, or on its way."""

    def make() -> SharedArray:
        import builtins

        builtins.kept = made = SharedArray(1, lock=True)  # type: ignore[attr-defined]
        return made

    def hold_and_die() -> None:
        import builtins

        builtins.kept.lock.sync.acquire()  # type: ignore[attr-defined]
        os.kill(os.getpid(), signal.SIGKILL)

    async with ProcessExecutor(1) as one:
        with await one.run(make) as shared:
            near, far = _channel()
            async with near, far:
                await near.send(shared)
                again = await far.receive()
            with pytest.raises(WorkerCrashed):
                await one.run(hold_and_die)
            for each in (shared, again):
                with pytest.raises(OwnerDied):
                    async with asyncio.timeout(20):
                        await each.lock.acquire()
            again.close()


async def test_it_is_an_item_of_a_channel(pool: ProcessExecutor) -> None:
    """To another process and back, the memory is the same."""

    def answer(end: Channel[SharedArray]) -> None:
        with end.sync as blocking:
            blocking.send(double(blocking.receive()))

    near, far = _channel()
    with SharedArray(2, lock=True) as shared:
        shared.view[1] = 3
        async with near:
            call = asyncio.ensure_future(pool.run(answer, far))
            await near.send(shared)
            with await near.receive() as back:
                await call
                assert back.view.tolist() == shared.view.tolist() == [0, 6]
                async with shared.lock:
                    assert back.lock.locked()


async def test_who_dies_in_the_recovery_leaves_it_as_it_was(holder: Holder, tmp_path: Path) -> None:
    """The next one is told, of the last one who died."""

    def recover(shared: SharedArray, ready: str, go_on: str) -> None:
        with shared.lock.sync.recover():
            _tell(ready)
            while True:
                time.sleep(1)

    lock = holder._shared.lock
    await holder.start()
    await holder.kill()
    holder._ready.unlink()
    await holder.start(recover)
    await holder.kill()
    with pytest.raises(OwnerDied) as caught:
        await lock.acquire()
    assert caught.value.pid == holder.pid


async def test_a_call_that_forgets_the_lock_leaves_it_as_a_death_does(
    pool: ProcessExecutor,
) -> None:
    """Its array is dropped with the call, and with it the lock."""

    def forget(shared: SharedArray) -> None:
        shared.lock.sync.acquire()

    with SharedArray(1, lock=True) as shared:
        await pool.run(forget, shared)
        async with asyncio.timeout(20):
            with pytest.raises(OwnerDied, match="died, or dropped this SharedArray"):
                await shared.lock.acquire()


# What happens in a holder, in its order, and what the next one hears.
STEPS = {
    "locked by the system": ("os.getpid", None),
    "the holder is written": ("os.eventfd_read", "died"),
    "released, and not unlocked": ("fcntl.flock", None),
    "unlocked, and nobody woken": ("os.eventfd_write", None),
}


@pytest.mark.parametrize("step", STEPS)
async def test_a_kill_at_any_step_keeps_nobody_out(
    pool: ProcessExecutor, step: str, tmp_path: Path
) -> None:
    """Those who wait go on, or are told; whichever is right for how far the dead one had come."""
    called, told = STEPS[step]

    def die_at(shared: SharedArray, called: str, ready: str) -> None:
        import fcntl

        lock = shared.lock
        module, name = (
            {"os": os, "fcntl": fcntl}[called.partition(".")[0]],
            called.partition(".")[2],
        )
        real, pid = getattr(module, name), os.getpid()

        def die(*arguments: Any) -> Any:
            if name == "flock" and arguments[1] != fcntl.LOCK_UN:
                return real(*arguments)
            return os.kill(pid, signal.SIGKILL)

        if name in ("flock", "eventfd_write"):
            lock.sync.acquire()
            _tell(ready)
            while not lock._words[2]:  # somebody waits
                time.sleep(0.001)
            setattr(module, name, die)
            lock.release()
        setattr(module, name, die)
        lock.sync.acquire()

    with SharedArray(1, lock=True) as shared:
        call = asyncio.ensure_future(pool.run(die_at, shared, called, str(tmp_path / "ready")))
        if called in ("fcntl.flock", "os.eventfd_write"):
            await until((tmp_path / "ready").exists)
        else:
            with pytest.raises(WorkerCrashed):
                await call
        async with asyncio.timeout(5):
            if told:
                with pytest.raises(OwnerDied):
                    await shared.lock.acquire()
            else:
                async with shared.lock:
                    pass
        await asyncio.gather(call, return_exceptions=True)


@pytest.mark.soak
async def test_kills_at_any_moment_keep_nobody_out(pool: ProcessExecutor) -> None:
    """Sixty processes die while they take and release it; the others go on."""

    def endless(shared: SharedArray) -> None:
        while True:
            with shared.lock.sync.recover():
                shared.view[0] += 1

    with SharedArray(1, lock=True) as shared:
        for number in range(60):
            call = asyncio.ensure_future(pool.run(endless, shared))
            seen = shared.view[0]
            await until(lambda seen=seen: shared.view[0] > seen)  # type: ignore[misc]
            await asyncio.sleep((number * 37 % 100) / 50_000)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            async with asyncio.timeout(5), shared.lock.recover():
                pass


async def test_who_takes_it_again_and_again_keeps_nobody_out_for_long(
    pool: ProcessExecutor,
) -> None:
    """Two processes that hold it nearly all the time take turns."""

    def greedy(shared: SharedArray, me: int) -> None:
        while shared.view[2] < 1:
            with shared.lock.sync:
                shared.view[me] += 1
                time.sleep(0.0002)

    with SharedArray(3, "q", lock=True) as shared:
        calls = [asyncio.ensure_future(pool.run(greedy, shared, number)) for number in range(2)]
        try:
            await until(lambda: min(shared.view[0], shared.view[1]) >= 20)
            before = shared.view.tolist()
            await until(lambda: sum(shared.view.tolist()) >= sum(before) + 100)
            after = shared.view.tolist()
        finally:
            shared.view[2] = 1
            await asyncio.gather(*calls)
    gained = [after[number] - before[number] for number in range(2)]
    assert min(gained) >= 10, gained
