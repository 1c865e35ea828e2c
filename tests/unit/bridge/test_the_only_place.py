"""Threads and loops meet in `_bridge` only, so that their races are looked for in one place."""

import ast
from pathlib import Path

import aioconc

ROOT = Path(aioconc.__file__).parent

# Who may reach into a loop from another thread, and why.
ALLOWED = {
    "_bridge/_mailbox.py",
    # From a signal handler, in which a mailbox could meet its own lock.
    "runtime/_listen.py",
    "runtime/_signals.py",
    "testing/_loop.py",  # is a loop itself
}
REACHING_IN = {"call_soon_threadsafe", "run_coroutine_threadsafe"}


def test_nothing_else_reaches_into_a_loop_from_a_thread() -> None:
    """No module but those named above calls what asyncio has for it."""
    found = set()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in REACHING_IN:
                found.add(path.relative_to(ROOT).as_posix())
    assert found == ALLOWED
