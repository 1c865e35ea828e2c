"""The same with a `BaseManager` that serves a `queue.LifoQueue`, and a sentinel for each worker."""

import multiprocessing
import queue
from multiprocessing.managers import BaseManager


class Manager(BaseManager):
    pass


Manager.register("LifoQueue", queue.LifoQueue)


def work(stack, done):
    while (depth := stack.get()) is not None:
        done.put(depth)


if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    with Manager(ctx=context) as manager:  # one more process, with a thread for each client
        stack, done = manager.LifoQueue(), context.Queue()
        for depth in range(20):
            stack.put(depth)
        for _ in range(2):
            stack.put(None)  # "after all the work", but on a stack that is first
        workers = [context.Process(target=work, args=(stack, done)) for _ in range(2)]
        for each in workers:
            each.start()
        for each in workers:
            each.join()
        print("left undone:", stack.qsize())
