"""Start children in a task group and leave the group when all have ended.

Every answer is `async (fn, argument, size)`: one group, in which `fn(argument)` is started `size`
times.
"""

BASE = "asyncio.TaskGroup"
ANYIO = "anyio.create_task_group"
OURS = "aioconc.TaskGroup.create_task"

ANSWERS = {
    BASE: "asyncio_group:spawn_and_join",
    ANYIO: "anyio_group:spawn_and_join",
    OURS: "aioconc_group:spawn_and_join",
    "aioconc.TaskGroup.start_soon": "aioconc_group:spawn_and_join_soon",
}
"""Name in the tables -> where the answer is."""
