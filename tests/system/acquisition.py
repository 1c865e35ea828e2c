"""A data-acquisition program: one process measures, one analyses, the parent watches and stops.

    acquire  --readings-->  analyse  --result-->  parent
       |<------- stop, readings ------------------->|

There is no stop sentinel: an end that is closed ends the loops of those who read from it.
"""

import math
from typing import Any

from aioconc.channels import Channel, EndOfStream, PeerDied


def reading(number: int) -> float:
    """What the device gives: the same each time."""
    return math.sin(number) * 10 + number % 7


def acquire(parent: Channel[Any], analysis: Channel[Any]) -> None:
    """Measure until the parent wants no more."""
    number = 0
    with parent.sync as watcher, analysis.sync as analyst:
        while True:
            try:
                watcher.receive(timeout=0)
            except TimeoutError:
                pass
            except EndOfStream:
                return
            analyst.send((number, reading(number)))
            watcher.send((number, reading(number)))
            number += 1


def analyse(readings: Channel[Any], parent: Channel[Any]) -> None:
    """Mean and deviation of all that was measured (Welford), and whether that is all."""
    count, mean, squares, complete = 0, 0.0, 0.0, True
    with readings.sync as source, parent.sync as reader:
        try:
            for number, value in source:
                assert number == count
                count += 1
                delta = value - mean
                mean += delta / count
                squares += delta * (value - mean)
        except PeerDied:
            complete = False
        deviation = math.sqrt(squares / (count - 1)) if count > 1 else 0.0
        reader.send({"count": count, "mean": mean, "deviation": deviation, "complete": complete})
