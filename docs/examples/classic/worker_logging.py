"""The same with a queue, a handler in each worker and a listener in the parent."""

import logging
import logging.handlers
import multiprocessing


def set_up(queue):
    root = logging.getLogger()
    root.handlers = [logging.handlers.QueueHandler(queue)]
    root.setLevel(logging.INFO)  # a copy: what the parent changes later is not seen


def parse(page):
    log = logging.getLogger("shop.parser")
    log.info("parsing %d characters", len(page))
    if "price" not in page:
        log.warning("no price in %r", page)
    return len(page)


if __name__ == "__main__":
    queue = multiprocessing.Queue()
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
    listener = logging.handlers.QueueListener(queue, handler)
    listener.start()
    with multiprocessing.Pool(2, initializer=set_up, initargs=(queue,)) as pool:
        print(pool.map(parse, ["price: 3", "sold out"]))
        pool.close()  # `with` alone terminates the workers, and what they had not sent is lost
        pool.join()
    listener.stop()
