"""Listening sockets, and accepting when the system refuses: what other systems and full ones do."""

import asyncio
import errno
import socket
from functools import partial
from typing import Any

import pytest

from aioconc import TaskGroup
from aioconc.servers import TcpServer, _listen, serve_tcp
from tests.unit.servers.serving import ask, client, echo, until

V4 = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0))
V6 = (socket.AF_INET6, socket.SOCK_STREAM, 0, "", ("::1", 0, 0, 0))


class Refusing(socket.socket):
    """A listening socket whose `accept` fails so many times."""

    error = errno.EMFILE
    times = 0

    def accept(self) -> Any:
        if self.times > 0:
            self.times -= 1
            raise OSError(self.error, "not now")
        return super().accept()


def refusing(error: int, times: int) -> Refusing:
    sock = Refusing()
    sock.bind(("127.0.0.1", 0))
    sock.error, sock.times = error, times
    return sock


async def start(group: TaskGroup, sock: socket.socket, **options: Any) -> TcpServer:
    return await group.start(partial(serve_tcp, echo, sockets=[sock], **options))  # type: ignore[no-any-return]


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_a_shortage_pauses_and_is_over_when_a_connection_ends(
    error: int, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told once for a row of pauses, and does not wait for the longest of them."""
    with refusing(error, 0) as sock:
        async with TaskGroup() as group:
            server = await start(group, sock)
            async with client(server) as (reader, writer):
                writer.write(b"x")
                assert await reader.readexactly(1) == b"x"
                sock.times = 2
                waiting = asyncio.create_task(ask(server))
                await until(lambda: server.statistics().pauses == 1)
                assert not waiting.done()
            # The end of the first is a reason to try again, at once; then pauses go on.
            assert await waiting == b"hello"
            assert server.statistics().pauses == 2
            server.drain()
    assert caplog.text.count("no connection can be accepted for now") == 1


async def test_a_pause_does_not_hold_up_the_drain() -> None:
    """A server that waits for descriptors can end."""
    with refusing(errno.EMFILE, 1_000) as sock:
        async with TaskGroup() as group:
            server = await start(group, sock, drain=3600)
            waiting = socket.create_connection(sock.getsockname())
            await until(lambda: server.statistics().pauses >= 1)
            server.drain()
        waiting.close()


@pytest.mark.parametrize(
    "error", [errno.ECONNABORTED, errno.EPERM, errno.EHOSTUNREACH, errno.EINTR]
)
async def test_an_error_of_one_client_is_no_error_of_the_server(error: int) -> None:
    """Who has gone between the handshake and the accept is passed over."""
    with refusing(error, 3) as sock:
        async with TaskGroup() as group:
            server = await start(group, sock)
            assert await ask(server) == b"hello"
            assert server.statistics().pauses == 0
            server.drain()


def test_a_port_that_is_taken_on_the_second_address_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another free port is chosen, and no socket of the first try is left."""
    bound = _listen._bound
    tried: list[int] = []

    def taken_once(family: int, address: Any, reuse_port: bool) -> Any:
        tried.append(address[1])
        if len(tried) == 2:
            raise OSError(errno.EADDRINUSE, "taken")
        return bound(family, address, reuse_port)

    monkeypatch.setattr(_listen, "_bound", taken_once)
    second = (*V4[:4], ("127.0.0.2", 0))
    opened = _listen.open_listeners([V4, second], 0, backlog=5)
    assert [each.getsockname()[1] for each in opened] == [_listen.port_of(opened)] * 2
    assert [each == 0 for each in tried] == [True, False, True, False]
    for each in opened:
        each.close()


def test_addresses_that_the_system_has_not_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system without IPv6 listens on IPv4; with nothing else it is an error."""
    made = socket.socket

    def no_v6(family: int, *rest: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "no such family")
        return made(family, *rest)

    monkeypatch.setattr(socket, "socket", no_v6)
    (only,) = _listen.open_listeners([V6, V4], 0, backlog=5)
    assert only.family == socket.AF_INET
    only.close()
    with pytest.raises(OSError, match="none of the addresses can be used here"):
        _listen.open_listeners([V6], 0, backlog=5)


def test_an_address_of_somebody_else_is_an_error() -> None:
    """It names the address."""
    far = (*V4[:4], ("192.0.2.1", 0))
    with pytest.raises(OSError, match=r"cannot listen on 192\.0\.2\.1 port 0"):
        _listen.open_listeners([far], 0, backlog=5)


def test_what_only_some_systems_tell() -> None:
    """A local socket has no queue that is counted, and takes newcomers until it is closed."""
    with socket.socket(socket.AF_UNIX) as sock:
        assert _listen.count_queued(sock) is None
        assert not _listen.stop_newcomers(sock)
    assert _listen.count_queued(sock) is None


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (("127.0.0.1", 80), "127.0.0.1:80"),
        (("::1", 80, 0, 0), "[::1]:80"),
        ("/run/socket", "/run/socket"),
        ("", "a local socket"),
    ],
)
def test_addresses_are_written_as_people_write_them(address: Any, text: str) -> None:
    """Also those of IPv6 and local sockets."""
    assert _listen.say_address(address) == text
