"""Gets a site ready to be crawled: renders its pages, and runs the server that offers them.

`render_site` writes the documentation of this Python with `offload_cpu`, keeping what it wrote
for the next run. `serving` runs the server process for the length of a block. What is served and
what goes wrong is in the `Plan`.
"""

import asyncio
import os
import sys
import tempfile
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from aioconc import map_limited, offload_cpu, offload_io
from aioconc.demo._faults import Fault, Kind
from aioconc.demo._modules import render
from aioconc.demo._server import Plan

DOCS, MIRROR, SLOW = "docs.localhost", "mirror.localhost", "slow.localhost"


def cache_folder() -> Path:
    """Where pages of this Python are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    version = ".".join(str(part) for part in sys.version_info[:3])
    return Path(base, "aioconc", "demo", f"{sys.implementation.name}-{version}")


@contextmanager
def page_folder() -> Iterator[tuple[Path, str]]:
    """A folder for the pages, and why it is not the cache: "" if it is.

    Where the cache cannot be written and read, a temporary folder serves for this run.
    """
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            next(folder.iterdir(), None)
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home folder
        with tempfile.TemporaryDirectory(prefix="aioconc-demo-") as temporary:
            yield Path(temporary), str(error)
    else:
        yield folder, ""


async def render_site(
    modules: Sequence[str], folder: Path, told: Callable[[int, int], object]
) -> list[str]:
    """Make the pages of `modules` in `folder`; returns the names of the files that are there.

    `told(done, total)` hears of progress, counting only the pages that have to be made.
    """
    missing = [name for name in modules if not _is_readable(_page_file(folder, name))]
    done = 0

    async def make(name: str) -> None:
        nonlocal done
        text = await offload_cpu(render, name)
        await offload_io(_write, _page_file(folder, name), text or "")
        done += 1
        told(done, len(missing))

    if missing:
        told(0, len(missing))
        await map_limited(make, missing, limit=2 * (os.cpu_count() or 1))
    # An empty file says that the module cannot be imported here, so that no run tries again.
    return [f"{name}.html" for name in modules if _page_file(folder, name).stat().st_size]


def _page_file(folder: Path, name: str) -> Path:
    return folder / f"{name}.html"


def _is_readable(file: Path) -> bool:
    try:
        with file.open("rb"):
            return True
    except OSError:  # not there, or not ours: it is made anew
        return False


def _write(file: Path, text: str) -> None:
    """Whole or not at all: a run that is interrupted leaves no half page to the next."""
    handle, name = tempfile.mkstemp(dir=file.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
    Path(name).replace(file)


def plan_site(folder: Path, files: Sequence[str], faults: Sequence[Fault], seed: int) -> Plan:
    """Spread the pages over two hosts; the slow page gets a host of its own."""
    pages = {name: (DOCS, MIRROR)[zlib.crc32(name.encode()) % 2] for name in files}
    pages |= {fault.page: SLOW for fault in faults if fault.kind is Kind.SLOW}
    return Plan(
        root=str(folder),
        pages=pages,
        faults=tuple(faults),
        seed=seed,
        hosts=(DOCS, MIRROR, SLOW),
    )


def plan_folder(folder: Path) -> Plan:
    """Serve the user's own pages: one host, no delay, no faults."""
    found = sorted(
        file.relative_to(folder).as_posix()
        for suffix in ("*.html", "*.htm")
        for file in folder.rglob(suffix)
    )
    host = "files.localhost"
    return Plan(root=str(folder), pages=dict.fromkeys(found, host), delay=(0.0, 0.0), hosts=(host,))


@asynccontextmanager
async def serving(plan: Plan) -> AsyncIterator[int]:
    """Run the server in a process of its own for this block; gives its port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "aioconc.demo._server",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        # Ctrl-C is for the program; it ends the server by closing its standard input.
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(plan.to_json().encode() + b"\n")
        line = await process.stdout.readline()
        if not line:
            raise RuntimeError("the demo's web server did not start; its error is shown above")
        yield int(line)
    finally:
        process.stdin.close()
        await _ended(process)


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Wait for the server to end by itself; a cancelled or impatient caller kills it."""
    try:
        async with asyncio.timeout(3):
            await process.wait()
    except TimeoutError:
        pass
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
