"""Worker processes: one call each at a time, killed when it is cancelled, replaced when they die."""

from aioconc._internal._public import publish
from aioconc.executors.process._executor import ProcessExecutor

__all__ = ["ProcessExecutor"]

publish(globals())
