"""Structured concurrency: scopes, groups, supervision.

Every task has an owner, and the owner's block ends only when the task has ended.
"""

from aioconc._internal._public import publish
from aioconc.tasks._child import TaskStatus
from aioconc.tasks._group import GroupStatistics, TaskGroup
from aioconc.tasks._handle import TaskHandle
from aioconc.tasks._scope import CancelScope, effective_deadline, fail_after, move_on_after
from aioconc.tasks._shield import shielded
from aioconc.tasks._supervisor import SupervisedChild, Supervisor, SupervisorStatistics

__all__ = [
    "CancelScope",
    "GroupStatistics",
    "SupervisedChild",
    "Supervisor",
    "SupervisorStatistics",
    "TaskGroup",
    "TaskHandle",
    "TaskStatus",
    "effective_deadline",
    "fail_after",
    "move_on_after",
    "shielded",
]

publish(globals())
