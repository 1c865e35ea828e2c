"""The same with `threading.Timer`."""

import threading


def fail():
    raise RuntimeError("nobody hears this but stderr")


def main():
    timer = threading.Timer(0.01, print, args=("hello, a little later",))
    timer.start()
    timer.join()
    late = threading.Timer(1.0, print, args=("printed after the program has said goodbye",))
    late.start()
    failing = threading.Timer(0.01, fail)
    failing.start()
    failing.join()  # returns as if nothing had happened
    # `late` was forgotten here: a return, an exception, and it fires all the same


if __name__ == "__main__":
    main()
    print("goodbye")
