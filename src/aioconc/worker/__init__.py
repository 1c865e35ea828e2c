"""What code that runs inside a worker may call.

`report`, `check_cancelled` and `call_in_loop` reach back to the task that awaits the call, `info`
says where the code runs. Which of them work is the executor's choice, declared in its
`capabilities`; the others raise `UnsupportedOption`. Loads no asyncio, and nothing at all before a
name is touched, so that worker processes start light.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from aioconc.worker._link import (
        Cancelled as Cancelled,
        WorkerInfo as WorkerInfo,
        call_in_loop as call_in_loop,
        check_cancelled as check_cancelled,
        info as info,
        report as report,
    )

__all__ = ["Cancelled", "WorkerInfo", "call_in_loop", "check_cancelled", "info", "report"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from aioconc._internal._public import publish
    from aioconc.worker import _link

    globals().update({each: getattr(_link, each) for each in __all__})
    publish(globals())
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
