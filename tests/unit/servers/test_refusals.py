"""Bad input is refused before anything starts: the value, the rule, the remedy."""

import asyncio
import socket
import ssl
import threading
from typing import Any

import pytest

from aioconc.errors import SerializationError
from aioconc.servers import Connection, ready, serve_prefork, serve_tcp

pytestmark = pytest.mark.loops("asyncio")


async def handler(connection: Connection) -> None:
    raise NotImplementedError


def blocking(sock: socket.socket) -> None:
    raise NotImplementedError


async def app(sockets: Any) -> None:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({}, TypeError, "serve_tcp needs a port, an int of 0 to 65535, got None; pass 0"),
        ({"port": "80"}, TypeError, "got '80'"),
        ({"port": True}, TypeError, "got True"),
        ({"port": 65_536}, ValueError, "port must be an int of 0 to 65535, got 65536"),
        ({"limit": 0}, ValueError, "limit must be an int >= 1, got 0; pass math.inf for no limit"),
        ({"per_connection": "fiber"}, ValueError, "per_connection must be one of 'task', 'thread'"),
        ({"backlog": 0}, ValueError, "backlog must be an int >= 1, got 0"),
        ({"drain": -1}, ValueError, "drain must be a number of seconds >= 0, got -1"),
        ({"drain": None}, TypeError, "pass 0 to cut connections off at once"),
        ({"timeout": 0}, ValueError, "timeout must be a number of seconds > 0, got 0"),
        ({"idle_timeout": "1"}, TypeError, "idle_timeout must be a number of seconds > 0"),
        ({"handshake_timeout": None}, TypeError, "handshake_timeout must be a number of seconds"),
        ({"ssl": True}, TypeError, "ssl must be an ssl.SSLContext, got True; make one with"),
        ({"on_error": "raise"}, TypeError, "on_error must be a function of (error, address)"),
        ({"on_error": app}, TypeError, "got the async function app, which nobody would await"),
        ({"ssl": ssl.create_default_context()}, ValueError, "ssl is for clients, so that every"),
        ({"sockets": 3}, TypeError, "expected a sequence of sockets, got 3"),
        ({"host": 1}, TypeError, "host must be a name, names or None, got 1"),
        ({"host": []}, TypeError, "host must be a name, names or None"),
        ({"port": 0, "sockets": [3]}, ValueError, "sockets= and port, host or reuse_port"),
        ({"sockets": []}, ValueError, "needs a socket at least"),
        ({"sockets": [3]}, TypeError, "expected sockets, got 3"),
    ],
)
async def test_options_of_serve_tcp(
    options: dict[str, Any], error: type[Exception], text: str
) -> None:
    """Each is refused at the call."""
    if not {"port", "sockets"} & options.keys() and options:
        options = {"port": 0} | options
    with pytest.raises(error) as caught:
        await serve_tcp(handler, **options)
    assert text in str(caught.value)


async def test_handlers_of_serve_tcp() -> None:
    """What is no handler, or one of the other kind, gets the line that was probably meant."""
    wrong: Any = handler(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"did you mean serve_tcp\(handler, ...\) without calling"):
        await serve_tcp(wrong, 0)
    with pytest.raises(TypeError, match="expected a function of a connection, got 3"):
        await serve_tcp(3, 0)  # type: ignore[call-overload]

    async def generator(connection: Connection) -> Any:
        yield

    with pytest.raises(TypeError, match="got the generator function"):
        await serve_tcp(generator, 0)
    with pytest.raises(TypeError, match="per_connection='thread'"):
        await serve_tcp(handler, 0, per_connection="thread")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="limit must be an int >= 1, got inf; each connection"):
        await serve_tcp(blocking, 0, per_connection="process", limit=float("inf"))


async def test_tls_in_worker_processes_is_refused() -> None:
    """The error says what to do instead."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with pytest.raises(ValueError, match="wrap the socket in the handler, or use a thread"):
        await serve_tcp(blocking, 0, per_connection="process", ssl=context)


async def test_sockets_that_cannot_be_served() -> None:
    """Datagram sockets, closed ones and those without an address."""
    with (
        socket.socket(type=socket.SOCK_DGRAM) as sock,
        pytest.raises(ValueError, match="serves stream sockets"),
    ):
        await serve_tcp(handler, sockets=[sock])
    with pytest.raises(ValueError, match="got a closed socket"):
        await serve_tcp(handler, sockets=[sock])
    with socket.socket() as sock:
        with pytest.raises(ValueError, match="without an address: bind"):
            await serve_tcp(handler, sockets=[sock])
        with pytest.raises(TypeError, match=r"pass sockets=\[sock\]"):
            await serve_tcp(handler, sockets=sock)  # type: ignore[call-overload]
    if hasattr(socket, "AF_UNIX"):
        with (
            socket.socket(socket.AF_UNIX) as sock,
            pytest.raises(ValueError, match="without an address: bind"),
        ):
            await serve_tcp(handler, sockets=[sock])


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({}, TypeError, "serve_prefork needs a port"),
        ({"workers": 0}, ValueError, "workers must be an int >= 1, got 0"),
        ({"drain": -1}, ValueError, "drain must be a number of seconds >= 0"),
        ({"max_restarts": -1}, ValueError, "max_restarts must be an int >= 0, got -1"),
        ({"restart_window": 0}, ValueError, "restart_window must be a number of seconds > 0"),
        ({"start_timeout": 0}, ValueError, "start_timeout must be a number of seconds > 0"),
        ({"loop": "trio"}, ValueError, "loop must be one of 'auto', 'asyncio', 'uvloop'"),
        (
            {"on_ready": app},
            TypeError,
            "on_ready must be a plain function of the port, got the async",
        ),
        ({"on_ready": True}, TypeError, "on_ready must be a function of the port, got True"),
        ({"sockets": [], "port": 0}, ValueError, "sockets= and port, host or reuse_port"),
    ],
)
def test_options_of_serve_prefork(
    options: dict[str, Any], error: type[Exception], text: str
) -> None:
    """Each is refused before a process is started."""
    if options and "port" not in options:
        options = {"port": 0} | options
    with pytest.raises(error) as caught:
        serve_prefork(app, **options)
    assert text in str(caught.value)


def test_factories_of_serve_prefork() -> None:
    """A coroutine, a result, and what cannot be pickled."""
    wrong: Any = app(None)
    with pytest.raises(TypeError, match=r"did you mean serve_prefork\(app, ...\) without calling"):
        serve_prefork(wrong, 0)
    with pytest.raises(TypeError, match="expected an async function of the sockets, got 3"):
        serve_prefork(3, 0)  # type: ignore[arg-type]
    lock = threading.Lock()

    async def holds_a_lock(sockets: Any) -> None:
        lock.acquire()

    with pytest.raises(SerializationError, match="the factory of serve_prefork cannot be pickled"):
        serve_prefork(holds_a_lock, 0)


def test_serve_prefork_is_for_plain_code_in_the_main_thread() -> None:
    """In a loop it would block, and elsewhere it would hear no signals."""

    async def inside() -> None:
        serve_prefork(app, 0)

    with pytest.raises(RuntimeError, match="call it from plain code"):
        asyncio.run(inside())
    problems: list[str] = []

    def elsewhere() -> None:
        try:
            serve_prefork(app, 0)
        except RuntimeError as error:
            problems.append(str(error))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert "it must run in the main thread" in problems[0]


def test_ready_does_nothing_elsewhere() -> None:
    """The same code runs alone."""
    ready()
