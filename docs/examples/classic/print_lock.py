"""The same with a lock that every process is given."""

import multiprocessing
import os
import signal
import sys
import time


def greet(lock, number):
    with lock:
        for line in ("hello", "world"):
            print(f"{line} from {number}", flush=True)


def greet_and_die(lock):
    lock.acquire()
    os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory is short


if __name__ == "__main__":
    lock = multiprocessing.Lock()
    if "die" in sys.argv:
        victim = multiprocessing.Process(target=greet_and_die, args=(lock,))
        victim.start()
        victim.join()
    workers = [multiprocessing.Process(target=greet, args=(lock, n)) for n in range(10)]
    for each in workers:
        each.start()
    give_up = time.monotonic() + (1 if "die" in sys.argv else 60)
    for each in workers:
        each.join(timeout=max(0, give_up - time.monotonic()))
    print("still waiting for the lock:", sum(each.is_alive() for each in workers))
    for each in workers:
        each.kill()
