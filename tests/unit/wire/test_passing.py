"""Descriptors inside of values: they arrive once, or are closed."""

import fcntl
import gc
import multiprocessing
import os
import pickle
import resource
import socket
from pathlib import Path
from typing import Any, Self

import pytest

from aioconc._wire import _frames as wire
from aioconc._wire._arenas import Arenas
from aioconc._wire._body import OUT_OF_BAND, Laden, dump, load, ready, take_apart
from aioconc._wire._descriptors import MOST, ancillary, receive
from aioconc._wire._loans import Loans
from aioconc._wire._passing import Passed, pass_on


def descriptors() -> int:
    """How many descriptors this process has."""
    return sum(1 for _ in Path("/dev/fd").iterdir())


class Handle:
    """Owns a descriptor, and travels with it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    __del__ = close

    def __reduce__(self) -> Any:
        return _take, (pass_on(self.fd, owner=self),)


def _take(passed: Passed) -> Handle:
    return Handle(passed.take())


class Refuses:
    """Cannot be unpickled."""

    def __reduce__(self) -> Any:
        return _refuse, (Handle(os.dup(0)),)


def _refuse(handle: Handle) -> Any:
    raise LookupError("no")


class Link:
    """Two ends of a socket, and what reads the second."""

    def __init__(self) -> None:
        self.ends = socket.socketpair()
        self.decoder = wire.Decoder(Loans())
        self.arenas = Arenas()

    def send(self, value: Any) -> None:
        pieces = dump(ready(value), self.arenas)
        first = pieces[0]
        if isinstance(first, Laden):
            frame = wire.encode(wire.RESULT, 7, *pieces, laden=first)
            self.ends[0].sendmsg(frame, ancillary(first.carried))
        else:
            self.ends[0].sendmsg(wire.encode(wire.RESULT, 7, *pieces))

    def payloads(self, size: int = 1 << 16) -> list[Any]:
        return [frame[2] for frame in self.decoder.feed(*receive(self.ends[1], size))]

    def carry(self, value: Any) -> Any:
        self.send(value)
        (payload,) = self.payloads()
        return load(payload)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self.ends:
            each.close()


def pipe() -> tuple[Handle, Handle]:
    reader, writer = os.pipe()
    return Handle(reader), Handle(writer)


def test_an_object_arrives_with_a_descriptor_of_its_own() -> None:
    """Of the same pipe, closed by an exec, and the sender may close its own before."""
    before = descriptors()
    with Link() as link:
        reader, writer = pipe()
        link.send(["x", writer])
        writer.close()
        (payload,) = link.payloads()
        _, there = load(payload)
        del payload
        assert fcntl.fcntl(there.fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
        os.write(there.fd, b"hello")
        there.close()
        assert os.read(reader.fd, 10) == b"hello"
        assert os.read(reader.fd, 10) == b""
    reader.close()
    assert descriptors() == before


def test_several_descriptors_come_beside_an_arena() -> None:
    """Each in its place."""
    with Link() as link:
        ends = [pipe() for _ in range(3)]
        large = bytes(OUT_OF_BAND)
        got, data, again = link.carry(([writer for _, writer in ends], large, ends[0][1]))
        assert data == large
        assert again is got[0]
        for number, (reader, _) in enumerate(ends):
            os.write(got[number].fd, b"%d" % number)
            assert os.read(reader.fd, 10) == b"%d" % number


@pytest.mark.parametrize("size", [1, 20, 1 << 16])
def test_frames_keep_their_descriptors_apart(size: int) -> None:
    """However their bytes are read."""
    with Link() as link:
        ends = [pipe() for _ in range(4)]
        link.send(ends[0][1])
        link.send("nothing")
        link.send([ends[1][1], ends[2][1]])
        link.send(ends[3][1])
        payloads: list[Any] = []
        while len(payloads) < 4:
            payloads += link.payloads(size)
        first, nothing, both, last = map(load, payloads)
        assert nothing == "nothing"
        for number, handle in enumerate([first, *both, last]):
            os.write(handle.fd, b"%d" % number)
            assert os.read(ends[number][0].fd, 10) == b"%d" % number


def test_what_is_not_taken_is_closed() -> None:
    """Whether the frame is dropped, or a `Passed` is, or unpickling fails halfway."""
    with Link() as link:
        reader, _ = pipe()
        before = descriptors()
        link.send(reader)
        payloads = link.payloads()
        assert descriptors() == before + 1
        del payloads
        assert descriptors() == before
        assert isinstance(link.carry(pass_it(reader.fd)), Passed)
        assert descriptors() == before
        link.send([Refuses(), reader])
        (payload,) = link.payloads()
        with pytest.raises(LookupError) as caught:
            load(payload)
        assert descriptors() == before + 1  # that of the handle in the traceback
        del payload, caught
        gc.collect()
        assert descriptors() == before


class pass_it:  # noqa: N801  # stands for a call
    """Arrives as a bare `Passed`."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __reduce__(self) -> Any:
        return _same, (pass_on(self.fd),)


def _same(value: Any) -> Any:
    return value


def test_a_descriptor_is_taken_once() -> None:
    """And says so; one that was not taken may travel on."""
    with Link() as link:
        reader, writer = pipe()
        passed = link.carry(link.carry(pass_it(writer.fd)))
        writer.close()
        os.close(passed.take())
        assert os.read(reader.fd, 1) == b""
        with pytest.raises(RuntimeError, match="taken already"):
            passed.take()
        with pytest.raises(TypeError, match="taken already"):
            link.carry(passed)


def test_elsewhere_it_is_refused() -> None:
    """With the object, and where it can go; nothing stays open."""
    reader, _ = pipe()
    before = descriptors()
    with pytest.raises(TypeError, match=r"^Handle, which has a descriptor, cannot be pickled here"):
        pickle.dumps(reader)
    with pytest.raises(TypeError, match=rf"^descriptor {reader.fd} cannot be pickled here"):
        pass_on(reader.fd)
    with pytest.raises(TypeError, match="cannot be pickled here"):
        pass_on(os.dup(reader.fd), close=True)
    with pytest.raises(TypeError, match="did not come"):
        pickle.loads(take_apart(reader).data)
    assert descriptors() == before


def test_what_is_given_up_is_closed_here() -> None:
    """With `close=True` the copy that is sent is the one that was given."""
    with Link() as link:
        reader, writer = pipe()
        got = link.carry(GivesUp(writer))
        assert writer.fd == -1
        got.close()
        assert os.read(reader.fd, 1) == b""


class GivesUp:
    """Arrives as a handle, whose own descriptor it takes."""

    def __init__(self, handle: Handle) -> None:
        self.handle = handle

    def __reduce__(self) -> Any:
        fd, self.handle.fd = self.handle.fd, -1
        return _take, (pass_on(fd, close=True),)


def test_pickling_by_value_takes_it_along_once() -> None:
    """What was gathered before pickle gave up is let go."""
    reader, _ = pipe()
    before = descriptors()
    parts = take_apart([reader, lambda: reader])
    assert len(parts.descriptors) == 1
    assert descriptors() == before + 1
    del parts
    assert descriptors() == before


def test_too_many_for_one_message_are_refused() -> None:
    """As many as fit arrive; one more is an error, and nothing stays open."""
    reader, _ = pipe()
    before = descriptors()
    with Link() as link:
        many = [pass_it(reader.fd) for _ in range(MOST)]
        got = link.carry((many, bytes(OUT_OF_BAND)))
        assert len(got[0]) == MOST
        del got
        with pytest.raises(ValueError, match=f"at most {MOST} descriptors"):
            link.carry([*many, pass_it(reader.fd)])
        del link.arenas
    gc.collect()
    assert descriptors() == before


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="Linux tells of what is missing")
def test_one_that_did_not_arrive_is_told_where_it_is_taken() -> None:
    """The others are there, and the next frame is whole."""
    with Link() as link:
        reader, _ = pipe()
        link.send([pass_it(reader.fd) for _ in range(5)])
        link.send(pass_it(reader.fd))
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = [os.dup(0), os.dup(0)]
        for fd in free:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(free) + 1, limits[1]))
        try:
            payloads = link.payloads(1 << 10)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        while len(payloads) < 2:
            payloads += link.payloads()
        got, after = load(payloads[0]), load(payloads[1])
        for each in got[:2]:
            os.close(each.take())
        for each in got[2:]:
            with pytest.raises(OSError, match="too many open files"):
                each.take()
        os.close(after.take())


def write_and_close(writer: Handle) -> None:
    assert not os.get_inheritable(writer.fd)
    os.write(writer.fd, b"from the child")
    writer.close()


@pytest.mark.slow
@pytest.mark.parametrize("start", ["spawn", "forkserver"])
@pytest.mark.parametrize("give_up", [False, True])
def test_a_process_of_multiprocessing_gets_it_at_its_start(start: str, give_up: bool) -> None:
    """And this process may close its own once it was started."""
    reader, writer = pipe()
    before = descriptors()
    context: Any = multiprocessing.get_context(start)
    process = context.Process(
        target=write_and_close, args=(GivesUp(writer) if give_up else writer,)
    )
    process.start()
    writer.close()
    process.join()
    process.close()
    del process
    gc.collect()
    assert os.read(reader.fd, 20) == b"from the child"
    assert os.read(reader.fd, 20) == b""
    assert descriptors() <= before + 2  # those of the fork server, which stays
