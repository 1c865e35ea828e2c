"""The same with `multiprocessing.Pool`, a page at a time in each process."""

import multiprocessing
import sys
import urllib.request


def size(url):
    with urllib.request.urlopen(url, timeout=30) as response:
        return len(response.read())


if __name__ == "__main__":
    base, rounds, limit = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    urls = [f"{base}/{number}" for number in range(rounds)]
    with multiprocessing.Pool(limit) as pool:
        sizes = pool.map(size, urls)
    print(f"{len(sizes)} pages, {sum(sizes)} bytes")
