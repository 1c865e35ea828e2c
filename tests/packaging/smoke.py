"""Run against an installed wheel, without the source tree and without pytest.

Exits with a traceback if what users install lacks something that the source tree has.
"""

import asyncio
import subprocess
import sys
import tempfile
from importlib.metadata import entry_points, metadata
from importlib.resources import files

import aioconc


async def double(x: int) -> int:
    await asyncio.sleep(0)
    return 2 * x


def square(x: int) -> int:
    return x * x


async def main() -> None:
    assert await aioconc.gather_limited((double(x) for x in range(100)), limit=7) == [
        *range(0, 200, 2)
    ]
    assert await aioconc.offload_io(square, 7) == 49
    assert await aioconc.offload_cpu(square, 8) == 64
    async with aioconc.TaskGroup() as group:
        handle = group.start_soon(double, 21)
    assert handle.result() == 42


if __name__ == "__main__":
    root = files("aioconc")
    assert "site-packages" in str(root), f"the source tree was imported: {root}"
    assert root.joinpath("py.typed").is_file(), "the wheel lacks py.typed"
    assert metadata("aioconc")["Version"] == aioconc.__version__
    assert [each.value for each in entry_points(group="console_scripts", name="aioconc")] == [
        "aioconc.__main__:main"
    ]
    for name in aioconc.__all__:
        getattr(aioconc, name)
    asyncio.run(main())
    for command in (["--version"], ["--help"]):
        subprocess.run([sys.executable, "-m", "aioconc", *command], check=True)
    with tempfile.TemporaryDirectory() as folder:
        # Ends with status 1 and a sentence if the extra is missing, which here it is: no traceback.
        done = subprocess.run(
            [sys.executable, "-m", "aioconc", "demo"],
            cwd=folder,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1, done
        assert "aioconc[http]" in done.stderr, done.stderr
        assert "Traceback" not in done.stderr, done.stderr
    print("the wheel works")
