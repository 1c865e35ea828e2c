"""Draws countdown.svg: the countdown measured many times, the best of each shown as a bar."""

import asyncio
import os
import platform
import sys
from pathlib import Path

from countdown import measure

ROW, LEFT, WIDTH = 44, 170, 420


async def best_of(rounds: int, n: int) -> dict[str, float]:
    found = [await measure(n) for _ in range(rounds)]
    return {name: min(each[name] for each in found) for name in found[0]}


def draw(seconds: dict[str, float], caption: str) -> str:
    longest = max(seconds.values())
    height = ROW * len(seconds) + 50
    box = f'viewBox="0 0 {LEFT + WIDTH + 90} {height}" font-family="sans-serif" font-size="14"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box}>',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for row, (name, value) in enumerate(seconds.items()):
        top = 12 + row * ROW
        bar = WIDTH * value / longest
        parts += [
            f'<text x="{LEFT - 10}" y="{top + 19}" text-anchor="end">{name}</text>',
            f'<rect x="{LEFT}" y="{top}" width="{bar:.0f}" height="28" fill="#4477aa"/>',
            f'<text x="{LEFT + bar + 8:.0f}" y="{top + 19}">{value:.3f} s</text>',
        ]
    parts += [f'<text x="{LEFT}" y="{height - 14}" font-size="12">{caption}</text>', "</svg>", ""]
    return "\n".join(parts)


if __name__ == "__main__":
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 3_000_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 25
    target = Path(sys.argv[3]) if len(sys.argv) > 3 else Path(__file__).with_name("countdown.svg")
    found = asyncio.run(best_of(rounds, n))
    caption = (
        f"two countdowns from {n:,}, best of {rounds}; CPython {platform.python_version()}, "
        f"{len(os.sched_getaffinity(0))} cores"
    )
    target.write_text(draw(found, caption))
    print(f"wrote {target.name}:", ", ".join(f"{name} {s:.3f} s" for name, s in found.items()))
