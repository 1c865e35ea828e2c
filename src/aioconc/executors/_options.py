"""How one call is to be run: the options of `Executor.options`, and what they may be.

Each value is checked by itself, before anything starts; whether an executor can honour it is for
the executor to say.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from aioconc._internal._check import check_choice, check_count, check_timeout
from aioconc.errors import UnsupportedOption

OnCancel = Literal["kill", "soft", "wait", "abandon"]


@dataclass(frozen=True, slots=True)
class CallOptions:
    """How one call is to be run; see `Executor.options`."""

    timeout: float | None = None
    queue_timeout: float | None = None
    priority: int = 0
    on_cancel: OnCancel = "wait"
    grace: float | None = None
    retries: int = 0
    name: str | None = None
    on_report: Callable[[Any], object] | None = None
    writable: bool = False


class Options(TypedDict, total=False):
    """The keywords of `Executor.options`."""

    timeout: float | None
    queue_timeout: float | None
    priority: int
    on_cancel: OnCancel
    grace: float | None
    retries: int
    name: str | None
    on_report: Callable[[Any], object] | None
    writable: bool


OPTION_NAMES = tuple(Options.__annotations__)


def check_options(options: Options) -> Options:
    """The options, once their values are checked."""
    for name, value in options.items():
        match name:
            case "timeout" | "queue_timeout" | "grace":
                check_timeout(name, value)
            case "priority":
                if isinstance(value, bool) or not isinstance(value, int):
                    raise TypeError(f"priority must be an int, got {value!r}")
            case "on_cancel":
                check_choice(name, value, ("kill", "soft", "wait", "abandon"))
            case "retries":
                check_count(name, value, least=0)
            case "name":
                if value is not None and not isinstance(value, str):
                    raise TypeError(f"name must be a str or None, got {value!r}")
            case "on_report":
                if value is not None and not callable(value):
                    raise TypeError(f"on_report must be callable or None, got {value!r}")
            case "writable":
                if not isinstance(value, bool):
                    raise TypeError(f"writable must be True or False, got {value!r}")
            case _:
                raise TypeError(
                    f"there is no option {name!r}; the options are {', '.join(OPTION_NAMES)}"
                )
    return options


def check_stream_options(options: CallOptions) -> None:
    """Refuse what makes sense for a call that gives one value only."""
    for name in ("timeout", "queue_timeout"):
        if (value := getattr(options, name)) is not None:
            raise UnsupportedOption(
                f"stream() takes no {name}, got {value!r}; "
                "put the block into aioconc.fail_after(seconds)"
            )
    if options.retries:
        raise UnsupportedOption(
            f"stream() takes no retries, got {options.retries!r}: items that were read would come "
            "again; start a new stream where the last one ended"
        )
