"""What worker processes run in the tests of maps: loads nothing that would slow their start."""

import os
import signal
import time
from pathlib import Path
from typing import Any


def same(x: Any) -> Any:
    return x


def invert(x: int) -> float:
    return 1 / x


def die_at_zero(x: int) -> int:
    if x == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def sleep_at_zero(x: int) -> int:
    if x == 0:
        time.sleep(60)
    return x


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def note(call: tuple[str, int]) -> int:
    """Append the number to a file, in one piece."""
    path, number = call
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, f"{number}\n".encode())
    os.close(handle)
    return number


def noted(path: Path) -> list[int]:
    return [int(each) for each in path.read_text().split()] if path.exists() else []


def note_and_hang(call: tuple[str, int]) -> int:
    note(call)
    if call[1] < 0:
        time.sleep(60)
    return call[1]


def note_and_wait(call: tuple[str, int]) -> int:
    """Until a file of that name with `.go` is there."""
    note(call)
    while not Path(f"{call[0]}.go").exists():
        time.sleep(0.002)
    return call[1]


def die_once(path: str) -> str:
    """Dies, unless somebody has died for it."""
    if path and not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return path


def _refuse() -> None:
    raise ValueError("not to be loaded")


def _die() -> None:
    if os.environ.get("AIOCONC_DEPTH"):
        os.kill(os.getpid(), signal.SIGKILL)


class Unloadable:
    def __reduce__(self) -> tuple[Any, ...]:
        return _refuse, ()


class Deadly:
    """Kills the worker that unpickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _die, ()


class Unsendable:
    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("not to be sent")


def behave(kind: str) -> Any:
    match kind:
        case "error":
            raise ValueError(kind)
        case "exit":
            raise SystemExit(3)
        case "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        case "lock":
            return Unsendable()
        case "large":
            return bytes(100_000)
        case "array":
            return [kind] * 100
        case _:
            pass
    return kind


def repeat(call: tuple[str, int]) -> list[str]:
    """A list whose pickle has a few bytes for each of so many."""
    text, count = call
    if count < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return [f"{text}{each}" for each in range(count)]
