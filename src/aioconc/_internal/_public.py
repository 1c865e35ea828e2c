"""Makes re-exported names carry the package that users import them from, and load when touched.

Tracebacks, pickles and help pages then show `aioconc.tasks.TaskGroup`, and the file that
holds the code may move. Called once, as the last line of every public package.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any


def publish(namespace: dict[str, Any], later: Mapping[str, str] | None = None) -> None:
    """Set `__module__` of every name in the package's `__all__` to the package.

    Args:
        namespace: the package's globals.
        later: names that are loaded when they are first touched -> the module that defines each,
            absolute, or a file of the package.
    """
    package = namespace["__name__"]
    later = later or {}

    def own(value: Any) -> Any:
        if "._" in getattr(value, "__module__", ""):  # a file of this project that is not public
            value.__module__ = package
        return value

    def load(name: str) -> Any:
        file = later.get(name)
        if file is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(file if "." in file else f"{package}.{file}")
        value = namespace[name] = own(getattr(module, name))
        return value

    for name in namespace["__all__"]:
        if name not in later:
            own(namespace[name])
    if later:
        namespace["__getattr__"] = load
        namespace["__dir__"] = lambda: sorted({*namespace, *namespace["__all__"]})
