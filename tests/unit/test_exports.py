"""The public names: one table, and everything that must agree with it, in both directions."""

import ast
import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

import aioconc
from aioconc.errors import MissingExtra

ROOT = Path(aioconc.__file__).parent
REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def public_packages() -> list[str]:
    """Every importable module without an underscore in its path, the root left out."""
    found = []
    for each in pkgutil.walk_packages(aioconc.__path__, "aioconc."):
        if any(part.startswith("_") for part in each.name.split(".")):
            continue
        found.append(each.name)
    return found


def load(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except MissingExtra as error:
        pytest.skip(str(error))


def type_checking_imports() -> dict[str, str]:
    """The names that type checkers see at the top level, and where they come from."""
    tree = ast.parse((ROOT / "__init__.py").read_text())
    (block,) = [
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    found: dict[str, str] = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        assert node.module is not None
        for alias in node.names:
            assert alias.asname == alias.name, f"write `{alias.name} as {alias.name}`"
            found[alias.name] = node.module
    return found


def test_export_table_equals_all() -> None:
    """The lazy table and `__all__` hold the same names, and `__all__` is sorted."""
    assert sorted(aioconc._EXPORTS) == sorted(aioconc.__all__)
    assert aioconc.__all__ == sorted(aioconc.__all__)
    assert len(set(aioconc.__all__)) == len(aioconc.__all__)


def test_type_checkers_see_what_runs() -> None:
    """The imports for type checkers name the same objects as the lazy table."""
    assert type_checking_imports() == aioconc._EXPORTS


@pytest.mark.parametrize("name", aioconc.__all__)
def test_name_is_the_one_its_package_defines(name: str) -> None:
    """A top-level name is the object of the package that the table gives, and listed there."""
    package = load(aioconc._EXPORTS[name])
    assert getattr(aioconc, name) is getattr(package, name)
    assert name in package.__all__


def test_unknown_name_is_an_attribute_error() -> None:
    """A misspelt name fails as in any other module."""
    with pytest.raises(AttributeError, match="module 'aioconc' has no attribute 'gather'"):
        _ = aioconc.gather  # type: ignore[attr-defined]


def test_dir_lists_every_name() -> None:
    """Completion in a shell shows the names that are not loaded yet."""
    assert set(aioconc.__all__) <= set(dir(aioconc))


@pytest.mark.parametrize("name", public_packages())
def test_package_all_is_complete(name: str) -> None:
    """What a package defines without an underscore is in its `__all__`, and all of that exists."""
    package = load(name)
    visible = {
        each
        for each, value in vars(package).items()
        if not each.startswith("_")
        and not inspect.ismodule(value)
        # What it imported for its own use has a module elsewhere.
        and f"{getattr(value, '__module__', '')}.".startswith(f"{name}.")
    }
    listed = set(package.__all__)
    assert not [each for each in listed if not hasattr(package, each)]
    if Path(package.__file__ or "").name == "__init__.py":  # a package only re-exports
        assert visible - listed - {"publish"} == set()


@pytest.mark.parametrize("name", public_packages())
def test_names_carry_the_package_users_import(name: str) -> None:
    """`__module__` is a public module, so that tracebacks, pickles and help show it."""
    package = load(name)
    for each in package.__all__:
        value = getattr(package, each)
        if isinstance(value, (type, FunctionType)):
            parts = value.__module__.split(".")
            assert not any(part.startswith("_") for part in parts), (each, value.__module__)


def reference_names() -> set[str]:
    """The names in the first column of the tables of the reference's front page."""
    text = (REFERENCE / "index.md").read_text()
    return set(re.findall(r"^\| \{py:obj\}`~?aioconc\.(?:\w+\.)*(\w+)`", text, re.MULTILINE))


def test_reference_page_lists_every_name() -> None:
    """The front page of the reference has each top-level name, and no other."""
    assert reference_names() == set(aioconc.__all__)


@pytest.mark.parametrize("name", public_packages())
def test_public_module_has_a_reference_page(name: str) -> None:
    """Each public package is documented from its own docstrings, on a page of its own."""
    if name in ("aioconc.demo", "aioconc.cli"):
        pytest.skip("a command, documented on the page of the command line")
    pages = "\n".join(each.read_text() for each in REFERENCE.glob("*.md"))
    assert re.search(rf"automodule:: {re.escape(name)}$", pages, re.MULTILINE), name


@pytest.mark.parametrize("name", aioconc.__all__)
def test_docstring_tells_what_a_caller_asks(name: str) -> None:
    """Each top-level name has an example that is run, and says what a cancel does if awaited."""
    value = getattr(load(aioconc._EXPORTS[name]), name)
    text = inspect.getdoc(value) or ""
    if not (isinstance(value, type) and issubclass(value, Exception)):
        assert "Example:" in text, f"{name} has no example"
        assert ">>>" in text, f"the example of {name} is not run"
    if inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(type(value).__call__):
        assert "Cancellation:" in text, f"{name} does not say what a cancel loses"
