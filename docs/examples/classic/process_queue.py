"""The same with `multiprocessing.Queue` and a sentinel."""

import multiprocessing
import os
import signal
import sys


def produce(queue, count):
    for _ in range(count):
        queue.put(bytes(100_000))
    queue.put(None)


def produce_and_die(queue, count):
    for _ in range(count):
        queue.put(bytes(100_000))
    queue.close()
    queue.join_thread()  # else items are lost that were put, and others behind them
    os.kill(os.getpid(), signal.SIGKILL)  # before it could put its sentinel


def consume(queue, producers):
    total = 0
    while producers:
        item = queue.get()
        if item is None:
            producers -= 1
        else:
            total += len(item)
    print("consumed", total, "bytes", flush=True)


if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    second = produce_and_die if "die" in sys.argv else produce
    producers = [context.Process(target=each, args=(queue, 10)) for each in (produce, second)]
    for each in producers:
        each.start()
    if "join" in sys.argv:  # before the queue is read: join() would not return
        producers[0].join(timeout=3)
        print("the producer waits for ever:", producers[0].is_alive())
    consumer = context.Process(target=consume, args=(queue, 2))
    consumer.start()
    consumer.join(timeout=3 if "die" in sys.argv else 30)
    print("the consumer waits for ever:", consumer.is_alive())
    consumer.kill()
