"""Run a plain function away from the event loop and await its result.

Every answer is `async (fn, argument) -> result`. Thread and process pools of the standard library
live as long as the process, as a program's own would; none of the answers pays for starting one.
"""

IO_BASE = "asyncio.to_thread"
CPU_BASE = "run_in_executor(ProcessPoolExecutor)"
FLOOR = "bare pickled exchange"
"""What no process pool can undercut: pickle, socketpair, unpickle, and back."""

IO_ANSWERS = {
    IO_BASE: "asyncio_calls:to_thread",
    "run_in_executor(ThreadPoolExecutor)": "asyncio_calls:in_threads",
    "anyio.to_thread.run_sync": "anyio_calls:in_thread",
    "aioconc offload_io": "aioconc_calls:io",
}
"""Threads: name in the tables -> where the answer is."""

CPU_ANSWERS = {
    CPU_BASE: "asyncio_calls:in_processes",
    "anyio.to_process.run_sync": "anyio_calls:in_process",
    "aioconc offload_cpu": "aioconc_calls:cpu",
    FLOOR: "bare_exchange:call",
}
"""Processes: name in the tables -> where the answer is."""
