"""The same with `signal.pause` and a flag."""

import os
import signal
import sys
import time

seen = []


def note(number, frame):
    seen.append(number)


if __name__ == "__main__":
    signal.signal(signal.SIGHUP, note)
    signal.signal(signal.SIGALRM, note)
    signal.setitimer(signal.ITIMER_REAL, 1 if "race" in sys.argv else 30)
    if not seen:
        if "race" in sys.argv:  # it comes between the look and the pause
            os.kill(os.getpid(), signal.SIGHUP)
        elif not os.fork():  # somebody else
            time.sleep(0.3)
            os.kill(os.getppid(), signal.SIGHUP)
            os._exit(0)
        signal.pause()
    woken_by = signal.Signals(seen[-1]).name
    print("got", signal.Signals(seen[0]).name)
    print("slept on after it, until the alarm:", woken_by == "SIGALRM")
