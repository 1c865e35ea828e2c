"""The same with `signal.alarm`: one alarm for the whole process, in its main thread only."""

import signal
import time


class TooLong(Exception):
    pass


def ring(number, frame):
    raise TooLong  # wherever the program is just now


def limited(seconds, fn):
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return fn()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def inner():
    try:
        limited(0.05, lambda: time.sleep(1))
    except TooLong:
        pass
    time.sleep(0.3)  # the outer limit was 0.1: it is gone


if __name__ == "__main__":
    signal.signal(signal.SIGALRM, ring)
    try:
        limited(0.1, lambda: time.sleep(60))
    except TooLong:
        print("waited too long")
    try:
        limited(0.1, inner)
        print("the outer limit held: False")
    except TooLong:
        print("the outer limit held: True")
