"""The same with `threading` and `multiprocessing`."""

import multiprocessing
import threading
import time


def serve(seconds):
    time.sleep(seconds)
    print(f"{threading.current_thread().name} of {multiprocessing.current_process().name}")


if __name__ == "__main__":
    workers = [
        threading.Thread(name="letters", target=serve, args=(0.01,)),
        threading.Thread(target=serve, args=(0.01,)),  # gets a name like Thread-1 (serve)
        multiprocessing.Process(name="forms", target=serve, args=(0.01,)),
    ]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
