"""The same with `threading.Condition`."""

import sys
import threading
import time

condition = threading.Condition()
items = []


def produce(count, fails):
    for number in range(count):
        time.sleep(0.01)
        if fails and number == 1:
            raise RuntimeError("the supplier is closed")
        with condition:
            items.append(number)
            condition.notify()


def consume(count):
    for _ in range(count):
        with condition:
            while not items:
                condition.wait()
            print("thread took", items.pop(0), flush=True)


if __name__ == "__main__":
    # A daemon, or the program would never end when the producer fails.
    consumer = threading.Thread(target=consume, args=(4,), daemon=True)
    producer = threading.Thread(target=produce, args=(4, "fail" in sys.argv))
    consumer.start()
    producer.start()
    producer.join()
    consumer.join(timeout=1 if "fail" in sys.argv else 60)
    print("the consumer waits for ever:", consumer.is_alive())
