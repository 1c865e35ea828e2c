"""Pages that say much the same, found by their fingerprints without comparing all with all.

Fingerprints are cut into bands; pages that agree in a whole band are compared (locality-sensitive
hashing). Pairs that share a fifth of their text are nearly always found.
"""

from collections import defaultdict
from collections.abc import Iterable
from itertools import combinations

from aioconc.demo._journal import PageNote
from aioconc.demo._parse import SKETCH_SIZE, likeness

# Two numbers a band: of pairs that share a fifth of their shingles, 1 - (1 - 0.2**2)**32 = 73 %
# are found, of those that share a third 98 %.
_BAND = 2
# A band that so many pages share says little about any two of them (text that is in every page).
_CROWD = 40


def similar_pages(
    pages: Iterable[PageNote], *, most: int = 10, least: float = 0.2
) -> list[tuple[float, PageNote, PageNote]]:
    """The pairs of pages most alike, best first: how alike, and the two."""
    buckets: dict[tuple[int, tuple[int, ...]], list[PageNote]] = defaultdict(list)
    for page in pages:
        if page.sketch and page.words >= 50:  # short pages are alike by chance
            for at in range(0, SKETCH_SIZE, _BAND):
                buckets[at, page.sketch[at : at + _BAND]].append(page)
    pairs = {
        (one.url, other.url): (one, other)
        for bucket in buckets.values()
        if len(bucket) <= _CROWD
        for one, other in combinations(bucket, 2)
    }
    scored = [(likeness(one.sketch, other.sketch), one, other) for one, other in pairs.values()]
    scored = [each for each in scored if each[0] >= least]
    return sorted(scored, key=lambda each: (-each[0], each[1].url, each[2].url))[:most]
