"""Something to do once a module is loaded, by whatever loads it, without loading it here."""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def when_loaded(name: str, then: "Callable[[], object]") -> None:
    """Call `then` now if the module is loaded already, else right after it is."""
    if name in sys.modules:
        then()
    else:
        sys.meta_path.insert(0, _WhenLoaded(name, then))


class _WhenLoaded:
    """Sees one module being imported."""

    def __init__(self, name: str, then: "Callable[[], object]") -> None:
        self._name = name
        self._then = then

    def find_spec(self, name: str, path: "Any" = None, target: "Any" = None) -> "Any":
        if name != self._name:
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                self._execute = spec.loader.exec_module
                spec.loader.exec_module = self._load  # type: ignore[method-assign]
                return spec
        return None

    def _load(self, module: "Any") -> None:
        self._execute(module)
        self._then()
