"""An image and pictures near it in; how an ideal denoiser would weigh them, patch by patch, out. No model is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

__all__ = ["Patches", "Retrieved", "data_noise", "patch_weights", "posterior", "retrieve"]

_LEAST_NOISE = 2 / 255  # in -1..1: one grey level; what is finer is rounding
_MOST_ROWS = 256  # pictures whose own neighbours choose the noise level
_MOST_OTHERS = 2_000  # among so many pictures
_MOST_PLACES = 16  # at so many places of a patch
_ROUNDS = 50  # of the fixed point, at most; it stops when the level moves by less than _SETTLED
_SETTLED = 1e-4  # of the level, relative
_QUERIES_AT_ONCE = 256  # rows of weights in memory: 4 MB with 2,000 candidates
_CANDIDATES = 2_000  # nearest by the copy descriptor, that are weighed

Values = NDArray[np.float64]


class Patches(NamedTuple):
    """Square patches, side and step in pixels; a side of the picture or more is one patch, the whole."""

    side_px: int = 8
    stride_px: int = 4

    def places(self, side_px: int) -> tuple[int, ...]:
        """Where patches start along a side of so many pixels: rising, the last one touching the edge."""
        last = max(side_px - self.side_px, 0)
        return (*range(0, last, self.stride_px), last)


class Retrieved(NamedTuple):
    """Candidates, the likeliest first; where that is equal, the nearest first.

    Attributes:
        rows: int64 (n,), which.
        similarities: float64 (n,), -1..1, by the copy descriptor.
        posteriors: float64 (n,), 0..1, adding up to 1.
    """

    rows: NDArray[np.int64]
    similarities: Values
    posteriors: Values


def retrieve(
    similarities: NDArray[np.floating],
    query: NDArray[np.uint8],
    read: Callable[[NDArray[np.int64]], NDArray[np.uint8]],
    limit: int = _CANDIDATES,
    noise: float | None = None,
) -> Retrieved:
    """The retrieval tier: the nearest by the copy descriptor, re-ranked by the patch posterior.

    Args:
        similarities: float (N,), cosines of the copy descriptors of all N pictures with the query's.
        query: uint8 (S, S, 3), RGB, made square and small as the pictures were.
        read: small pictures of some rows, uint8 (n, S, S, 3); an index keeps them at 32 px.
        limit: candidates, the nearest of all, >= 1.
        noise: of `data_noise`; default: chosen from the candidates themselves.

    Returns:
        The candidates; none where there is no picture.
    """
    near = np.argsort(-np.asarray(similarities), kind="stable")[:limit].astype(np.int64)
    if not len(near):
        return Retrieved(near, np.zeros(0), np.zeros(0))
    weights = posterior(query[None], read(near), noise)[0]
    order = np.argsort(-weights, kind="stable")
    return Retrieved(near[order], np.asarray(similarities, np.float64)[near][order], weights[order])


def posterior(
    queries: NDArray[np.uint8],
    images: NDArray[np.uint8],
    noise: float | None = None,
    patches: Patches | None = None,
) -> Values:
    """The share of each image in what an ideal denoiser would make of each query.

    Args:
        queries: uint8 (Q, S, S, 3), RGB.
        images: uint8 (N, S, S, 3), the candidates, N >= 1.
        noise: standard deviation of the noise, of values in -1..1; default: `data_noise` of the images.
        patches: what is compared; default: 8 px every 4.

    Returns:
        float64 (Q, N), 0..1, every row adding up to 1. Deterministic; O(Q N S S 3) a place, on the CPU.

    Source: Kamb and Ganguli 2024, "An analytic theory of creativity in convolutional diffusion models", section 3: a
    denoiser that sees no more than a patch weighs training images patch by patch. We differ in taking the query for the
    mean of its noised versions, in averaging the weights over places, and in choosing the noise by `data_noise`.
    """
    level = data_noise(images, patches) if noise is None else noise
    if not level > 0:
        raise ValueError(f"found the noise {level}, expected one above 0; leave it out to choose it from the images")
    kept = 1 / (1 + level**2)
    return patch_weights(np.sqrt(kept) * _values(queries), _values(images), kept, patches)


def patch_weights(noisy: Values, images: Values, kept: float, patches: Patches | None = None) -> Values:
    """The weights of an ideal denoiser's mean, averaged over patches.

    Args:
        noisy: float64 (Q, S, S, C), sqrt(kept) image + sqrt(1 - kept) noise.
        images: float64 (N, S, S, C), -1..1.
        kept: share of the image's variance that is left, in 0..1, neither end.
        patches: what is compared.

    Returns:
        float64 (Q, N): the mean over patches p of softmax over i of -|noisy_p - sqrt(kept) image_ip|^2 / 2 (1 - kept).
    """
    chosen = patches or Patches()
    total, places = np.zeros((len(noisy), len(images))), 0
    for square in _squares(images.shape[1], chosen):
        own = np.sqrt(kept) * _cut(images, square)
        for start in range(0, len(noisy), _QUERIES_AT_ONCE):
            rows = slice(start, start + _QUERIES_AT_ONCE)
            total[rows] += softmax(-_squared(_cut(noisy[rows], square), own) / (2 * (1 - kept)), axis=1)
        places += 1
    return np.asarray(total / places)


def data_noise(images: NDArray[np.uint8], patches: Patches | None = None) -> float:
    """The noise level at which pictures explain each other's patches best, from the pictures alone.

    Every patch is held against the same place of all other pictures; the level is the one that makes what is seen there
    likeliest (leave-one-out maximum likelihood of a Gaussian kernel density, one level for all). Pictures that are the
    same to a grey level do not explain each other.

    Args:
        images: uint8 (N, S, S, 3). Of more than 2,000, evenly many are taken.
        patches: what is compared.

    Returns:
        A standard deviation, of values in -1..1; one grey level at least. One grey level for fewer than two pictures
        that differ, where there is nothing to choose it by.

    Source: Habbema, Hermans and van den Broek 1974, and Duin 1976, "On the choice of smoothing parameters for Parzen
    estimators of probability density functions"; the maximum is found as the fixed point of its derivative (EM).
    """
    taken = _values(images[_evenly(len(images), _MOST_OTHERS)])
    rows = _evenly(len(taken), _MOST_ROWS)
    apart = _squared(_cut(taken[rows], None), _cut(taken, None)) / taken[0].size if len(taken) else np.zeros((0, 0))
    others = apart > _LEAST_NOISE**2
    rows, others = rows[others.any(axis=1)], others[others.any(axis=1)]
    if not len(rows):
        return _LEAST_NOISE
    squares = list(_squares(taken.shape[1], patches or Patches()))
    squares = [squares[at] for at in _evenly(len(squares), _MOST_PLACES)]
    found = [_squared(_cut(taken[rows], one), _cut(taken, one)) / _cut(taken[:1], one).shape[1] for one in squares]
    values = _cut(taken[:1], squares[0]).shape[1]
    return _likeliest(np.where(others, np.stack(found), np.inf).reshape(-1, len(taken)), values)


def _likeliest(squared: Values, values: int) -> float:
    """The level for mean squared distances (M, N) of patches of so many values; `inf` is no pair."""
    variance = float(squared.min(axis=1).mean())
    variance = max(variance, _LEAST_NOISE**2)
    for _ in range(_ROUNDS):
        weights = softmax(-squared * values / (2 * variance), axis=1)
        found = float((weights * np.where(np.isfinite(squared), squared, 0)).sum(axis=1).mean())
        moved, variance = abs(found - variance), max(found, _LEAST_NOISE**2)
        if moved <= _SETTLED * variance:
            break
    return float(np.sqrt(variance))


def _evenly(count: int, most: int) -> NDArray[np.int64]:
    """So many of 0..count-1 at most, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def _values(pixels: NDArray[np.uint8]) -> Values:
    return np.asarray(pixels, np.float64) / 127.5 - 1


def _squares(side_px: int, patches: Patches) -> Iterator[tuple[slice, slice]]:
    wide = min(patches.side_px, side_px)
    for top in patches.places(side_px):
        for left in patches.places(side_px):
            yield slice(top, top + wide), slice(left, left + wide)


def _cut(images: Values, square: tuple[slice, slice] | None) -> Values:
    """One patch of each image, or all of it, as a row: (N, values)."""
    part = images if square is None else images[:, square[0], square[1]]
    return part.reshape(len(part), -1)


def _squared(ones: Values, others: Values) -> Values:
    """Squared distances of all pairs, >= 0: (Q, N)."""
    found = (ones**2).sum(1)[:, None] + (others**2).sum(1) - 2 * ones @ others.T
    return np.asarray(np.maximum(found, 0))
