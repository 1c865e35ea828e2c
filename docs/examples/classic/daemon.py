"""The same with a daemon process beside one that is not."""

import multiprocessing
import sys
import time


def heartbeat():
    try:
        while True:
            print("beat", flush=True)
            time.sleep(0.02)
    finally:
        print("heartbeat: put everything back", flush=True)  # never printed: SIGTERM ends it


def work():
    time.sleep(0.1)
    print("work: done", flush=True)


if __name__ == "__main__":
    multiprocessing.Process(target=heartbeat, daemon="hang" not in sys.argv).start()
    worker = multiprocessing.Process(target=work)
    worker.start()
    worker.join()
    print("goodbye", flush=True)  # daemons are terminated now; others would be waited for
