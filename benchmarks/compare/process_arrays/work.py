"""What the workers do with an array."""

from typing import Any

Array = Any


def first(array: Array) -> float:
    """A number that needs hardly anything of the array."""
    return float(array[0])


def total(array: Array) -> float:
    """A number that needs all of it."""
    return float(array.sum())


def same(array: Array) -> Array:
    """The array itself."""
    return array


def twice(array: Array) -> Array:
    """An array that is new."""
    return array + array
