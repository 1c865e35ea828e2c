"""A process measures, another analyses, and the parent watches, until it has seen enough."""

import asyncio
import statistics
import sys
import time

from aioconc import TaskGroup, offload_cpu, open_channel
from aioconc.channels import Channel, EndOfStream


def measure(watcher: Channel[float], analyst: Channel[float]) -> None:
    with watcher.sync as parent, analyst.sync as analysis:
        number = 0
        while True:
            try:
                parent.receive(timeout=0.001)  # the pace; and has the parent closed its direction?
            except TimeoutError:
                pass
            except EndOfStream:
                return  # closes both channels, which ends those who read
            reading = 20 + (number % 11) / 10  # stands for a device
            parent.send(reading)
            analysis.send(reading)
            number += 1


def analyse(readings: Channel[float]) -> tuple[int, float, float]:
    with readings.sync as arriving:
        values = list(arriving)
    return len(values), statistics.fmean(values), statistics.stdev(values)


async def main(seconds: float) -> None:
    ours, watcher = open_channel()
    readings, analyst = open_channel()
    async with TaskGroup() as group, ours:
        group.create_task(offload_cpu(measure, watcher, analyst))
        result = group.start_soon(offload_cpu, analyse, readings)
        seen, end = 0, None
        async for _ in ours:
            seen += 1
            end = end or time.monotonic() + seconds
            if time.monotonic() > end:
                await ours.close_send()  # and take what is on its way
    count, mean, deviation = result.result()
    print(f"mean {mean:.2f}, deviation {deviation:.2f}")
    print("analysed all that was seen:", count == seen)


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 2.0))
