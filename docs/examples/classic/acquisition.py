"""The same with pipes, an event to stop, and a sentinel at the end of the readings."""

import multiprocessing
import os
import signal
import statistics
import sys
import time


def measure(stop, parent, analysis, dies):
    number = 0
    while not stop.is_set():
        time.sleep(0.001)
        reading = 20 + (number % 11) / 10  # stands for a device
        parent.send(reading)
        analysis.send(reading)
        number += 1
        if dies and number == 100:
            os.kill(os.getpid(), signal.SIGKILL)
    parent.send("stop")
    analysis.send("stop")


def analyse(readings, results):
    values = []
    while (reading := readings.recv()) != "stop":
        values.append(reading)
    results.send((len(values), statistics.fmean(values), statistics.stdev(values)))


if __name__ == "__main__":
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    ours, parent = context.Pipe(duplex=False)
    readings, analysis = context.Pipe(duplex=False)
    results, result = context.Pipe(duplex=False)
    work = (stop, parent, analysis, "die" in sys.argv)
    processes = [
        context.Process(target=measure, args=work),
        context.Process(target=analyse, args=(readings, result)),
    ]
    for each in processes:
        each.start()
    seen, end = 0, None
    while ours.poll(5 if seen else 30) and ours.recv() != "stop":
        seen += 1
        end = end or time.monotonic() + seconds
        if time.monotonic() > end:
            stop.set()
    if results.poll(3):
        count, mean, deviation = results.recv()
        print(f"mean {mean:.2f}, deviation {deviation:.2f}")
        print("analysed all that was seen:", count == seen)
    else:
        print(f"saw {seen} readings; the parent and the analysis would wait for ever")
    for each in processes:
        each.kill()
