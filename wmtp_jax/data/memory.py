"""Functions of large arrays that take little memory beside their result."""

import contextlib
import ctypes

import numpy as np


def stable_order(keys: np.ndarray) -> np.ndarray:
    """int32 [n], numpy's stable argsort of integers by their low 32 bits, unsigned; faster and in half the memory."""
    keys = np.left_shift(keys, 32, dtype=np.uint64, casting="unsafe")
    keys |= np.arange(len(keys), dtype=np.uint32)
    keys.sort()
    return keys.astype(np.uint32).view(np.int32)


def return_freed_memory() -> None:
    """Returns to the system what was freed: glibc keeps it for later, which is most of what large columns left."""
    with contextlib.suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
