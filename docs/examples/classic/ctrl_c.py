"""The same by ignoring the signal: in the parent, and in each worker."""

import multiprocessing
import os
import signal
import sys
import time


def ignore():
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def write_record(number):
    time.sleep(0.3)
    return number


if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    initializer = None if "forgotten" in sys.argv else ignore
    with context.Pool(1, initializer) as pool:
        pids = [each.pid for each in pool._pool]
        pool.apply(write_record, (0,))
        result = pool.map_async(write_record, range(4), chunksize=1)
        time.sleep(0.1)
        ignore()  # until all is written: nobody can stop it
        for pid in (os.getpid(), *pids):  # what a terminal does
            os.kill(pid, signal.SIGINT)
        result.wait(5)
        print("whole records:", result.ready() and result.successful())
