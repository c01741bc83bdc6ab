"""What is kept of pictures, compared all with all: hashes by their bits, vectors by their cosine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["least_bits", "most_alike"]

_WORDS = 4  # of 64 bits in a PDQ hash
_FARTHEST_BITS = 256


def least_bits(
    views: NDArray[np.uint8], hashes: NDArray[np.uint8], owners: NDArray[np.int64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many bits each of some pictures is from another one, in the view and by the hash that are nearest.

    Args:
        views: uint8 (V, 32), the PDQ hashes of one picture in V views.
        hashes: uint8 (H, 32), those of the others, of which each may have several.
        owners: int64 (H,), 0..count-1: whose each hash is.
        count: how many other pictures there are.

    Returns:
        int64 (count,), 0..256, the bits (256 where a picture has no hash), and int64 (count,), 0..V-1, the views.
    """
    theirs = np.ascontiguousarray(hashes).view(np.uint64).reshape(-1, _WORDS)
    least, view = np.full(count, _FARTHEST_BITS, np.int64), np.zeros(count, np.int64)
    for at, ours in enumerate(np.ascontiguousarray(views).view(np.uint64).reshape(-1, _WORDS)):
        apart = np.bitwise_count(theirs ^ ours).sum(axis=1, dtype=np.int64)
        each = np.full(count, _FARTHEST_BITS, np.int64)
        np.minimum.at(each, owners, apart)
        nearer = each < least
        least, view = np.where(nearer, each, least), np.where(nearer, at, view)
    return least, view


def most_alike(
    looks: NDArray[np.float32], vectors: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """How alike each of some pictures is to another one, by the look at that which is most alike.

    Args:
        looks: float32 (V, D), V >= 1, unit length, the looks at one picture.
        vectors: float32 (N, D), unit length, those of the others.

    Returns:
        float32 (N,), the cosine; int64 (N,), 0..V-1, the look.
    """
    cosines = vectors @ looks.T
    nearest = cosines.argmax(axis=1).astype(np.int64)
    return np.take_along_axis(cosines, nearest[:, None], axis=1)[:, 0], nearest
