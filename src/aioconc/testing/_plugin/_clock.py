"""The fixture `clock`: the virtual time of the loop that runs."""

import asyncio

from aioconc._internal._check import check_seconds
from aioconc.testing._loop import SimulationLoop


class Clock:
    """Reads and moves the virtual time of the running loop."""

    @property
    def now(self) -> float:
        """Virtual seconds; 0.0 when the loop was made.

        Raises:
            RuntimeError: no loop is running, or it is one in real time.
        """
        return self._loop().time()

    def advance(self, seconds: float) -> None:
        """Let time pass at once, as a step that computes for so long would.

        Timers that are due then fire in the loop's next passes: `await settle()` lets them.

        Args:
            seconds: how far, >= 0.

        Raises:
            RuntimeError: no loop is running, or it is one in real time.
            ValueError: time does not go back.
        """
        self._loop().advance(check_seconds("seconds", seconds))

    def __repr__(self) -> str:
        try:
            return f"<clock at {self.now} s>"
        except RuntimeError:
            return "<clock without a loop in virtual time>"

    def _loop(self) -> SimulationLoop:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                "clock tells the time of the running loop, and none is running; use it inside of "
                "an async test or fixture"
            ) from None
        if not isinstance(loop, SimulationLoop):
            raise RuntimeError(
                f"clock needs a loop in virtual time, got {type(loop).__qualname__}; mark the test "
                "with @pytest.mark.aioconc"
            )
        return loop
