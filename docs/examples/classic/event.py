"""The same with two processes and `multiprocessing.Event`."""

import multiprocessing
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
    opened.set()
    for each in workers:
        each.join()
