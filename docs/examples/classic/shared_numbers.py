"""The same with `multiprocessing.Array` and its lock."""

import multiprocessing
import os
import signal
import sys


def count(numbers, times):
    for _ in range(times):
        with numbers.get_lock():
            numbers[0] += 1


def die_with_the_lock(numbers):
    with numbers.get_lock():
        numbers[0] += 1
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    numbers = context.Array("q", 3)
    workers = [context.Process(target=count, args=(numbers, 1_000)) for _ in range(2)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    print("counted to", numbers[0])
    if "die" in sys.argv:
        process = context.Process(target=die_with_the_lock, args=(numbers,))
        process.start()
        process.join()
        print("locked for ever:", not numbers.get_lock().acquire(timeout=1))
