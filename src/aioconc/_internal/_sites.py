"""Where in the user's program something happened: the line a report shows.

Of a stack that is the innermost frame outside the standard library and aioconc; if it belongs to
an installed package, the innermost frame of the user's own code is shown beside it. Frames are
read and not kept.
"""

import functools
import os
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final, Literal

_Kind = Literal["own", "package", "internal"]

_AIOCONC: Final = str(Path(__file__).parents[1]) + os.sep
_STANDARD: Final = tuple({sysconfig.get_path(each) + os.sep for each in ("stdlib", "platstdlib")})
_PACKAGES: Final = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


@dataclass(frozen=True)
class Place:
    """One line of one function."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{_short(self.file)}:{self.line} in {self.function}"


@dataclass(frozen=True)
class Site:
    """The place to look at, and, if that is in an installed package, who of the user called it."""

    place: Place
    caller: Place | None = None

    def __str__(self) -> str:
        return str(self.place) if self.caller is None else f"{self.place}, from {self.caller}"


def site_of(frame: FrameType | None) -> Site | None:
    """The site that a stack, given by its innermost frame, leads to; None for no frame.

    A stack without any frame of the user's gives its innermost frame.
    """
    innermost = frame
    found: FrameType | None = None
    while frame is not None:
        kind = _kind(frame.f_code.co_filename)
        if kind == "own":
            caller = None if found is None else place_of(frame)
            return Site(place_of(found or frame), caller)
        if kind == "package" and found is None:
            found = frame
        if kind == "internal" and _runs_a_loop(frame):
            break
        frame = frame.f_back
    if found is not None:
        return Site(place_of(found))
    return None if innermost is None else Site(place_of(innermost))


def current_site() -> Site | None:
    """The site of the code that called into aioconc or the standard library just now."""
    return site_of(sys._getframe(1))


def users_frame(frame: FrameType | None) -> FrameType | None:
    """The innermost frame outside the standard library and aioconc, or None."""
    while frame is not None and _kind(frame.f_code.co_filename) == "internal":
        frame = frame.f_back
    return frame


def place_of(frame: FrameType) -> Place:
    """The line at which a frame is."""
    code = frame.f_code
    return Place(code.co_filename, frame.f_lineno or code.co_firstlineno, code.co_qualname)


def _runs_a_loop(frame: FrameType) -> bool:
    # Who runs the loop did not cause what happens in a callback: the search ends there.
    name = frame.f_code.co_qualname
    return name == "Runner.run" or name.endswith((".run_forever", ".run_until_complete"))


@functools.cache
def _kind(file: str) -> _Kind:
    if file.startswith(("<frozen ", _AIOCONC)):
        return "internal"
    if any(each in file for each in _PACKAGES):
        return "package"
    return "internal" if file.startswith(_STANDARD) else "own"


def _short(file: str) -> str:
    """The file as seen from the working directory, if it is below it."""
    below = str(Path.cwd()) + os.sep
    return file.removeprefix(below)
