"""Fits a random forest in a process while the event loop goes on answering."""

import asyncio
import sys
import time

from aioconc import ProcessExecutor, TaskGroup


def fit(rows: int) -> float:
    from sklearn.datasets import make_classification
    from sklearn.ensemble import RandomForestClassifier

    points, classes = make_classification(n_samples=rows, n_features=20, random_state=1)
    forest = RandomForestClassifier(n_estimators=50, random_state=1)
    forest.fit(points[: rows // 2], classes[: rows // 2])
    return float(forest.score(points[rows // 2 :], classes[rows // 2 :]))


async def beat(late: list[float]) -> None:
    """Stands for a server: notes how late each of its turns is."""
    while True:
        before = time.perf_counter()
        await asyncio.sleep(0.01)
        late.append(time.perf_counter() - before - 0.01)


async def main(rows: int) -> None:
    late: list[float] = []
    begun = time.perf_counter()
    async with ProcessExecutor(1) as pool, TaskGroup() as group:
        group.start_background(beat, late)
        score = await pool.options(timeout=300, name="fit the forest").run(fit, rows)
    print(f"score {score:.2f} after {time.perf_counter() - begun:.2f} s")
    print(f"{len(late)} turns of the loop meanwhile, the latest {max(late) * 1e3:.0f} ms late")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
