"""The same with `multiprocessing.Pool`: map, apply_async, and get with a time limit."""

import multiprocessing
import os
import signal
import sys
import time


def square(number):
    return number * number


def compute_for(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return seconds


def crash(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory is short
    return number


if __name__ == "__main__":
    with multiprocessing.Pool(1) as pool:
        print(pool.map(square, range(10)))
        print(pool.apply_async(square, (7,)).get(timeout=10))
        try:
            pool.apply_async(compute_for, (2.0,)).get(timeout=0.2)
        except multiprocessing.TimeoutError:
            print("TimeoutError, but nobody told the worker")
        begun = time.monotonic()
        print(pool.apply_async(square, (8,)).get(timeout=10))
        waited = time.monotonic() - begun
        print(f"the next call had to wait for the one that was given up: {waited > 0.5}")
        if "crash" in sys.argv:  # pool.map(...) would not return
            mapped = pool.map_async(crash, range(6))
            mapped.wait(1)
            print("the map waits for ever:", not mapped.ready())
