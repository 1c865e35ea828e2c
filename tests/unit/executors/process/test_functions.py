"""Functions are pickled once, and a number that is used again never means an older one."""

import functools
from typing import Any

from aioconc.executors.process import _functions
from aioconc.executors.process._functions import Functions


def test_a_function_that_is_found_by_its_name_is_pickled_once() -> None:
    """The second time the very same record comes back."""
    functions = Functions()
    first, second = functions.find(len, "len"), functions.find(len, "len")
    assert first is not None
    assert second is not None
    assert first.record is second.record


def test_what_may_change_between_calls_is_not_kept() -> None:
    """Lambdas, partials and bound methods are pickled with every call."""
    functions = Functions()
    unstable: list[Any] = [lambda: 1, functools.partial(len, "a"), "a".upper]
    assert [functions.find(each, "x") for each in unstable] == [None] * 3


def test_numbers_are_bounded_and_used_again(monkeypatch: Any) -> None:
    """A program that uses more functions than are kept does not make its workers grow."""
    monkeypatch.setattr(_functions, "_MOST", 3)
    functions = Functions()
    found = [functions.find(each, "x") for each in (len, abs, sum, max, min, len)]
    numbers = [each.number for each in found if each is not None]
    assert numbers == [1, 2, 3, 1, 2, 3]
    records = {each.record for each in found if each is not None}
    assert len(records) == 5
