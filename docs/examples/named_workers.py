"""Workers with names: of tasks, threads and processes, and of the call that each of them runs."""

import asyncio
import time

from aioconc import ProcessExecutor, TaskGroup, ThreadExecutor, worker


def serve(seconds: float) -> str:
    time.sleep(seconds)  # stands for work
    here = worker.info()
    return f"{here.name} ran in {here.thread} of a {here.executor}"


async def report(pool: ThreadExecutor | ProcessExecutor, name: str) -> None:
    said = await pool.options(name=name).run(serve, 0.01)
    task = asyncio.current_task()
    assert task is not None
    print(f"[{task.get_name()}] {said}")


async def main() -> None:
    async with (
        ThreadExecutor(2, name="clerk") as clerks,
        ProcessExecutor(1) as office,
        TaskGroup() as group,
    ):
        group.start_soon(report, clerks, "letters", name="first task")
        group.start_soon(report, clerks, "parcels", name="second task")
        group.start_soon(report, office, "forms", name="third task")


if __name__ == "__main__":
    asyncio.run(main())
