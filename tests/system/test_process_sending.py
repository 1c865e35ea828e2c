"""What a worker's socket does not take at once is sent when it takes more, in order and whole."""

import os
import signal

import pytest

from aioconc._wire import _frames as wire
from aioconc._wire._body import dump
from aioconc.executors.process import ProcessExecutor
from aioconc.executors.process._log_relay import levels
from tests.system.process_tools import pids, until

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("size", [0, 3_000])
async def test_a_full_socket_takes_the_rest_later(size: int) -> None:
    """Small frames, one after the other, until the socket of a stopped worker is full."""
    async with ProcessExecutor(max_workers=1) as pool:
        await pool.run(abs, 1)
        (worker,) = pool._processes.workers
        (pid,) = pids(pool)
        disabled, named = levels()
        named["x" * size] = 10
        frame = b"".join(wire.encode(wire.LEVELS, 0, *dump((disabled, named))))
        os.kill(pid, signal.SIGSTOP)
        try:
            for _ in range(100_000):
                worker._send_small(frame)
                if len(worker._out) > 3:
                    break
            assert len(worker._out) > 3
        finally:
            os.kill(pid, signal.SIGCONT)
        await until(lambda: not worker._out)
        assert await pool.run(abs, -3) == 3
        assert pids(pool) == {pid}
