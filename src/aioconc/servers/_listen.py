"""Listening sockets: opened, taken over from somebody else, and closed to newcomers.

The kernel completes connections and queues them until somebody accepts. Whoever ends a listening
socket resets what is still in that queue, so a server first stops newcomers, then takes what has
queued, and closes then; a socket that belongs to somebody else is left as it is.
"""

import contextlib
import ctypes
import errno
import inspect
import socket
import struct
import sys
from collections.abc import Iterable, Sequence
from typing import Any

# What getaddrinfo gives.
AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]

# linux/asm-generic/socket.h, linux/filter.h and linux/tcp.h; Python's `socket` does not name them.
_SO_ATTACH_FILTER = 26
_DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)  # BPF_RET | BPF_K: keep 0 bytes of each packet
_UNACCEPTED = 24  # offset of tcpi_unacked, which for a listening socket counts those not accepted

# How often a free port is looked for that is free on all addresses.
_TRIES = 20


def open_listeners(
    infos: Iterable[AddressInfo], port: int, *, backlog: int, reuse_port: bool = False
) -> list[socket.socket]:
    """Listen on each of the addresses, with one port for all.

    Args:
        infos: what getaddrinfo gave for them.
        port: 0: one that is free on all of them.
        backlog: connections that may wait to be accepted.
        reuse_port: share the port with other sockets that say the same.

    Raises:
        OSError: an address cannot be used; none of the sockets is then left.
    """
    addresses = [*dict.fromkeys((family, address) for family, *_, address in infos)]
    for attempt in range(_TRIES):
        opened: list[socket.socket] = []
        try:
            chosen = port
            for family, address in addresses:
                sock = _bound(family, (address[0], chosen, *address[2:]), reuse_port)
                if sock is None:
                    continue
                opened.append(sock)
                sock.listen(backlog)
                chosen = sock.getsockname()[1]
        except BaseException as error:
            for each in opened:
                each.close()
            taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            if port == 0 and taken and opened and attempt < _TRIES - 1:
                continue  # what was free on the first address is not on another
            raise
        if not opened:
            raise OSError(errno.EADDRNOTAVAIL, "none of the addresses can be used here")
        return opened
    raise AssertionError("not reached")  # pragma: no cover


def _bound(family: int, address: tuple[Any, ...], reuse_port: bool) -> socket.socket | None:
    """A socket with that address; None if this system has not such addresses."""
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        if error.errno in (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT):
            return None
        raise
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # Else it would take the IPv4 addresses as well, and the other socket get none.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except OSError as error:
        sock.close()
        if family == socket.AF_INET6 and error.errno == errno.EADDRNOTAVAIL:
            return None  # the kernel knows IPv6, but it is switched off
        raise OSError(
            error.errno, f"cannot listen on {address[0]} port {address[1]}: {error}"
        ) from error
    return sock


def check_where(
    call: str, *, port: Any, host: Any, sockets: Any, reuse_port: bool
) -> list[socket.socket] | None:
    """The sockets of the caller; None: the port and the hosts are good to listen on."""
    if sockets is None:
        check_port(call, port)
        hosts_of(host)
        return None
    if port is not None or host is not None or reuse_port:
        raise ValueError(f"{call} got sockets= and port, host or reuse_port; give one of them")
    return check_sockets(call, sockets)


def check_sockets(call: str, sockets: Any) -> list[socket.socket]:
    """Those of the caller: stream sockets with an address."""
    if isinstance(sockets, socket.socket):
        raise TypeError(f"{call} expected a sequence of sockets, got one; pass sockets=[sock]")
    if not isinstance(sockets, Iterable):
        raise TypeError(f"{call} expected a sequence of sockets, got {sockets!r}")
    found: list[socket.socket] = [*sockets]
    if not found:
        raise ValueError(f"{call} needs a socket at least; sockets= is empty")
    for each in found:
        if not isinstance(each, socket.socket):
            raise TypeError(f"{call} expected sockets, got {each!r}")
        if each.fileno() < 0:
            raise ValueError(f"{call} got a closed socket")
        if each.type != socket.SOCK_STREAM:
            raise ValueError(f"{call} serves stream sockets, got {each!r}")
        name = each.getsockname()
        if not (name if each.family == getattr(socket, "AF_UNIX", None) else name[1]):
            raise ValueError(f"{call} got a socket without an address: bind {each!r} first")
    return found


def check_callback(name: str, function: Any, of: str) -> None:
    """A plain function that somebody is told with."""
    if not callable(function):
        raise TypeError(f"{name} must be a function of {of}, got {function!r}")
    if inspect.iscoroutinefunction(function):
        raise TypeError(
            f"{name} must be a plain function of {of}, got the async function "
            f"{function.__qualname__}, which nobody would await"
        )


def check_port(call: str, port: Any) -> int:
    """A TCP port, or 0 for any."""
    if isinstance(port, bool) or not isinstance(port, int):
        remedy = "pass 0 for any free port, or sockets="
        raise TypeError(f"{call} needs a port, an int of 0 to 65535, got {port!r}; {remedy}")
    if not 0 <= port <= 65_535:
        raise ValueError(f"port must be an int of 0 to 65535, got {port!r}")
    return port


def hosts_of(host: Any) -> list[str | None]:
    """The hosts to listen on; None stands for all addresses."""
    if host is None or isinstance(host, str):
        return [host or None]
    hosts: list[str | None] = [*host] if isinstance(host, Iterable) else []
    if not hosts or not all(isinstance(each, str) for each in hosts):
        raise TypeError(f"host must be a name, names or None, got {host!r}")
    return hosts


def make_listen(sockets: Sequence[socket.socket], backlog: int) -> None:
    """Make those listen that do not yet."""
    for each in sockets:
        listening = False
        if hasattr(socket, "SO_ACCEPTCONN"):
            with contextlib.suppress(OSError):  # not told here
                listening = bool(each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        if not listening:
            each.listen(backlog)


def stop_newcomers(sock: socket.socket) -> bool:
    """Take no new connections, and keep those that wait to be accepted.

    Who comes now is not answered: he tries again a second later, and is refused if the socket is
    closed by then, or served by what has taken its place.

    Returns:
        Whether it could be done; only Linux can.
    """
    if not sys.platform.startswith("linux") or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    program = ctypes.create_string_buffer(_DROP_ALL, len(_DROP_ALL))
    option = struct.pack(
        "HxxxxxxP" if struct.calcsize("P") == 8 else "HxxP", 1, ctypes.addressof(program)
    )
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, option)
    except OSError:
        return False  # a sandbox
    return True


def count_queued(sock: socket.socket) -> int | None:
    """Connections that wait to be accepted; None where the system does not tell."""
    if not sys.platform.startswith("linux") or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    except OSError:
        return None
    count: int = struct.unpack_from("I", info, _UNACCEPTED)[0]
    return count


def port_of(sockets: Sequence[socket.socket]) -> int:
    """The port that they listen on; 0 where they have none."""
    for each in sockets:
        name = each.getsockname()
        if isinstance(name, tuple):
            port: int = name[1]
            return port
    return 0


def reset_at_close(sock: Any) -> None:
    """Have the connection reset when it is closed, rather than ended in order."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def end_waits(sock: Any, how: int) -> None:
    """Let whoever waits for this connection, in whatever process, see its end."""
    with contextlib.suppress(OSError):
        sock.shutdown(how)


def say_address(address: Any) -> str:
    """An address, as people write it."""
    if isinstance(address, tuple) and len(address) >= 2:
        host, port = address[0], address[1]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    return str(address) if address else "a local socket"
