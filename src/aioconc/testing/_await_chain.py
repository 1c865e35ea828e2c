"""Where a suspended task stands: the chain of awaits from its coroutine down to a future.

Reads what the interpreter keeps about suspended coroutines, and changes nothing. What cannot be
read ends the chain early; the caller then knows less, never something wrong. What the awaited
thing means is left to `_waits`.
"""

import asyncio
import contextlib
import gc
import os
import sys
from collections.abc import Iterator
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import AsyncGeneratorType, CoroutineType, FrameType, GeneratorType, MethodType
from typing import Any, NamedTuple

# A recursion of coroutines is never this deep: the interpreter stops at 1000.
_DEEPEST = 2000

_AIOCONC = str(Path(__file__).parents[1]) + os.sep
_LIBRARY = (str(Path(asyncio.__file__).parent) + os.sep, contextlib.__file__, _AIOCONC)

# Where the iterators live that the interpreter itself puts between: of a future, of `asend`, of a
# coroutine's `__await__`. They show what they stand for to the garbage collector alone.
_ITERATORS = ("builtins", "_asyncio")

# Of each source file that was met: whether it is asyncio's, aioconc's or anyio's.
_is_library: dict[str, bool] = {}


class Link(NamedTuple):
    """One suspended coroutine, generator or async generator of the chain, and its frame."""

    awaitable: Any
    frame: FrameType


class Chain(NamedTuple):
    """The awaits of one task, outermost first."""

    links: list[Link]
    # What the innermost link awaits: a future, or None if it is not known.
    end: Any
    # One of the coroutines is being executed just now.
    running: bool


def await_chain(task: "asyncio.Task[Any]") -> Chain:
    """The chain of awaits of `task`."""
    links: list[Link] = []
    awaited: Any = task.get_coro()
    for _ in range(_DEEPEST):
        if awaited is None or asyncio.isfuture(awaited):
            return Chain(links, awaited, running=False)
        try:
            frame, running, inner = _look_into(awaited)
        except Exception:  # a stand-in for a coroutine, with ideas of its own
            return Chain(links, None, running=False)
        if running:
            return Chain(links, None, running=True)
        if frame is not None:
            links.append(Link(awaited, frame))
        awaited = inner
    return Chain(links, None, running=False)


def _look_into(awaitable: Any) -> tuple[FrameType | None, bool, Any]:
    """Frame of `awaitable`, whether it runs now, and what it awaits."""
    if isinstance(awaitable, CoroutineType):
        return awaitable.cr_frame, awaitable.cr_running, awaitable.cr_await
    if isinstance(awaitable, GeneratorType):
        return awaitable.gi_frame, awaitable.gi_running, awaitable.gi_yieldfrom
    if isinstance(awaitable, AsyncGeneratorType):
        # `ag_running` is also True while a suspended `asend` is on its way: see the frame.
        return awaitable.ag_frame, False, awaitable.ag_await
    for prefix, inner in (("cr", "cr_await"), ("gi", "gi_yieldfrom"), ("ag", "ag_await")):
        if hasattr(awaitable, inner):  # compiled coroutines, and proxies
            frame = getattr(awaitable, f"{prefix}_frame", None)
            running = getattr(awaitable, f"{prefix}_running", False) is True and prefix != "ag"
            return (
                frame if isinstance(frame, FrameType) else None,
                running,
                getattr(awaitable, inner),
            )
    if type(awaitable).__module__ in _ITERATORS:
        for referent in gc.get_referents(awaitable):
            if isinstance(referent, (CoroutineType, GeneratorType, AsyncGeneratorType)):
                return None, False, referent
            if asyncio.isfuture(referent):
                return None, False, referent
    return None, False, None


def variables(frame: FrameType, *names: str) -> list[Any]:
    """The values of local variables of a suspended frame; None for those it does not have."""
    known = frame.f_locals
    values = [known.get(name) for name in names]
    if sys.version_info < (3, 13) and frame.f_code.co_flags & CO_OPTIMIZED:
        # There it is a copy that the frame keeps: emptied, so that no object lives longer because
        # somebody has looked.
        known.clear()
    return values


def first_argument(frame: FrameType) -> Any:
    """`self`, where the frame is that of a method."""
    code = frame.f_code
    return variables(frame, code.co_varnames[0])[0] if code.co_argcount else None


def peek(thing: Any, name: str) -> Any:
    """An attribute of an object of whatever class; None if it has none or does not give it."""
    try:
        return getattr(thing, name, None)
    except Exception:  # a property of the user's, asked in a state it was not made for
        return None


def is_library(frame: FrameType) -> bool:
    """Whether the code of `frame` belongs to asyncio, contextlib, aioconc or anyio."""
    filename = frame.f_code.co_filename
    known = _is_library.get(filename)
    if known is None:
        anyio = getattr(sys.modules.get("anyio"), "__file__", None)
        places = _LIBRARY if anyio is None else (*_LIBRARY, str(Path(anyio).parent) + os.sep)
        known = _is_library[filename] = filename.startswith(places)
    return known


def call_site(chain: Chain) -> str:
    """`file:line in function` of the innermost await in the user's code.

    A task that runs a coroutine of the library itself gives the name of that.
    """
    for link in reversed(chain.links):
        if not is_library(link.frame):
            code = link.frame.f_code
            return f"{code.co_filename}:{link.frame.f_lineno} in {code.co_qualname}"
    for link in chain.links:
        module = link.frame.f_globals.get("__name__", "")
        if not module.startswith("aioconc.testing."):  # our own wrappers are nobody's concern
            return f"{module}.{link.frame.f_code.co_qualname}"
    return ""


def open_blocks(chain: Chain) -> Iterator[Any]:
    """The context managers whose `with` and `async with` blocks the task is inside of.

    Also those inside of generators that are context managers themselves or are being iterated,
    and those of exit stacks. Not one that is still being entered.
    """
    in_chain = {id(link.awaitable) for link in chain.links}
    for position, link in enumerate(chain.links):
        entering = None
        if position + 1 < len(chain.links):
            inner = chain.links[position + 1].frame
            if inner.f_code.co_name == "__aenter__":
                entering = first_argument(inner)
        yield from _blocks_of(link.awaitable, entering, in_chain)


def _blocks_of(suspended: Any, entering: Any, seen: set[int]) -> Iterator[Any]:
    # A block that is open has its bound exit method on the stack of the frame; there the garbage
    # collector finds it. (Since 3.14 the two are apart, and such a block is not found.)
    blocks: list[Any] = []
    generators: list[Any] = []
    for referent in gc.get_referents(suspended):
        if isinstance(referent, MethodType):
            if referent.__name__ in ("__aexit__", "__exit__"):
                blocks.append(referent.__self__)
        elif isinstance(referent, AsyncGeneratorType):
            generators.append(referent)
    # The last one: the task may be inside of an outer block of the very same lock.
    if entering is not None and blocks and blocks[-1] is entering:
        del blocks[-1]
    for block in blocks:
        yield from _unfold(block, seen)
    for generator in generators:
        yield from _blocks_of_generator(generator, seen)


def _unfold(block: Any, seen: set[int]) -> Iterator[Any]:
    yield block
    generator = peek(block, "gen")
    if isinstance(generator, (AsyncGeneratorType, GeneratorType)):
        yield from _blocks_of_generator(generator, seen)
    if isinstance(block, (contextlib.AsyncExitStack, contextlib.ExitStack)):
        callbacks: Any = getattr(block, "_exit_callbacks", ())
        for _, callback in tuple(callbacks):
            if isinstance(callback, MethodType):
                yield from _unfold(callback.__self__, seen)


def _blocks_of_generator(generator: Any, seen: set[int]) -> Iterator[Any]:
    if id(generator) not in seen:
        seen.add(id(generator))
        yield from _blocks_of(generator, None, seen)
