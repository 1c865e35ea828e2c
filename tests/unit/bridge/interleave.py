"""Runs two functions in two threads under every order of the lines of some methods.

Only one of them runs at a time, and at each line of those methods whose turn it is is decided by a
schedule; all schedules are gone through.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from types import CodeType, FrameType
from typing import Any


class Turns:
    """Whose turn it is, line by line."""

    def __init__(self, codes: frozenset[CodeType], choices: list[int]) -> None:
        self._codes = codes
        # For each line that one of two living threads is to run next: which one does.
        self._choices = choices
        self.made: list[int] = []
        self._living = {0, 1}
        self._condition = threading.Condition()
        self._turn = -1

    def run(self, *functions: Callable[[], object]) -> None:
        threads = [
            threading.Thread(target=self._call, args=(who, fn)) for who, fn in enumerate(functions)
        ]
        self._choose()
        for each in threads:
            each.start()
        for each in threads:
            each.join(30)
            assert not each.is_alive()

    def _call(self, who: int, fn: Callable[[], object]) -> None:
        def trace(frame: FrameType, event: str, _: Any) -> Any:
            if frame.f_code not in self._codes:
                return None
            if event == "line":
                self._pass(who)
            return trace

        self._wait(who)
        sys.settrace(trace)
        try:
            fn()
        finally:
            sys.settrace(None)
            with self._condition:
                self._living.discard(who)
                self._choose()
                self._condition.notify_all()

    def _pass(self, who: int) -> None:
        with self._condition:
            self._choose()
            self._condition.notify_all()
        self._wait(who)

    def _wait(self, who: int) -> None:
        with self._condition:
            assert self._condition.wait_for(lambda: self._turn == who, 30)

    def _choose(self) -> None:
        if len(self._living) < 2:
            self._turn = min(self._living, default=-1)
            return
        at = len(self.made)
        self._turn = self._choices[at] if at < len(self._choices) else 0
        self.made.append(self._turn)


def every_order(*methods: Any) -> Iterator[Turns]:
    """Turns for each schedule; each is to be run before the next is asked for."""
    codes = frozenset(method.__code__ for method in methods)
    choices: list[int] = []
    while True:
        turns = Turns(codes, choices)
        yield turns
        made = turns.made
        while made and made[-1] == 1:
            made.pop()
        if not made:
            return
        choices = [*made[:-1], 1]
