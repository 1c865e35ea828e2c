"""The same with ten threads and `threading.Semaphore`."""

import threading
import time

door = threading.Semaphore(3)
guard = threading.Lock()
inside = most = 0


def visit():
    global inside, most
    with door:
        with guard:
            inside += 1
            most = max(most, inside)
        time.sleep(0.01)
        with guard:
            inside -= 1


if __name__ == "__main__":
    threads = [threading.Thread(target=visit) for _ in range(10)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    print("most at a time:", most)
