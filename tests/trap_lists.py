"""The lists of known traps, each with its tests: a test that is renamed or lost is missed."""

import ast
from collections.abc import Iterable
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parent


@cache
def names_in(file: str, *, imported: bool) -> frozenset[str]:
    """The functions of a test file, those in classes too; and, if asked, those that it imports."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, *([ast.alias] if imported else []))
    tree = ast.parse((TESTS / file).read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


def missing(listed: Iterable[tuple[str, str]], *, imported: bool = False) -> list[str]:
    """Those that do not exist.

    Args:
        listed: file, and the name of a test after `test_`.
        imported: a test that the file takes from a contract is collected there, and counts.
    """
    return [
        f"{file}::test_{name}"
        for file, name in listed
        if f"test_{name}" not in names_in(file, imported=imported)
    ]
