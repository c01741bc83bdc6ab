"""Pictures of 16 holders made by a seeded program: what a tiny model is trained on to measure attribution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["HOLDERS", "BenchPictures", "draw_pictures"]

HOLDERS = 16
"""Each with a shape, a texture behind it and two colours of its own."""

_FINER = 4  # samples a pixel and direction, averaged, so that edges are smooth
_KINDS = 4  # of shapes, and of textures: 4 x 4 holders


@dataclass(frozen=True, slots=True)
class BenchPictures:
    """What a model is trained on, and what it never sees.

    Attributes:
        pixels: uint8 (N, S, S, 3), one row for each time a picture is trained on.
        works: int64 (N,), which work a row shows, 0..W-1; a planted work has several equal rows.
        holders: int64 (W,), whose work it is.
        planted: int64 (P,), works that have several rows.
        held_out: uint8 (Q, S, S, 3), other pictures of the same kind.
    """

    pixels: NDArray[np.uint8]
    works: NDArray[np.int64]
    holders: NDArray[np.int64]
    planted: NDArray[np.int64]
    held_out: NDArray[np.uint8]


def draw_pictures(side_px: int, works: int, planted: int, copies: int, held_out: int, seed: int) -> BenchPictures:
    """Draw works of `HOLDERS` holders in turn, and repeat some.

    Args:
        side_px: S, of the pictures.
        works: W, how many are different.
        planted: of these, how many are repeated; no two of one holder as long as there are enough holders.
        copies: how often each of them is there.
        held_out: Q, pictures that are not trained on, of the holders in turn.
        seed: of everything; the same seed gives the same pictures.
    """
    chance = np.random.default_rng(seed)
    palettes = [_palette(chance) for _ in range(HOLDERS)]
    every = np.stack([_picture(side_px, at % HOLDERS, palettes, chance) for at in range(works + held_out)])
    holders = np.arange(works, dtype=np.int64) % HOLDERS
    chosen = np.sort(chance.permutation(min(works, HOLDERS))[:planted]).astype(np.int64)
    rows = np.concatenate([np.arange(works, dtype=np.int64), np.repeat(chosen, copies - 1)])
    return BenchPictures(every[rows], rows, holders, chosen, every[works:])


def _palette(chance: np.random.Generator) -> NDArray[np.float64]:
    """Shape, texture and ground colour of a holder, (3, 3) in 0..1, far enough apart to be seen."""
    while True:
        colours = chance.uniform(0, 1, (3, 3))
        if min(np.abs(colours[at] - colours[at - 1]).sum() for at in range(3)) > 0.8:
            return np.asarray(colours)


def _picture(
    side_px: int, holder: int, palettes: list[NDArray[np.float64]], chance: np.random.Generator
) -> NDArray[np.uint8]:
    """A shape at any place and of any size, on a texture of any phase, in colours near the holder's: (S, S, 3)."""
    colours = np.clip(palettes[holder] + chance.normal(0, 0.06, (3, 3)), 0, 1)
    at = (np.arange(side_px * _FINER) + 0.5) / (side_px * _FINER)
    across, down = at[None, :], at[:, None]
    texture = _texture(holder % _KINDS, across, down, chance.uniform(0, 1))[..., None]
    centre, size = chance.uniform(0.3, 0.7, 2), chance.uniform(0.18, 0.32)
    inside = _shape(holder // _KINDS, across - centre[0], down - centre[1], size)
    fine = np.where(inside[..., None], colours[0], texture * colours[1] + (1 - texture) * colours[2])
    coarse = fine.reshape(side_px, _FINER, side_px, _FINER, 3).mean(axis=(1, 3))
    return np.asarray(np.rint(coarse * 255), np.uint8)


def _texture(kind: int, across: NDArray[np.float64], down: NDArray[np.float64], phase: float) -> NDArray[np.float64]:
    """Soft stripes down or aslant, a slope or a halo, 0..1: what few pixels can show."""
    turn = 2 * np.pi
    if kind == 0:
        return np.asarray(0.5 + 0.5 * np.sin(turn * (2 * down + phase) + 0 * across))
    if kind == 1:
        return np.asarray(0.5 + 0.5 * np.sin(turn * (across + down + phase)))
    if kind == 2:
        return np.asarray(0.5 + 0.5 * np.sin(turn * 0.5 * (across - down + phase)))
    return np.asarray(np.exp(-8 * ((across - phase) ** 2 + (down - 0.5) ** 2)))


def _shape(kind: int, across: NDArray[np.float64], down: NDArray[np.float64], size: float) -> NDArray[np.bool_]:
    """A disc, a square, a diamond or a cross."""
    if kind == 0:
        return np.asarray(np.hypot(across, down) < size)
    if kind == 1:
        return np.asarray(np.maximum(np.abs(across), np.abs(down)) < size * 0.85)
    if kind == 2:
        return np.asarray(np.abs(across) + np.abs(down) < size * 1.2)
    near, far = np.minimum(np.abs(across), np.abs(down)), np.maximum(np.abs(across), np.abs(down))
    return np.asarray((near < size * 0.35) & (far < size * 1.1))
