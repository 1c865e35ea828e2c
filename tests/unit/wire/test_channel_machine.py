"""The state machine of a channel: items conserved, order kept, credits bounded, however bytes come."""

from collections import deque
from typing import Any

from hypothesis import given, settings, strategies as st

from aioconc._wire import _channel as wire
from aioconc._wire._channel import Machine
from aioconc._wire._frames import RELEASE, Decoder, encode


class Side:
    """One end, its decoder, and the bytes on their way to it."""

    def __init__(self, capacity: int) -> None:
        self.machine = Machine(capacity, 1)
        self.decoder = Decoder()
        self.incoming = bytearray()
        self.sent: deque[bytes] = deque()
        self.other: Side

    def write(self, pieces: Any) -> None:
        self.other.incoming += b"".join(pieces)

    def send(self, items: list[bytes]) -> None:
        items = items[: self.machine.credits]
        if self.machine.ended or not items:
            return
        self.sent.extend(items)
        if len(items) == 1:
            self.write(self.machine.item(wire.BYTES, items))
        else:
            self.write(self.machine.many(items))

    def read(self, size: int) -> None:
        data = bytes(self.incoming[:size])
        del self.incoming[:size]
        if not self.decoder._data:
            data = data[self.machine.feed_bytes(data) :]
        if data:
            self.machine.feed(self.decoder.feed(data))

    def take(self) -> None:
        _, data = self.machine.take()
        assert bytes(data) == self.other.sent.popleft()
        if (frame := self.machine.credit()) is not None:
            self.write(frame)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["send", "read", "take", "back", "end", "move"]),
        st.booleans(),
        st.integers(1, 60),
    ),
    max_size=80,
)


@given(capacity=st.integers(1, 9), steps=STEPS)
@settings(max_examples=150)
def test_items_are_conserved_in_order_and_credits_bounded(
    capacity: int, steps: list[tuple[str, bool, int]]
) -> None:
    """In any order of sends, reads of any size, takes, moves and ends."""
    sides = Side(capacity), Side(capacity)
    sides[0].other, sides[1].other = sides[1], sides[0]
    number = 0
    for step, which, size in steps:
        side = sides[which]
        machine = side.machine
        if step == "send":
            number += 1
            side.send([b"%d-%d" % (number, each) for each in range(size % 7 + 1)])
        elif step == "read":
            side.read(size)
        elif step == "take" and machine.ready:
            side.take()
        elif step == "back" and machine.ready:
            item = machine.take()
            machine.put_back(item)
        elif step == "end" and not machine.ended:
            side.write(machine.end())
        elif step == "move" and not side.decoder._data:
            side.machine = Machine.restore(machine.save())
        for each in sides:
            on_their_way = len(each.sent)
            assert 0 <= each.machine.credits <= capacity
            assert on_their_way <= each.machine.undelivered <= capacity
            assert each.machine.credits + each.machine.undelivered == capacity
            assert each.machine.ready <= capacity
    for _ in range(4):
        for side in sides:
            side.read(1 << 20)
            while side.machine.ready:
                side.take()
    for side in sides:
        assert not side.sent
        assert side.machine.peer_ended == side.other.machine.ended
        # What is not told yet is less than half: enough is left to go on, for one that goes on.
        assert side.machine.credits > 0 or side.machine.ended


def test_credits_need_no_frames_of_their_own_while_both_send() -> None:
    """What was taken is told with what is sent."""
    sides = Side(4), Side(4)
    sides[0].other, sides[1].other = sides[1], sides[0]
    for _ in range(3):
        sides[0].send([b"x"])
        sides[1].read(1_000)
        sides[1].machine.take()
        sides[1].send([b"y"])
        sides[0].read(1_000)
        sides[0].machine.take()
    assert sides[0].machine.credits == 4
    assert sides[1].machine.credits == 3
    assert not sides[0].incoming and not sides[1].incoming


def test_an_end_that_only_receives_tells_each_half_of_the_capacity() -> None:
    """Two frames for each capacity, and none once the other end sends no more."""
    sides = Side(8), Side(8)
    sides[0].other, sides[1].other = sides[1], sides[0]
    told = []
    for count in range(1, 17):
        sides[0].send([b"x"])
        sides[1].read(1_000)
        sides[1].take()
        if sides[0].incoming:
            told.append(count)
            sides[0].read(1_000)
    assert told == [4, 8, 12, 16]
    sides[0].send([b"x"] * 8)
    sides[0].write(sides[0].machine.end())
    sides[1].read(1_000)
    while sides[1].machine.ready:
        sides[1].take()
    assert not sides[0].incoming
    assert sides[0].machine.undelivered == 8


def test_hello_says_where_the_other_end_is() -> None:
    """A process id, or that it is on its way."""
    sides = Side(1), Side(1)
    sides[0].other, sides[1].other = sides[1], sides[0]
    for pid in (0, 4_194_304):
        sides[0].write(sides[0].machine.hello(pid))
        sides[1].read(1_000)
        assert sides[1].machine.peer == pid


def test_stop_drops_what_has_arrived() -> None:
    """An end that wants nothing more says so, and keeps nothing."""
    sides = Side(4), Side(4)
    sides[0].other, sides[1].other = sides[1], sides[0]
    sides[0].send([b"x", b"y"])
    sides[1].read(1_000)
    assert sides[1].machine.forget() == 2
    sides[1].write(sides[1].machine.stop())
    sides[0].read(1_000)
    assert sides[0].machine.peer_stopped and sides[0].machine.undelivered == 2
    assert sides[1].machine.ready == 0


def test_bytes_are_taken_in_up_to_what_is_not_whole_or_not_the_channels() -> None:
    """Where the rest begins is told, and credits count once."""
    one, other = Machine(8, 1), Machine(8, 2)
    frames = [one.pickle(b"first"), b"".join(one.many([b"second", b"third"]))]
    whole = b"".join(frames)
    release = b"".join(encode(RELEASE, 0, b"12345678"))
    for rest in (b"", one.pickle(b"begun")[:-1], release, b"\x00" * 3):
        other = Machine(8, 2)
        assert other.feed_bytes(whole + rest) == len(whole)
        assert [bytes(other.take()[1]) for _ in range(other.ready)] == [
            b"first",
            b"second",
            b"third",
        ]
    answer = other.pickle(b"answer")
    assert one.feed_bytes(answer) == len(answer)
    assert one.taken_by_peer == 3
