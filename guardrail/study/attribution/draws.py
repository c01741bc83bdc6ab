"""Where a denoiser is asked about an image: timesteps spread over the schedule, and the noise that is added there."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import torch

__all__ = ["Draws", "drawn_for", "row_of", "stratified_times"]

_ROW_STRIDE = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: rows that follow each other get seeds that do not
_SEED_STRIDE = 0x100000001B3  # FNV's 64-bit prime, likewise for seeds
_SEEDS = 2**63  # torch takes no seed above
_ROW_BYTES = 8  # of a digest: as many rows as there are seeds


class Draws(NamedTuple):
    """K draws for one image.

    Attributes:
        times: float64 (K,), where in the schedule, 0 (no noise) to 1 (noise alone).
        noise: float32 (K, *shape), standard normal.
    """

    times: torch.Tensor
    noise: torch.Tensor

    def part(self, which: slice) -> Draws:
        """Fewer of them, such as every other one."""
        return Draws(self.times[which], self.noise[which])


def row_of(text: str) -> int:
    """The number of a row that is known by a name or digest; the same on every machine, 0..2^64-1."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()[:_ROW_BYTES], "big")


def stratified_times(count: int, seed: int) -> torch.Tensor:
    """One time in each of `count` equal parts of the schedule, the same for all images: float64 (count,), rising."""
    generator = torch.Generator().manual_seed(seed % _SEEDS)
    within = torch.rand(count, generator=generator, dtype=torch.float64)
    return (torch.arange(count, dtype=torch.float64) + within) / count


def drawn_for(row: int, shape: tuple[int, ...], count: int, seed: int) -> Draws:
    """The draws of one image; the same for the same row, shape, count and seed, on every machine with a CPU.

    Args:
        row: which image.
        shape: of what the network is given, (C, H, W), or (L, C) where it is given tokens.
        count: K.
        seed: of the whole index.
    """
    generator = torch.Generator().manual_seed((seed * _SEED_STRIDE + (row + 1) * _ROW_STRIDE) % _SEEDS)
    return Draws(stratified_times(count, seed), torch.randn((count, *shape), generator=generator))
