"""Clients of a broker without sockets: what each was answered, for tests to look at."""

from typing import Any

from aioconc.channels._manager._broker import CANCEL, LEAVE, Broker, Death, Thing


class FakeClient:
    """A process that asks, and keeps what it is answered."""

    def __init__(self, broker: Broker, pid: int = 1) -> None:
        self.broker = broker
        self.pid = pid
        self.answers: dict[int, tuple[BaseException | None, Any]] = {}
        self._asked: dict[int, tuple[int, int]] = {}
        self._number = 0
        self.connection = broker.connect(self._answer, f"process {pid}", pid)

    def _answer(self, number: int, error: BaseException | None, value: Any) -> None:
        assert number not in self.answers, "a request is answered once"
        self.answers[number] = error, value

    def ask(self, thing: int, what: str, *args: Any, party: int = 0) -> int:
        """Send a request; its number."""
        self._number += 1
        self._asked[self._number] = party, thing
        self.broker.handle(self.connection, (self._number, party, thing, what, *args))
        return self._number

    def tell(self, thing: int, what: str, *args: Any, party: int = 0) -> None:
        """Send what needs no answer."""
        self.broker.handle(self.connection, (0, party, thing, what, *args))

    def cancel(self, number: int) -> None:
        """The request is not wanted any more, or its answer is not acted on."""
        party, thing = self._asked[number]
        self.broker.handle(self.connection, (number, party, thing, CANCEL))

    def end_call(self, party: int) -> None:
        """A call has ended."""
        self.broker.handle(self.connection, (0, party, 0, LEAVE, f"a call in {self.pid}"))

    def die(self, exitcode: int = -9) -> None:
        """The process has ended."""
        death = Death(f"process {self.pid}", self.pid, exitcode)
        self.broker.disconnect(self.connection, death)

    def has(self, number: int) -> bool:
        """Whether the request was granted."""
        return number in self.answers and self.answers[number][0] is None

    def error(self, number: int) -> BaseException:
        """What the request was refused with."""
        error = self.answers[number][0]
        assert error is not None
        return error

    def value(self, number: int) -> Any:
        """What the request was given."""
        error, value = self.answers[number]
        assert error is None, error
        return value


def broker_with(thing: Thing, clients: int = 3) -> tuple[int, list[FakeClient]]:
    """A broker that keeps the thing; its number, and clients."""
    broker = Broker()
    number = broker.add(thing)
    return number, [FakeClient(broker, pid) for pid in range(1, clients + 1)]
