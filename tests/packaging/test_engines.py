"""Each package from outside is imported in the one place that is about it, and nowhere else.

Read from the source itself, so that an import inside a function, one for type checkers and one by
name (`import_module("aiohttp")`) are found too.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "aioconc"

# Package -> the files, or folders with all that is in them, that may import it. What is not listed
# may be imported nowhere.
PLACES = {
    "aiohttp": ["demo"],
    # Where its scopes must be left alone, for its subinterpreters, and for its streams.
    "anyio": [
        "flow/_sinks.py",
        "executors/_interpreter_pool.py",
        "channels/_channel.py",
        "channels/_errors.py",
        "servers",
    ],
    "cloudpickle": ["_wire/_pickled.py"],
    "gevent": ["executors/greenlets/_gevent.py"],
    "greenlet": ["executors/greenlets/_greenlet.py"],
    "hypothesis": ["testing"],
    # For its types, and where it is loaded already: it copies without holding up other threads.
    "numpy": ["channels/_item_types.py", "channels/_shared_array.py", "_wire/_memory.py"],
    "pytest": ["testing"],
    # The two sides of one traceback.
    "tblib": ["executors/_futures.py", "executors/_remote.py", "worker/_failures.py"],
    "uvloop": ["runtime/_run.py"],
}


def imported(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """The top-level packages that the code imports anywhere in it, each with its line."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else None
            called = node.func.id if isinstance(node.func, ast.Name) else called
            if called in {"import_module", "__import__"} and node.args:
                text = node.args[0]
                if isinstance(text, ast.JoinedStr):  # its beginning tells the package
                    text = text.values[0]
                if isinstance(text, ast.Constant):
                    names = [str(text.value)]
        for name in names:
            yield name.partition(".")[0], node.lineno


def misplaced(file: Path, code: str) -> list[str]:
    """A line for each import of a package from outside that has no place in the file."""
    here = file.relative_to(SOURCE)
    found = []
    for package, line in imported(ast.parse(code)):
        if package == "aioconc" or package in sys.stdlib_module_names:
            continue
        places = [Path(each) for each in PLACES.get(package, [])]
        if not any(here == place or place in here.parents for place in places):
            found.append(f"{here}:{line} imports {package}")
    return found


def test_engines_are_imported_in_their_places() -> None:
    """No file imports a package from outside that it is not listed for."""
    files = sorted(SOURCE.rglob("*.py"))
    assert len(files) > 50
    assert not [line for file in files for line in misplaced(file, file.read_text())]


@pytest.mark.parametrize(
    "code",
    [
        "import uvloop",
        "import uvloop.loop as loop",
        "from uvloop import Loop",
        "def f():\n    import uvloop",
        "if TYPE_CHECKING:\n    from uvloop import Loop",
        "import_module('uvloop')",
        "importlib.import_module('uvloop.loop')",
        "import_module(f'uvloop.{part}')",
        "__import__('uvloop')",
    ],
)
def test_every_form_of_an_import_is_seen(code: str) -> None:
    """An engine is found however it is imported, and only where it has no place."""
    assert misplaced(SOURCE / "tasks" / "_group.py", code)
    assert not misplaced(SOURCE / "runtime" / "_run.py", code)
