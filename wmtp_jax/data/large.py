"""Functions of large arrays that need little memory beside their result."""

import contextlib
import ctypes

import numpy as np

_AT_ONCE = 1 << 18


def narrow(numbers: np.ndarray, n: int) -> np.ndarray:
    """Numbers below n, in int32 where that holds them."""
    return numbers.astype(np.int32) if n <= np.iinfo(np.int32).max else numbers


def rows_where(mask: np.ndarray) -> np.ndarray:
    """Numbers of the true elements.

    Args:
        mask: bool [n].

    Returns:
        int32 [number of true elements].
    """
    parts = [
        narrow(np.flatnonzero(mask[begin : begin + _AT_ONCE]) + begin, len(mask))
        for begin in range(0, len(mask), _AT_ONCE)
    ]
    return np.concatenate([np.zeros(0, np.int32), *parts])


def count(numbers: np.ndarray, n: int) -> np.ndarray:
    """How often each of 0..n-1 occurs.

    Args:
        numbers: int [any], each below n.
        n: How many there are.

    Returns:
        int64 [n].
    """
    counts = np.zeros(n, np.int64)
    for begin in range(0, len(numbers), _AT_ONCE):
        counts += np.bincount(numbers[begin : begin + _AT_ONCE], minlength=n)
    return counts


def order_of_appearance(numbers: np.ndarray) -> np.ndarray:
    """Renumbers 0, 1, 2, .. in the order of the first occurrence.

    Args:
        numbers: int32 [n], not negative.

    Returns:
        int32 [n], equal where `numbers` are equal.
    """
    first = np.zeros(int(numbers.max()) + 1, np.int64)
    # From the end on, so that the first occurrence is what remains.
    for begin in range((len(numbers) - 1) // _AT_ONCE * _AT_ONCE, -1, -_AT_ONCE):
        some = numbers[begin : begin + _AT_ONCE]
        first[some[::-1]] = np.arange(begin, begin + len(some))[::-1]
    occurring = np.flatnonzero(count(numbers, len(first)))
    renumbered = np.zeros(len(first), np.int32)
    renumbered[occurring[np.argsort(first[occurring], kind="stable")]] = np.arange(len(occurring))
    return renumbered[numbers]


def return_freed_memory() -> None:
    """Returns to the system what was freed: glibc keeps it for later, which is most of what large columns left."""
    with contextlib.suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
