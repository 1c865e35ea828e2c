"""The same with `threading.Thread` and `multiprocessing.Process`."""

import multiprocessing
import sys
import threading
import time


def countdown(n):
    while n > 0:
        n -= 1


def seconds_for_two(kind, n):
    begun = time.perf_counter()
    workers = [kind(target=countdown, args=(n,)) for _ in range(2)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    return time.perf_counter() - begun


if __name__ == "__main__":
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000_000
    begun = time.perf_counter()
    countdown(n)
    countdown(n)
    print(f"one after the other  {time.perf_counter() - begun:7.3f} s")
    print(f"two threads          {seconds_for_two(threading.Thread, n):7.3f} s")
    print(f"two processes        {seconds_for_two(multiprocessing.Process, n):7.3f} s")
