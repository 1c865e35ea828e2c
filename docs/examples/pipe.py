"""Two processes that talk both ways: with a time limit for each answer, and a death that is told."""

import asyncio
import os
import signal
import sys

from aioconc import TaskGroup, WorkerCrashed, move_on_after, offload_cpu, open_channel
from aioconc.channels import Channel, PeerDied


def answer(channel: Channel[str]) -> None:
    with channel.sync as parent:
        for question in parent:  # ends when the other end closes
            if question == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if question != "are you asleep?":
                parent.send(question.upper())


async def main(last: str) -> None:
    ours, theirs = open_channel()
    async with TaskGroup() as group, ours:
        group.create_task(offload_cpu(answer, theirs))
        await ours.send("hello")
        print("answer:", await ours.receive())
        await ours.send("are you asleep?")
        with move_on_after(0.2) as waited:  # instead of poll(0.2)
            await ours.receive()
        print("no answer in time:", waited.cancelled_caught)
        await ours.send(last)
        print("answer:", await ours.receive())


if __name__ == "__main__":
    try:
        asyncio.run(main("die" if "die" in sys.argv else "goodbye"))
    except* (PeerDied, WorkerCrashed) as errors:
        print("told that it died:", errors.exceptions[0])
