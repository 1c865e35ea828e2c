"""The argument checks: what passes, and that a refusal gives value, rule and remedy."""

import math
from decimal import Decimal

import pytest

from aioconc._internal._check import (
    check_choice,
    check_count,
    check_limit,
    check_seconds,
    check_timeout,
)


@pytest.mark.parametrize("value", [1, 7, 10**12])
def test_limit_takes_counts(value: int) -> None:
    """An int of at least 1 is a limit."""
    assert check_limit("limit", value) == value


def test_limit_takes_infinity() -> None:
    """`math.inf` says aloud that there is no limit."""
    assert check_limit("limit", math.inf) == math.inf


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (0, ValueError),
        (-1, ValueError),
        (True, TypeError),
        (2.0, TypeError),
        (math.nan, TypeError),
        (-math.inf, TypeError),
        (None, TypeError),
        ("3", TypeError),
        (Decimal("Infinity"), TypeError),
    ],
)
def test_limit_refuses_with_value_rule_and_remedy(value: object, kind: type[Exception]) -> None:
    """A wrong kind is a TypeError, a wrong range a ValueError; both say what to pass."""
    with pytest.raises(kind) as caught:
        check_limit("limit", value)
    text = str(caught.value)
    assert text == f"limit must be an int >= 1, got {value!r}; pass math.inf for no limit"


def test_count_has_its_own_least() -> None:
    """Zero is a count where the caller says so."""
    assert check_count("retries", 0, least=0) == 0
    with pytest.raises(ValueError, match=r"^retries must be an int >= 0, got -1$"):
        check_count("retries", -1, least=0)


@pytest.mark.parametrize("value", [0, 0.5, 3, 1e9])
def test_seconds_become_floats(value: float) -> None:
    """Ints and floats of at least 0 are seconds."""
    assert check_seconds("delay", value) == value
    assert isinstance(check_seconds("delay", value), float)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (-0.1, ValueError),
        (math.inf, ValueError),
        (math.nan, ValueError),
        (True, TypeError),
        ("1", TypeError),
        (None, TypeError),
    ],
)
def test_seconds_refuse(value: object, kind: type[Exception]) -> None:
    """Negative, endless and undefined times are refused, and so is what is no number."""
    with pytest.raises(kind, match=r"^delay must be a number of seconds >= 0, got "):
        check_seconds("delay", value)


def test_seconds_can_exclude_zero() -> None:
    """A period of zero seconds is refused by name."""
    with pytest.raises(ValueError, match=r"^per must be a number of seconds > 0, got 0$"):
        check_seconds("per", 0, zero=False)


def test_timeout_takes_none() -> None:
    """None means no limit, and the refusal of anything else says so."""
    assert check_timeout("timeout", None) is None
    assert check_timeout("timeout", 2) == 2.0
    with pytest.raises(ValueError, match="pass None for no limit"):
        check_timeout("timeout", math.inf)


def test_choice_lists_the_words() -> None:
    """A wrong word is answered with the right ones."""
    assert check_choice("on_error", "skip", ("raise", "skip")) == "skip"
    with pytest.raises(ValueError, match=r"^on_error must be one of 'raise', 'skip', got 'stop'$"):
        check_choice("on_error", "stop", ("raise", "skip"))
