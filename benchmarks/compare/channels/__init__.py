"""Items from another process and to it: who is asked, and where the answer is.

Every maker gives two ends, one for this process and one for a process that spawn starts. An end has
`send`, `receive`, `send_many`, `receive_many` and `close`; that of this process is awaited. Where a
peer has no batches, it sends one item after the other.
"""

BASE = "multiprocessing.Queue"
OURS = "aioconc"

CHANNELS = {
    BASE: "stdlib_channels:queue",
    OURS: "aioconc_channels:channel",
    "multiprocessing.SimpleQueue": "stdlib_channels:simple_queue",
    "multiprocessing.Pipe": "stdlib_channels:pipe",
    "Manager().Queue": "stdlib_channels:manager_queue",
    "faster-fifo": "faster_fifo_channels:queue",
}
