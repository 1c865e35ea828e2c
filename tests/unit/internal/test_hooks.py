"""The hooks: every listener hears every event, and none can disturb the work."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from aioconc._internal import _hooks


@pytest.fixture(autouse=True)
def no_listeners() -> Iterator[None]:
    """Each test starts and ends without listeners."""
    assert _hooks.listeners == ()
    yield
    assert _hooks.listeners == ()


def test_listeners_hear_in_order_of_subscription() -> None:
    """Each listener gets the name and the fields, first come first served."""
    heard: list[tuple[int, str, dict[str, Any]]] = []
    ends = [
        _hooks.subscribe(lambda event, fields, number=number: heard.append((number, event, fields)))
        for number in range(2)
    ]
    _hooks.emit("map.failed", index=3)
    for end in ends:
        end()
    _hooks.emit("map.failed", index=4)
    assert heard == [(0, "map.failed", {"index": 3}), (1, "map.failed", {"index": 3})]


def test_same_function_subscribed_twice_hears_once_after_one_end() -> None:
    """Ending a subscription twice is harmless."""
    end = _hooks.subscribe(lambda event, fields: None)
    end()
    end()
    assert _hooks.listeners == ()


def test_listener_that_raises_is_logged_and_the_others_hear(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A broken listener does not reach the code that emits."""
    heard: list[str] = []

    def broken(event: str, fields: dict[str, Any]) -> None:
        raise ZeroDivisionError

    ends = [_hooks.subscribe(broken), _hooks.subscribe(lambda event, fields: heard.append(event))]
    with caplog.at_level(logging.ERROR, logger="aioconc"):
        _hooks.emit("task.done")
    for end in ends:
        end()
    assert heard == ["task.done"]
    assert "broken" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_listener_may_unsubscribe_while_it_is_called() -> None:
    """Those listening when the event began all hear it."""
    heard: list[str] = []

    def once(event: str, fields: dict[str, Any]) -> None:
        heard.append("once")
        end_once()

    end_once = _hooks.subscribe(once)
    end_other = _hooks.subscribe(lambda event, fields: heard.append("other"))
    _hooks.emit("x.y")
    _hooks.emit("x.y")
    end_other()
    assert heard == ["once", "other", "other"]
