"""`delegate`: what `yield from` would do inside an async generator, where Python has none.

It guarantees that each value sent, each exception thrown and the close of the outer generator
reach the inner one, once and unchanged. The outer one stays a plain async generator, so the one
`yield` that hands values out is written by the user.
"""

import inspect
from collections.abc import AsyncGenerator, Generator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, overload

T = TypeVar("T")
S = TypeVar("S")
R = TypeVar("R")

_USE: str = (
    "write `async with delegate(...) as steps:`, then `async for step in steps:`, then "
    "`with step: step.sent = yield step.value`"
)


class Step(Generic[T, S]):
    """One value of the inner generator, and what comes back for it.

    Attributes:
        value: what the inner generator yielded; yield it.
        sent: what your own `yield` gave; the inner one's `yield` gives the same.
    """

    __slots__ = ("_answered", "_thrown", "sent", "value")

    def __init__(self, value: T) -> None:
        self.value = value
        self.sent: S | None = None
        self._thrown: BaseException | None = None
        self._answered = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._answered = True
        if error is None or isinstance(error, GeneratorExit):
            return False  # the outer generator is being closed: it may not yield any more
        self._thrown = error
        return True

    def __repr__(self) -> str:
        return f"<Step {self.value!r:.60}>"


# Life:   new -> open -> closed;   the inner generator may end before that, by itself or by an error
class Delegation(Generic[T, S, R]):
    """What `delegate` gives: `async with` it, and `async for` its steps."""

    def __init__(self, inner: AsyncGenerator[T, S] | Generator[T, S, R]) -> None:
        self._inner = inner
        self._opened = self._closed = self._returned = False
        self._step: Step[T, S] | None = None
        self._result: R | None = None

    async def __aenter__(self) -> Self:
        if self._opened:
            raise RuntimeError("this delegate() was entered before; make one for each block")
        self._opened = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closed = True
        self._step = None
        if isinstance(self._inner, Generator):
            self._inner.close()
        else:
            await self._inner.aclose()

    def __aiter__(self) -> Self:
        if not self._opened:
            raise TypeError(f"delegate cannot be iterated directly; {_USE}")
        return self

    async def __anext__(self) -> Step[T, S]:
        last, self._step = self._step, None
        if self._closed or self._returned:
            raise StopAsyncIteration
        if last is not None and not last._answered:
            raise RuntimeError(f"a step of delegate was not answered; {_USE}")
        sent: Any = None if last is None else last.sent
        thrown = None if last is None else last._thrown
        inner = self._inner
        try:
            if isinstance(inner, Generator):
                value = inner.send(sent) if thrown is None else inner.throw(thrown)
            else:
                value = await (inner.asend(sent) if thrown is None else inner.athrow(thrown))
        except StopIteration as end:
            self._returned = True
            self._result = end.value
            raise StopAsyncIteration from None
        except StopAsyncIteration:
            self._returned = True
            raise
        finally:
            last = thrown = None  # its traceback holds this frame
        self._step = step = Step[T, S](value)
        return step

    @property
    def result(self) -> R:
        """What the inner generator returned: the value of `yield from`.

        An async one cannot return anything, so it is None then.

        Raises:
            RuntimeError: the inner generator has not returned.
        """
        if not self._returned:
            raise RuntimeError("the inner generator has not returned, so there is no result")
        return self._result  # type: ignore[return-value]  # None only if that is what R is

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open" if self._opened else "new"
        name = getattr(self._inner, "__qualname__", type(self._inner).__name__)
        return f"<Delegation to {name}, {state}>"


@overload
def delegate(inner: AsyncGenerator[T, S], /) -> Delegation[T, S, None]: ...
@overload
def delegate(inner: Generator[T, S, R], /) -> Delegation[T, S, R]: ...
def delegate(inner: Any, /) -> Any:
    """Hand the consumer of an async generator over to another generator, until that ends.

    Equals `result = yield from inner`, which Python refuses inside `async def`: what the consumer
    sends with `asend` arrives at the inner generator's `yield`, what it throws with `athrow` is
    raised there, and closing the outer one closes the inner one. Where nobody sends or throws,
    `async for value in inner: yield value` is enough.

    Args:
        inner: an async generator, or a plain one, which is then run in the loop's thread.

    Returns:
        A `Delegation`. Its steps are to be answered one by one, as in the example; after the last
        one its `result` has what a plain generator returned. An async generator can return
        nothing: what it has to say at its end goes into an object that both know.

    Raises:
        TypeError: not a generator, or iterated without `async with`.
        RuntimeError: a step was not answered before the next one.
        Exception: whatever the inner generator raises, thrown or by itself.

    Cancellation:
        Strikes where the inner generator awaits, as at an `await` of the outer one's own. It is
        closed at the end of the block.

    Example:
        >>> import asyncio
        >>> async def echo():
        ...     heard = yield "say something"
        ...     while heard:
        ...         heard = yield heard.upper()
        >>> async def outer():
        ...     async with delegate(echo()) as steps:
        ...         async for step in steps:
        ...             with step:
        ...                 step.sent = yield step.value
        >>> async def main():
        ...     generator = outer()
        ...     return await generator.asend(None), await generator.asend("hello")
        >>> asyncio.run(main())
        ('say something', 'HELLO')
    """
    if isinstance(inner, (AsyncGenerator, Generator)):
        return Delegation(inner)
    rule = "delegate expected a generator"
    if inspect.isasyncgenfunction(inner) or inspect.isgeneratorfunction(inner):
        name = inner.__qualname__
        raise TypeError(f"{rule}, got the function {name}; did you mean delegate({name}(...))?")
    raise TypeError(
        f"{rule}, got {inner!r}; `async for value in it: yield value` serves for what takes no "
        "values"
    )
