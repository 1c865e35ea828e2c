"""Runs the examples: docstrings of the package, and the Python blocks of README.md and docs/.

A block between `python` fences is executed, top to bottom, in one namespace for each page. A
`pycon` block is checked like a doctest. What a page is not to run is fenced as `text`.
"""

from sybil import Sybil
from sybil.document import PythonDocStringDocument
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser
from sybil.parsers.rest import DocTestParser

_docstrings = Sybil(
    parsers=[DocTestParser()],
    path="src",
    patterns=["**/*.py"],
    document_types={".py": PythonDocStringDocument},
)
_pages = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    path=".",
    patterns=["README.md", "docs/*.md", "docs/*/*.md", "docs/*/*/*.md"],
)

pytest_collect_file = (_docstrings + _pages).pytest()
