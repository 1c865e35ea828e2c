"""One run of a program with one cancel in it, in a loop of its own, and the judgement of it.

First the run, then what it has left, then the caller's check, then a second call in the same loop.
Whatever is wrong is told as text. Which ends of tasks are wrong is in `_cancel_rules`, where to
cancel in `_probe`.
"""

import asyncio
import gc
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from time import perf_counter, sleep
from typing import Any, Final, Literal

from aioconc.errors import DeadlockError, LivelockError, StuckError
from aioconc.testing._await_chain import await_chain, call_site
from aioconc.testing._cancel_rules import End, Kinds, Usual, end_of
from aioconc.testing._end_tasks import cancel
from aioconc.testing._loop import SimulationLoop
from aioconc.testing._probe import Chooses, Injection, Probe
from aioconc.testing._process_state import ProcessState
from aioconc.testing._simulate import tidy_up
from aioconc.testing._wait_graph import wait_graph

Outcome = Literal["cancelled", "swallowed", "raised", "hung", "not reached"]

# Real seconds that a run may take on a loop in real time, beside twice those of the undisturbed one.
REAL_SECONDS: Final = 5.0

# Passes of the loop in which what was cancelled may end.
_TURNS: Final = 5

# Looks at threads and descriptors that are about to go, and real seconds between them.
_LOOKS: Final = 10
_LOOK_SECONDS: Final = 0.01


@dataclass(frozen=True)
class Program:
    """What is run again and again, and which of its tasks are targets."""

    fn: Callable[[], Coroutine[Any, Any, object]]
    name: str
    check: Callable[[], object] | None
    new_loop: Callable[[], asyncio.AbstractEventLoop]
    chooses: Chooses
    # Whether the root may be a target, and whether other tasks may.
    roots: bool
    children: bool


# Trial life:   made -> run() -> judged -> (garbage of the run collected) -> read
# Rule 1: when `run` has returned it holds no exception and no task but `cause`, so that lost
#         exceptions come to light when the garbage is collected; they still reach `problems`.
class Trial:
    """One run.

    Args:
        program: what is run.
        injection: where to cancel; None: nowhere.
        usual: what happens undisturbed; None: this is the run that shows it.
    """

    def __init__(self, program: Program, injection: Injection | None, usual: Usual | None) -> None:
        self.program: Final = program
        self.injection: Final = injection
        self.probe: Final = Probe(injection, program.chooses, roots=program.roots)
        self._usual: Final = usual
        self.problems: list[str] = []
        self.cause: BaseException | None = None
        self.outcome: Outcome = "not reached"
        # Whether it took real seconds to see that something does not end.
        self.was_slow = False
        # As `Usual`, of this run; None for what did not end.
        self.first: End | None = None
        self.second: End | None = None
        self.kinds: Kinds = frozenset()
        self.seconds = 0.0
        self._generators: list[Any] = []
        self._over = False

    def run(self, before: ProcessState) -> ProcessState:
        """Do it all, and close the loop; from the state of the process to that after it."""
        loop: Any = self.program.new_loop()
        loop.set_exception_handler(self._told)
        try:
            self._run(loop)
            self._tidy(loop)
        finally:
            self._over = True
            loop.close()
        del loop
        return self._judge_outside(before)

    def _run(self, loop: Any) -> None:
        probe = self.probe
        create = loop.create_task
        if self.program.children:
            loop.create_task = probe.wrap(create)
        if not isinstance(loop, asyncio.BaseEventLoop):
            loop.call_soon(self._watch_generators)  # before the first step of the root
        root = probe.start_root(create, self._call())
        began = perf_counter()
        hang = self._until_done(loop, root)
        self.seconds = perf_counter() - began
        probe.over = True
        if isinstance(loop, SimulationLoop):
            loop.usual_order_from_here()
        if hang is not None:
            self._problem(f"does not end: {hang}", hang)
            self._judge_victim(root)
            return
        self.first, error = end_of(root)
        if self._usual is not None:
            wrong = (
                self._usual.says_of_root(self.first)
                if probe.victim is root
                else self._usual.says_of_others(self.first)
            )
            self._problem(wrong, error)
        self._judge_left(loop)
        self._judge_victim(root)
        del root, error
        self._check(loop)
        self._call_again(loop)

    def _call(self) -> Coroutine[Any, Any, object]:
        coro = self.program.fn()
        if not asyncio.iscoroutine(coro):
            raise TypeError(
                f"cancel_everywhere expected an async function, got {self.program.name}, "
                f"which returned {coro!r:.80}"
            )
        return coro

    # -- running ------------------------------------------------------------------------------

    def _until_done(self, loop: Any, task: "asyncio.Future[Any]") -> Exception | None:
        """Run the loop until `task` is done; else the reason why it will not be."""
        simulated = isinstance(loop, SimulationLoop)
        limit = REAL_SECONDS + (0.0 if self._usual is None else 2 * self._usual.seconds)

        def stop(_: object) -> None:
            loop.stop()

        task.add_done_callback(stop)
        timer = None if simulated else loop.call_later(limit, loop.stop)
        try:
            loop.run_forever()
        except (DeadlockError, LivelockError, StuckError) as verdict:
            self.was_slow = isinstance(verdict, StuckError)
            return verdict
        finally:
            task.remove_done_callback(stop)
            if timer is not None:
                timer.cancel()
        if task.done():
            return None
        self.was_slow = True
        return StuckError(
            f"stopped, or not done after {limit:.1f} real seconds\n{wait_graph(loop)}"
        )

    def _turn(self, loop: Any) -> None:
        loop.call_soon(loop.stop)
        loop.run_forever()

    def _watch_generators(self) -> None:
        """Note async generators on a loop that does not show them, such as uvloop's."""
        hook: Any = sys.get_asyncgen_hooks().firstiter  # the loop's own

        def firstiter(generator: Any) -> None:
            self._generators.append(weakref.ref(generator))
            hook(generator)

        sys.set_asyncgen_hooks(firstiter=firstiter)

    def _run_to_end(
        self, loop: Any, coro: Coroutine[Any, Any, object], what: str
    ) -> tuple[End, BaseException | None] | None:
        task = loop.create_task(coro)
        hang = self._until_done(loop, task)
        if hang is None:
            return end_of(task)
        self._problem(f"{what} does not end: {hang}", hang)
        return None

    def _tidy(self, loop: Any) -> None:
        """End what is left, whatever it is; nothing of it counts any more."""
        self._over = True
        if isinstance(loop, SimulationLoop):
            try:
                tidy_up(loop)
            except (DeadlockError, LivelockError, StuckError) as verdict:
                self._problem(f"what is left does not end when cancelled: {verdict}", verdict)
            return
        if left := [task for task in asyncio.all_tasks(loop) if cancel(task)]:
            ends = asyncio.gather(*left, return_exceptions=True)
            if (hang := self._until_done(loop, ends)) is not None:
                self._problem(f"what is left does not end when cancelled: {hang}", hang)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())

    # -- judging ------------------------------------------------------------------------------

    def _problem(self, text: str | None, cause: BaseException | None = None) -> None:
        if text is not None:
            self.problems.append(text)
            self.cause = self.cause or cause

    def _judge_victim(self, root: "asyncio.Task[Any]") -> None:
        victim, self.probe.victim = self.probe.victim, None
        for task in (root, *self.probe.targets):
            if task.done():
                self.kinds |= end_of(task)[0].kinds
        self.probe.targets.clear()
        if victim is None or self._usual is None:
            return
        if not victim.done():
            self.outcome = "hung"
            return
        end, error = end_of(victim)
        if end.cancelled:
            self.outcome = "cancelled"
        else:
            self.outcome = "raised" if end.kinds - self._usual.kinds else "swallowed"
            wrong = None if victim is root else self._usual.says_of_others(end)
            self._problem(wrong and f"the cancelled task {wrong}", error)

    def _judge_left(self, loop: Any) -> None:
        """Tasks and async generators that outlive the run."""
        # Once in any case: async generators that were dropped are closed by a task.
        self._turn(loop)
        turns = 1
        while turns < _TURNS and asyncio.all_tasks(loop):
            self._turn(loop)
            turns += 1
        shielded, self.probe.shielded = self.probe.shielded, None
        left: Counter[str] = Counter()
        for task in sorted(asyncio.all_tasks(loop), key=lambda each: each.get_name()):
            coro: Any = task.get_coro()
            name = getattr(coro, "__qualname__", repr(coro))
            if not task.get_name().startswith(("Task-", "None")):
                name = f"{task.get_name()!r} ({name})"
            shield = ", which asyncio.shield kept from the cancel," if task is shielded else ""
            left[f"task {name}{shield} at {call_site(await_chain(task))}"] += 1
        for what, count in left.items():
            self._problem(f"leaves {what}" + (f" ({count} of them)" if count > 1 else ""))
        known = [each() for each in self._generators]
        for generator in [*getattr(loop, "_asyncgens", known)]:
            if generator is not None and generator.ag_frame is not None:
                self._problem(f"leaves async generator {generator.__qualname__} unfinished")
        self._generators.clear()

    def _check(self, loop: Any) -> None:
        check = self.program.check
        if check is None:
            return

        async def call_check() -> None:
            found: Any = check()
            if hasattr(found, "__await__"):
                await found

        if (ended := self._run_to_end(loop, call_check(), "check()")) is not None:
            end, error = ended
            self._problem(f"check() {end.text}" if end.kinds else None, error)

    def _call_again(self, loop: Any) -> None:
        if (ended := self._run_to_end(loop, self._call(), "a second call")) is not None:
            self.second, error = ended
            if self._usual is not None:
                self._problem(self._usual.says_of_second(self.second), error)

    def _told(self, _: object, context: dict[str, Any]) -> None:
        """The loop's exception handler, also when garbage of the run is collected after it."""
        message, error = context.get("message", ""), context.get("exception")
        if not self._over or message.endswith("was never retrieved"):
            detail = "" if error is None else f": {type(error).__name__}: {error}"
            self._problem(f"the event loop reported: {message}{detail}")

    def _judge_outside(self, before: ProcessState) -> ProcessState:
        """Threads, child processes and descriptors that outlive the loop; gives what there is."""
        now = ProcessState.now()
        left = [*before.what_is_new(now)]
        for look in range(_LOOKS):
            if not left:
                break
            if look == 0:
                gc.collect()
            sleep(_LOOK_SECONDS)
            now = ProcessState.now()
            left = [*before.what_is_new(now)]
        for each in left:
            self._problem(f"leaves {each}")
        return now
