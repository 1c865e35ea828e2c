"""Memory follows the limit: measured in a process of its own, by its high-water mark."""

import subprocess
import sys

import pytest

SCRIPT = """
import asyncio, sys
from aioconc import map_limited

async def hop(item):
    await asyncio.sleep(0)

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024

async def main(form, size):
    await map_limited(hop, range(1000), limit=100)
    before = peak()
    if form == "list":
        results = await map_limited(hop, iter(range(size)), limit=100)
        expected = sys.getsizeof(results) / 2**20
    else:
        expected = 0
        async with map_limited(hop, iter(range(size)), limit=100) as results:
            async for _ in results:
                pass
    print(peak() - before - expected)

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    "size", [pytest.param(100_000), pytest.param(1_000_000, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("form", ["list", "stream"])
def test_a_million_items_cost_what_a_thousand_do(form, size):
    """Beside the list of results, no form grows by 20 MB, however many items there are."""
    command = [sys.executable, "-c", SCRIPT, form, str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 20
