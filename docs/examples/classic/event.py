"""The same with two processes and `multiprocessing.Event`."""

import multiprocessing
import os
import signal
import sys
import threading
import time


def patient(opened):
    opened.wait()
    print("patient: it is open", flush=True)


def impatient(opened, seconds):
    while not opened.wait(seconds):
        print("impatient: not yet, so do something else", flush=True)
    print("impatient: it is open", flush=True)


if __name__ == "__main__":
    opened = multiprocessing.Event()
    workers = [
        multiprocessing.Process(target=patient, args=(opened,)),
        multiprocessing.Process(target=impatient, args=(opened, 0.2)),
    ]
    for each in workers:
        each.start()
    time.sleep(0.5)
    if "die" in sys.argv:
        os.kill(workers[0].pid, signal.SIGKILL)  # while it waits
        workers[0].join()
    setter = threading.Thread(target=opened.set, daemon=True)
    setter.start()
    setter.join(timeout=1)
    print("set() waits for ever:", setter.is_alive(), flush=True)
    for each in workers:
        each.join(timeout=1 if "die" in sys.argv else 60)
        each.kill()
