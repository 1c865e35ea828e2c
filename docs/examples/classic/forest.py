"""The same in the event loop itself."""

import asyncio
import sys
import time


def fit(rows):
    from sklearn.datasets import make_classification
    from sklearn.ensemble import RandomForestClassifier

    points, classes = make_classification(n_samples=rows, n_features=20, random_state=1)
    forest = RandomForestClassifier(n_estimators=50, random_state=1)
    forest.fit(points[: rows // 2], classes[: rows // 2])
    return float(forest.score(points[rows // 2 :], classes[rows // 2 :]))


async def beat(late):
    while True:
        before = time.perf_counter()
        await asyncio.sleep(0.01)
        late.append(time.perf_counter() - before - 0.01)


async def main(rows):
    late = []
    server = asyncio.create_task(beat(late))
    await asyncio.sleep(0)
    begun = time.perf_counter()
    score = fit(rows)
    print(f"score {score:.2f} after {time.perf_counter() - begun:.2f} s")
    await asyncio.sleep(0.02)
    print(f"{len(late)} turns of the loop meanwhile, the latest {max(late) * 1e3:.0f} ms late")
    server.cancel()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
