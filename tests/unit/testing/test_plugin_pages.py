"""The pages about tests, run as the files of tests that they show."""

import re
import textwrap
from pathlib import Path

import pytest

from tests.unit.testing.plugin_runs import write

pytest_plugins = ["pytester"]

DOCS = Path(__file__).parents[3] / "docs"


def blocks(page: str) -> str:
    """The Python of a page."""
    text = (DOCS / page).read_text()
    found = re.findall(r"^( *)```python\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    return "\n".join(textwrap.dedent(code) for _, code in found)


@pytest.mark.parametrize(
    ("page", "count"), [("how-to/use-with-pytest.md", 9), ("tutorial/test-your-scraper.md", 4)]
)
def test_page_is_a_file_of_tests_that_pass(
    pytester: pytest.Pytester, page: str, count: int
) -> None:
    """What the page shows, written into one file, passes in strict mode."""
    if "scraper" in page:
        pytest.importorskip("aiohttp")
    write(pytester, blocks(page), mode="strict")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=count)
