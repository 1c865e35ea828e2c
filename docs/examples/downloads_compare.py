"""Runs both downloads against a local site and prints what each took, as `time` does."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

HERE = Path(__file__).parent
CASES = [
    ("classic/downloads.py", 20),
    ("downloads.py", 20),
    ("downloads.py", 100),
]


def memory_of(process: psutil.Process) -> int:
    """Bytes of all processes below, what they share counted once."""
    total = 0
    for each in [process, *process.children(recursive=True)]:
        try:
            total += each.memory_full_info().pss
        except psutil.Error:
            pass  # it has just ended
    return total


def run(command: list[str]) -> tuple[float, float, float, int]:
    """Elapsed, user and system seconds, and the most memory, of a program and its children."""
    begun, peak = time.perf_counter(), 0
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    ended = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.05):
            try:
                peak = max(peak, memory_of(psutil.Process(child.pid)))
            except psutil.Error:
                pass

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    elapsed = time.perf_counter() - begun
    ended.set()
    watcher.join()
    if child.returncode:
        raise SystemExit(f"{command} ended with {child.returncode}")
    return elapsed, usage.ru_utime, usage.ru_stime, peak


def main(rounds: int) -> None:
    site = [sys.executable, str(HERE / "local_site.py")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(site, **pipes) as server:  # type: ignore[call-overload]
        base = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        print(f"{rounds} pages        at a time   elapsed      user    system    memory")
        for script, limit in CASES:
            found = run([sys.executable, str(HERE / script), base, str(rounds), str(limit)])
            elapsed, user, system, peak = found
            seconds = "".join(f"{each:8.2f} s" for each in (elapsed, user, system))
            print(f"{script:<20} {limit:>6}{seconds}{peak / 1e6:7.0f} MB")
        server.stdin.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
