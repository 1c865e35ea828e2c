"""`serve_prefork` as a real program: under load, with real signals and kills."""

import asyncio
import fcntl
import os
import random
import signal
import socket
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from aioconc import TaskGroup
from tests.system.serve_load import (
    PRELUDE,
    REPOSITORY,
    Load,
    children,
    kill_one,
    program,
    wait_until_over,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.loops("asyncio"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc"),
]

SERVE = """
say_port = lambda port: say(port)
raise SystemExit(serve_prefork(
    apps.{app}, 0, host="127.0.0.1", workers=2, on_ready=say_port, loop={loop!r}, {options}
))
"""


def serve(app: str = "app", options: str = "drain=5", loop: str = "auto") -> str:
    return SERVE.format(app=app, options=options, loop=loop)


@pytest.mark.parametrize(
    ("kills", "reuse_port"),
    [
        pytest.param(3, False, id="a few"),
        pytest.param(8, True, marks=pytest.mark.soak, id="a few, a socket each"),
        pytest.param(150, False, marks=pytest.mark.soak, id="many"),
    ],
)
async def test_kills_under_load_cost_only_the_connections_of_those_killed(
    kills: int, reuse_port: bool
) -> None:
    """Workers killed at random are replaced, and nobody else's request fails."""
    killed = set()
    rng = random.Random(24)
    options = f"drain=5, max_restarts=10_000, reuse_port={reuse_port}"
    with program(serve(options=options)) as server:
        load = Load(server.port)
        async with load.running():
            while len(killed) < kills:
                await load.answered_more(20)
                if pids := children(server.process.pid):
                    killed.add(kill_one(pids, rng.randrange(100)))
                await asyncio.sleep(rng.uniform(0.1, 0.5))
            await load.answered_more(20)
        server.send(signal.SIGTERM)
        status, err = server.finish()
    print(f"{load}; {len(killed)} kills")
    assert status == 0, err
    held_by = {pid for pid, _ in load.failed} - {None}
    assert held_by <= killed, load.failed
    # No more than all clients, each time; in fact it is about one.
    assert len(load.failed) <= 10 * len(killed)
    assert not load.refused


@pytest.mark.parametrize(
    ("loop", "reuse_port"),
    [
        ("asyncio", False),
        pytest.param("uvloop", False, marks=pytest.mark.soak),
        pytest.param("uvloop", True, marks=pytest.mark.soak),
    ],
)
async def test_sigterm_under_load_drains_without_a_failed_request(
    loop: str, reuse_port: bool
) -> None:
    """Whoever is connected when SIGTERM comes gets his answer; then the program ends with 0."""
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    options = f"drain=5, reuse_port={reuse_port}"
    with program(serve(options=options, loop=loop)) as server:
        load = Load(server.port)
        async with load.running():
            await load.answered_more(100)
            server.send(signal.SIGTERM)
            assert await asyncio.to_thread(server.finish) == (0, "")
    print(load)
    assert not load.failed
    assert load.refused  # it has ended while they asked
    assert len(load.answers) == 2


@pytest.mark.parametrize(
    ("times", "reuse_port"),
    [
        (1, False),
        pytest.param(3, False, marks=pytest.mark.soak),
        pytest.param(2, True, marks=pytest.mark.soak),
    ],
)
async def test_sighup_under_load_replaces_the_workers_without_a_failed_request(
    times: int, reuse_port: bool
) -> None:
    """After each SIGHUP there are other workers, and no request has failed or been refused."""
    options = f"drain=5, reuse_port={reuse_port}"
    with program(serve(options=options)) as server:
        load = Load(server.port)
        first = children(server.process.pid)
        descriptors = Path(f"/proc/{server.process.pid}/fd")
        held = len([*descriptors.iterdir()])
        async with load.running():
            for _ in range(times):
                await load.answered_more(50)
                before = children(server.process.pid)
                server.send(signal.SIGHUP)
                async with asyncio.timeout(30):
                    while (now := children(server.process.pid)) & before or len(now) != 2:
                        await asyncio.sleep(0.02)
            await load.answered_more(50)
        async with asyncio.timeout(20):  # until the last of the old ones is waited for
            while len([*descriptors.iterdir()]) != held:
                await asyncio.sleep(0.02)
        server.send(signal.SIGTERM)
        assert server.finish()[0] == 0
    print(load)
    assert not load.failed
    assert not load.refused
    assert len(load.answers) >= times + 2
    assert not first & children(server.process.pid)


async def test_newcomers_are_refused_while_requests_under_way_are_finished() -> None:
    """Not left to wait for an answer that will not come, for as long as the drain takes."""
    with program(serve("slow", "drain=20")) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"x")
        assert await reader.readline() == b"begun\n"
        server.send(signal.SIGTERM)
        async with asyncio.timeout(20):
            while True:
                try:
                    _, late = await asyncio.open_connection("127.0.0.1", server.port)
                except ConnectionRefusedError:
                    break
                late.transport.abort()
        assert server.process.poll() is None
        writer.write(b"x")
        assert await reader.readline() == b"done\n"
        writer.transport.abort()
        assert (await asyncio.to_thread(server.finish)) == (0, "")


def test_workers_may_have_worker_processes() -> None:
    """`offload_cpu` works in them, and its processes end with them."""
    with program(serve("computing")) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as sock:
            sock.sendall(b"x")
            pid, other = map(int, sock.recv(100).split())
        assert pid in children(server.process.pid)
        assert other in children(pid)
        server.send(signal.SIGTERM)
        assert server.finish() == (0, "")
        assert not wait_until_over({pid, other}, 2)


def test_no_worker_outlives_a_supervisor_that_is_killed() -> None:
    """SIGKILL of the supervisor ends its workers within two seconds."""
    with program(serve()) as server:
        pids = children(server.process.pid)
        assert len(pids) == 2
        server.process.kill()
        assert not wait_until_over(pids, 2.0)


def test_a_crash_loop_ends_with_a_clear_error() -> None:
    """Workers that fail again and again are given up, and the last failure is told."""
    with program(serve("broken", "max_restarts=1"), wait=False) as server:
        status, err = server.finish()
    assert status == 1
    assert "serve_prefork gives up: 2 workers failed within 60 s, max_restarts is 1" in err
    assert "LookupError: no such table" in err.splitlines()[-1]


def test_a_factory_that_returns_counts_as_a_failure() -> None:
    """A worker whose coroutine ends by itself says so."""
    with program(serve("returns", "max_restarts=0"), wait=False) as server:
        status, err = server.finish()
    assert status == 1
    assert "its coroutine returned, though nobody had asked it to end" in err.splitlines()[-1]


def test_a_worker_that_is_never_ready_is_a_failure() -> None:
    """Without `ready` in time the worker is killed, and the message says what to call."""
    options = "max_restarts=0, start_timeout=0.5"
    with program(serve("never_ready", options), wait=False) as server:
        status, err = server.finish()
    assert status == 1
    assert "it has not called aioconc.servers.ready() within 0.5 s" in err.splitlines()[0]


def test_a_worker_that_will_not_end_is_killed_after_the_drain() -> None:
    """Asked twice, then killed; the status says that it was not in order."""
    with program(serve("stubborn", "drain=1")) as server:
        server.send(signal.SIGTERM)
        status, err = server.finish()
    assert status == 1
    assert " ".join(server.said).count("asked to end") == 4
    assert err.count("was killed by SIGKILL: it had not ended in time, when it was to end") == 2


def test_a_second_signal_does_not_wait_for_the_drain() -> None:
    """It asks again at once, and the status tells of it; a third one kills."""
    with program(serve("stubborn", "drain=3600")) as server:
        server.send(signal.SIGTERM)
        assert server.process.stdout is not None
        assert server.process.stdout.readline().startswith("asked to end")
        server.send(signal.SIGINT)
        server.send(signal.SIGTERM)
        assert server.finish()[0] in (128 + signal.SIGINT, 128 + signal.SIGTERM)


@pytest.mark.soak
def test_ctrl_c_reaches_the_supervisor_alone() -> None:
    """SIGINT to the whole group, as a terminal sends it, drains as SIGTERM does."""
    with program(serve("stubborn", "drain=1")) as server:
        for pid in children(server.process.pid):
            os.kill(pid, signal.SIGINT)
            os.kill(pid, signal.SIGHUP)
        server.send(signal.SIGINT)
        server.finish()
    assert " ".join(server.said).count("asked to end") == 4


def test_ctrl_c_at_a_terminal_drains() -> None:
    """The terminal sends SIGINT to every process of the group; the workers end in order."""
    terminal, other_end = os.openpty()

    def take_terminal() -> None:
        fcntl.ioctl(other_end, termios.TIOCSCTTY, 0)

    text = PRELUDE.format(root=str(REPOSITORY)) + serve("stubborn", "drain=1")
    process = subprocess.Popen(
        [sys.executable, "-c", text],
        stdin=other_end,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=take_terminal,  # noqa: PLW1509  # no other thread holds a lock here
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().strip().isdecimal()
            assert os.write(terminal, b"\x03")
            out, _ = process.communicate(timeout=30)
        finally:
            process.kill()
            os.close(terminal)
            os.close(other_end)
    assert out.count("asked to end") == 4
    assert process.returncode == 1  # they had to be killed


async def test_sigterm_to_a_worker_replaces_it_without_a_failed_request() -> None:
    """A worker that somebody else asks to end drains, and another one takes its place."""
    with program(serve(options="max_restarts=0")) as server:
        load = Load(server.port)
        async with load.running():
            await load.answered_more(50)
            before = children(server.process.pid)
            os.kill(min(before), signal.SIGTERM)
            async with asyncio.timeout(30):
                while len(children(server.process.pid) - before) != 1 or min(before) in children(
                    server.process.pid
                ):
                    await asyncio.sleep(0.02)
            await load.answered_more(50)
        server.send(signal.SIGTERM)
        assert server.finish() == (0, "")
    assert not load.failed


async def test_a_reload_that_fails_leaves_the_workers_that_serve(tmp_path: Path) -> None:
    """A new version that does not start costs nothing: the old workers go on."""
    with program(serve("broken_once_replaced"), cwd=tmp_path) as server:
        before = children(server.process.pid)
        load = Load(server.port)
        async with load.running():
            await load.answered_more(20)
            (tmp_path / "broken").touch()
            server.send(signal.SIGHUP)
            await load.answered_more(100)
            assert server.process.stderr is not None
            while "the reload is given up" not in (
                line := await asyncio.to_thread(server.process.stderr.readline)
            ):
                assert line
            assert "LookupError: the new version does not work" in line
            await load.answered_more(20)
            assert children(server.process.pid) == before
        server.send(signal.SIGTERM)
        assert server.finish()[0] == 0
    assert not load.failed


def test_a_factory_of_the_main_module_is_served() -> None:
    """By value, with the functions and modules that it uses."""
    text = """
from aioconc.servers import serve_tcp

async def answer(connection):
    await connection.send(b"from " + __name__.encode())

async def app(sockets):
    await serve_tcp(answer, sockets=sockets)

raise SystemExit(serve_prefork(app, 0, host="127.0.0.1", workers=1, on_ready=say))
"""
    with program(text) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as sock:
            assert sock.recv(100) == b"from __main__"
        server.send(signal.SIGTERM)
        assert server.finish() == (0, "")


def test_output_and_log_records_of_workers_come_through() -> None:
    """What a worker prints is printed, and what it logs reaches the loggers of the supervisor."""
    text = """
import logging
logging.basicConfig(format="%(levelname)s %(name)s %(message)s %(worker_pid)s", level="WARNING")
"""
    with program(text + serve("talkative")) as server:
        pids = children(server.process.pid)
        server.send(signal.SIGTERM)
        status, err = server.finish()
    assert status == 0
    assert " ".join(server.said).count("printed by a worker") == 2  # the lines may be one
    assert err.count("complained by a worker") == 2
    for pid in pids:
        assert f"WARNING app logged by a worker {pid}\n" in err


@pytest.mark.soak  # the how-to serves one as well
async def test_an_aiohttp_application_is_served() -> None:
    """By all workers, through a reload without a failed request, and SIGTERM ends it with 0."""
    import aiohttp

    with program(serve("web")) as server:
        url = f"http://127.0.0.1:{server.port}/"
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def ask() -> int:
                async with session.get(url) as response:
                    assert response.status == 200
                    return int(await response.text())

            asked: list[int] = []
            stop = asyncio.Event()

            async def ask_on() -> None:
                while not stop.is_set():
                    asked.append(await ask())

            async with TaskGroup() as group:
                for _ in range(4):
                    group.start_soon(ask_on)
                before = children(server.process.pid)
                async with asyncio.timeout(30):
                    while not before <= {*asked}:
                        await asyncio.sleep(0.02)
                    server.send(signal.SIGHUP)
                    while (now := children(server.process.pid)) & before or not now <= {*asked}:
                        await asyncio.sleep(0.02)
                stop.set()
        print(len(asked), "requests, none failed")
        server.send(signal.SIGTERM)
        assert (await asyncio.to_thread(server.finish))[0] == 0
