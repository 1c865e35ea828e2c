"""The same with `multiprocessing.Pipe` and poll."""

import multiprocessing
import os
import signal
import sys


def answer(connection):
    while True:
        try:
            question = connection.recv()
        except EOFError:
            return
        if question == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if question != "are you asleep?":
            connection.send(question.upper())


if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=answer, args=(theirs,))
    process.start()
    if "close" in sys.argv:
        theirs.close()  # easily forgotten, since all works without it
    ours.send("hello")
    print("answer:", ours.recv())
    ours.send("are you asleep?")
    print("no answer in time:", not ours.poll(0.2))
    ours.send("die" if "die" in sys.argv else "goodbye")
    if ours.poll(3):
        try:
            print("answer:", ours.recv())
        except (EOFError, ConnectionResetError):
            print("told that it died")
    else:
        print("recv() would wait for ever")
    ours.close()
    theirs.close()
    process.join(timeout=5)
    print("exit code:", process.exitcode)
