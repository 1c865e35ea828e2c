"""What an end takes in does not depend on where the stream was cut."""

import os
import pickle
import socket
from array import array
from itertools import pairwise
from typing import Any

import pytest

from aioconc._wire._channel import Machine
from aioconc.channels._channel import Channel
from aioconc.channels._end import End

LARGE = bytes(range(256)) * 300

# What went in one write, and the descriptors that came with its first byte.
Writes = list[tuple[bytes, list[int]]]


def end_of(sock: socket.socket) -> Channel[Any]:
    """A channel on this socket, whose other end is somebody else."""
    return Channel(End(sock, Machine(64, os.getpid()), 1 << 20))


def read_all(sock: socket.socket) -> Writes:
    """What has been sent."""
    writes: Writes = []
    while True:
        try:
            data, control, _, _ = sock.recvmsg(1 << 20, socket.CMSG_SPACE(64), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return writes
        descriptors = array("i")
        for _, _, each in control:
            descriptors.frombytes(each)
        writes.append((data, list(descriptors)))


def play(writes: Writes, cuts: range) -> list[Any]:
    """Have them read in pieces; what is received."""
    raw, sock = socket.socketpair()
    channel = end_of(sock)
    at = 0
    with raw:
        for data, descriptors in writes:
            inside = [cut - at for cut in cuts if at < cut < at + len(data)]
            for start, end in pairwise([0, *inside, len(data)]):
                control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))]
                raw.sendmsg([data[start:end]], control if descriptors and not start else [])
                with channel._end._mutex:
                    channel._end._read()
            at += len(data)
        received = [
            channel.sync.receive(timeout=60) for _ in range(channel.statistics().items_ready)
        ]
        items = [bytes(each) if isinstance(each, memoryview) else each for each in received]
        channel._end.abandon()
    return items


@pytest.mark.skipif(not hasattr(socket, "SCM_RIGHTS"), reason="descriptors cannot be sent")
def test_frames_may_be_cut_anywhere() -> None:
    """Small ones, several in one, and such with descriptors: cut once at each byte, and at all."""
    raw, sock = socket.socketpair()
    channel = end_of(sock)
    sender = channel.sync
    with raw:
        sender.send_many([1, "two"])
        sender.send(pickle.PickleBuffer(LARGE))
        sender.send(4)
        writes = read_all(raw)
        sender.send_bytes(b"five")
        sender.send_bytes(LARGE)
        writes += read_all(raw)
        channel._end.end()
        writes += read_all(raw)
        expected = [1, "two", LARGE, 4, b"five", LARGE]
        length = sum(len(data) for data, _ in writes)
        assert play(writes, range(1, length)) == expected
        for cut in range(length):
            assert play(writes, range(cut, cut + 1)) == expected
        for _, descriptors in writes:
            for each in descriptors:
                os.close(each)
        channel._end.abandon()
