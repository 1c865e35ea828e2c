"""The same, one measurement after the other."""

import sys
import time

import psutil


def cpu(seconds):
    return f"cpu {psutil.cpu_percent(seconds):3.0f}%"


def memory():
    return f"mem {psutil.virtual_memory().percent:3.0f}%"


def network(seconds):
    before = psutil.net_io_counters()
    time.sleep(seconds)
    now = psutil.net_io_counters()
    down = (now.bytes_recv - before.bytes_recv) / seconds / 1e3
    up = (now.bytes_sent - before.bytes_sent) / seconds / 1e3
    return f"net {down:.0f}/{up:.0f} kB/s"


if __name__ == "__main__":
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    begun = time.monotonic()
    print(" | ".join([cpu(seconds), memory(), network(seconds)]))
    print(
        f"a line for {seconds} s took more than twice that: {time.monotonic() - begun > 2 * seconds}"
    )
