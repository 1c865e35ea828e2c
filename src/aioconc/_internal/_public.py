"""Makes re-exported names carry the package that users import them from.

Tracebacks, pickles and help pages then show `aioconc.tasks.TaskGroup`, and the file that
holds the code may move. Called once, as the last line of every public package.
"""

from typing import Any


def publish(namespace: dict[str, Any]) -> None:
    """Set `__module__` of every name in the package's `__all__` to the package."""
    package = namespace["__name__"]
    for name in namespace["__all__"]:
        value = namespace[name]
        if getattr(value, "__module__", "").startswith(package + "._"):
            value.__module__ = package
