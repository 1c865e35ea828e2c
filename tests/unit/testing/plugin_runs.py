"""Runs of pytest over small suites, with the plugin as users get it."""

from typing import Any

import pytest

# Loaded here, since an inner run forgets the modules that it was first to load, and would leave a
# second copy of the loop behind.
import aioconc.testing._blocking
import aioconc.testing._explore
import aioconc.testing._leaks
import aioconc.testing._plugin._clock
import aioconc.testing._plugin._report  # noqa: F401

INI = """
[pytest]
asyncio_mode = {mode}
asyncio_default_fixture_loop_scope = function
filterwarnings = error
{more}
"""

HEAD = """
import asyncio
import pytest
import pytest_asyncio
from aioconc.testing import Schedule, explore, settle

marked = pytest.mark.aioconc
"""


def run(
    pytester: pytest.Pytester, code: str, *options: str, mode: str = "auto", ini: str = ""
) -> Any:
    """The result of running `code` as a file of tests."""
    write(pytester, code, mode=mode, ini=ini)
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", "-vv", *options)


def write(pytester: pytest.Pytester, code: str, *, mode: str = "auto", ini: str = "") -> None:
    """The file of tests and its configuration."""
    pytester.makefile(".ini", pytest=INI.format(mode=mode, more=ini))
    pytester.makepyfile(test_it=HEAD + code)


def passes(result: Any, count: int) -> None:
    """The run passed, with so many tests."""
    result.assert_outcomes(passed=count)
