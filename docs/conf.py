"""Sphinx configuration. Build with `nox -s docs`; a warning is an error."""

import aioconc

project = "aioconc"
author = "the aioconc contributors"
project_copyright = "the aioconc contributors"
version = release = aioconc.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"aioconc {version}"
html_static_path: list[str] = []
pygments_style = "friendly"
pygments_dark_style = "monokai"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

add_module_names = False
autodoc_typehints = "signature"
autodoc_default_options = {"undoc-members": False}
autodoc_type_aliases = {"Progress": "Progress", "RetryHook": "RetryHook"}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Cancellation", "notes_style")]
napoleon_preprocess_types = False

napoleon_use_ivar = True  # as items of a list: autodoc documents the fields of data classes itself

# Names in signatures that have no page here: the standard library's, and type variables.
nitpick_ignore_regex = [(r"py:.*", r"(?!aioconc\.).*"), (r"py:.*", r"aioconc\.(.*\.)?_.*")]
