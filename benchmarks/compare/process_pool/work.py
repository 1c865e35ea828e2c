"""What is run in the workers; loads nothing."""

from typing import Any


def spin() -> None:
    """Never end, and never let go of the GIL but by force."""
    while True:
        pass


def use_numpy(number: int) -> int:
    import numpy as np

    return int(np.asarray([number])[0])


def size(array: Any) -> int:
    return len(array)
