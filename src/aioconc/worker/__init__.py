"""What code that runs inside a worker may call.

`report`, `check_cancelled` and `call_in_loop` reach back to the task that awaits the call, `info`
says where the code runs. Which of them work is the executor's choice, declared in its
`capabilities`; the others raise `UnsupportedOption`. Loads no asyncio, so that worker processes
start light.
"""

from aioconc._internal._public import publish
from aioconc.worker._link import (
    Cancelled,
    WorkerInfo,
    call_in_loop,
    check_cancelled,
    info,
    report,
)

__all__ = ["Cancelled", "WorkerInfo", "call_in_loop", "check_cancelled", "info", "report"]

publish(globals())
