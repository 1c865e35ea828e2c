"""Which modules of this Python are documented, and the page of one of them.

`choose_modules` lists standard-library modules without importing any; `render` imports one and
is therefore called in worker processes only. Modules that do something when they are imported
(open a browser, a window, print a poem) are left out.
"""

import contextlib
import os
import pkgutil
import sys
import sysconfig
import zlib
from collections.abc import Iterator
from pathlib import Path

# They act, print, open windows or only exist for another system.
_LEFT_OUT = frozenset(
    "antigravity ensurepip idlelib lib2to3 msilib msvcrt nt nturl2path ossaudiodev pyexpat spwd "
    "test this tkinter turtle turtledemo venv winreg winsound".split()
)
# Packages whose modules are pages of their own; the others get one page.
_OPENED = (
    "asyncio collections concurrent concurrent.futures email html http importlib importlib.metadata"
    " json logging multiprocessing unittest urllib wsgiref xml xml.dom xml.etree xml.sax xmlrpc"
).split()
# What a reader is likely to search for first; these are in every crawl that is not tiny.
_KNOWN = (
    "json pathlib re sqlite3 dataclasses itertools functools collections heapq queue threading "
    "argparse csv datetime random statistics shutil tempfile urllib.parse urllib.request "
    "html.parser concurrent.futures.process asyncio.taskgroups asyncio.queues asyncio.timeouts"
).split()


def choose_modules(count: int) -> list[str]:
    """Names of `count` modules, or of all there are: well-known ones, then a mixture."""
    known = dict.fromkeys(_KNOWN)
    # By checksum, so that a part of the list is a fair sample: long and short pages, no alphabet.
    rest = sorted(set(_all_modules()), key=lambda name: (zlib.crc32(name.encode()), name))
    names = [*known, *(name for name in rest if name not in known)]
    return names[:count]


def _all_modules() -> Iterator[str]:
    for name in sys.stdlib_module_names:
        if not name.startswith("_") and name not in _LEFT_OUT and _exists(name):
            yield name
    library = sysconfig.get_path("stdlib")
    for package in _OPENED:
        for module in pkgutil.iter_modules([str(Path(library, *package.split(".")))]):
            if not module.name.startswith("_") and "windows" not in module.name:
                yield f"{package}.{module.name}"


def _exists(name: str) -> bool:
    """Whether this build has the module; found without importing it."""
    if name in sys.builtin_module_names:
        return True
    library = sysconfig.get_path("stdlib")
    return any(
        found.name == name
        for folder in (library, str(Path(library, "lib-dynload")))
        for found in _modules_in(folder)
    )


_listed: dict[str, list[pkgutil.ModuleInfo]] = {}


def _modules_in(folder: str) -> list[pkgutil.ModuleInfo]:
    if folder not in _listed:
        _listed[folder] = list(pkgutil.iter_modules([folder]))
    return _listed[folder]


def render(name: str) -> str | None:
    """The page that `pydoc` writes for a module, or None where it cannot be imported here.

    Imports the module, so it belongs in a process of its own; whatever that prints is dropped.
    """
    import importlib
    import pydoc
    import warnings

    with _muzzled(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            module = importlib.import_module(name)
            writer = pydoc.HTMLDoc()
            return writer.page(name, writer.document(module, name))
        except (Exception, SystemExit):
            # A module of the library that does not work on this build; the demo does without.
            return None


@contextlib.contextmanager
def _muzzled() -> Iterator[None]:
    """Output of Python and of C code goes nowhere."""
    saved = [(fd, os.dup(fd)) for fd in (1, 2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for fd, _ in saved:
            os.dup2(nowhere, fd)
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        for fd, copy in saved:
            os.dup2(copy, fd)
            os.close(copy)
        os.close(nowhere)
