"""What queues and barriers raise: each is at once the error of asyncio and that of the threads.

They stand here and not in `aioconc.errors`, which workers load and which knows no event loop.
"""

import asyncio
import queue
import sys
import threading

from aioconc.errors import AioconcError


class QueueEmpty(AioconcError, asyncio.QueueEmpty, queue.Empty):
    """There is no item, and the call does not wait, or does not wait any longer.

    An `asyncio.QueueEmpty` and a `queue.Empty`.
    """


class QueueFull(AioconcError, asyncio.QueueFull, queue.Full):
    """There is no room, and the call does not wait, or does not wait any longer.

    An `asyncio.QueueFull` and a `queue.Full`.
    """


if sys.version_info >= (3, 13):

    class QueueShutDown(AioconcError, asyncio.QueueShutDown, queue.ShutDown):
        """The queue was shut down: nothing can be put, or nothing is left to get.

        From Python 3.13 on an `asyncio.QueueShutDown` and a `queue.ShutDown`.
        """

else:

    class QueueShutDown(AioconcError):
        """The queue was shut down: nothing can be put, or nothing is left to get.

        From Python 3.13 on an `asyncio.QueueShutDown` and a `queue.ShutDown`.
        """


class BarrierBroken(AioconcError, asyncio.BrokenBarrierError, threading.BrokenBarrierError):
    """The barrier was aborted, or reset while somebody waited, or a thread's time was up.

    An `asyncio.BrokenBarrierError` and a `threading.BrokenBarrierError`.
    """
