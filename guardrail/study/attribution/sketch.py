"""A gradient of millions of numbers in, a few thousand out, such that inner products are kept on average."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch

__all__ = ["CountSketch", "places"]

_GAMMA = 0x9E3779B97F4A7C15 - 2**64  # SplitMix64's increment, and its two multipliers, as signed 64-bit numbers
_FIRST = 0xBF58476D1CE4E5B9 - 2**64
_SECOND = 0x94D049BB133111EB - 2**64
_WORD = 2**64
_PIECE = 2**22  # coordinates whose places are made at once: 32 MiB
_KEPT = 2**25  # coordinates of a gradient up to which their places are kept: 128 MiB


class CountSketch:
    """Adds every coordinate, with a random sign, to one of a few counters; inner products keep their mean.

    Where a coordinate goes is a hash of its number and the seed, so that nothing has to be kept of a large model, and
    every device counts alike. On a CPU the same seed and gradient give the same sketch to the bit; on a GPU the order
    of additions is not fixed.

    Args:
        sizes: the number of values of each part of the gradient, in order.
        counters: k, how many numbers come out.
        seed: of counters and signs; the same seed gives the same sketch.
        device: where places are kept; a gradient that lies elsewhere takes its own.

    Raises:
        ValueError: k is below 1.

    Source: Charikar, Chen and Farach-Colton 2002; as a projection, Weinberger et al. 2009. We differ in the hash, which
    is SplitMix64 (Steele, Lea and Flood 2014), because it needs no table.
    """

    def __init__(self, sizes: Sequence[int], counters: int, seed: int, device: torch.device | str = "cpu") -> None:
        if counters < 1:
            raise ValueError(f"found {counters} counters, expected 1 at least")
        self.counters, self._seed = counters, seed
        self._sizes, self._device = tuple(sizes), torch.device(device)
        self._starts = tuple(sum(self._sizes[:at]) for at in range(len(self._sizes)))
        keeps = sum(self._sizes) <= _KEPT
        self._kept = (
            [self._at(start, size) for start, size in zip(self._starts, self._sizes, strict=True)] if keeps else None
        )

    def __call__(self, gradient: Iterable[torch.Tensor | None]) -> torch.Tensor:
        """The sketch of one gradient.

        Args:
            gradient: its parts in order, of any shape and floating dtype; None for a part that is zero.

        Returns:
            float32 (k,), on the device of the gradient's first part.

        Raises:
            ValueError: there are more or fewer parts, or one has another size.
        """
        counted: torch.Tensor | None = None
        for number, part in enumerate(gradient):
            if number >= len(self._sizes) or (part is not None and part.numel() != self._sizes[number]):
                raise ValueError(f"found another part {number} than the {len(self._sizes)} that were announced")
            if part is None:
                continue
            if counted is None:
                counted = torch.zeros(2 * self.counters, device=part.device)
            self._count(counted, number, part.detach().flatten())
        if counted is None:
            return torch.zeros(self.counters, device=self._device)
        return counted[: self.counters] - counted[self.counters :]

    def _count(self, counted: torch.Tensor, number: int, part: torch.Tensor) -> None:
        for start, at in self._pieces(number, part.device):
            values = part[start : start + len(at)]
            counted.index_add_(0, at.to(counted.device), values.to(counted.device, torch.float32))

    def _pieces(self, number: int, device: torch.device) -> Iterator[tuple[int, torch.Tensor]]:
        """Where the coordinates of a part go, some millions at a time."""
        if self._kept is not None:
            yield 0, self._kept[number]
            return
        for start in range(0, self._sizes[number], _PIECE):
            count = min(_PIECE, self._sizes[number] - start)
            yield start, places(self._starts[number] + start, count, self.counters, self._seed, device)

    def _at(self, start: int, size: int) -> torch.Tensor:
        return places(start, size, self.counters, self._seed, self._device)


def places(start: int, count: int, counters: int, seed: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """Where coordinates go: int32 (count,), below `counters` where they are added, from there on where subtracted.

    Args:
        start: number of the first coordinate.
        count: how many.
        counters: k.
        seed: of the hash.
        device: where they are computed; all compute the same.
    """
    numbers = torch.arange(start, start + count, dtype=torch.int64, device=device)
    mixed = _mixed(numbers * _GAMMA + _signed(_scrambled(seed)))
    return torch.remainder(_shifted(mixed, 1), 2 * counters).to(torch.int32)


def _mixed(numbers: torch.Tensor) -> torch.Tensor:
    """SplitMix64's finish: every bit of the input moves every bit of the output."""
    numbers = (numbers ^ _shifted(numbers, 30)) * _FIRST
    numbers = (numbers ^ _shifted(numbers, 27)) * _SECOND
    return torch.bitwise_xor(numbers, _shifted(numbers, 31))


def _shifted(numbers: torch.Tensor, bits: int) -> torch.Tensor:
    """To the right, zeros coming in, as if there were no sign."""
    return torch.bitwise_and(numbers >> bits, 2 ** (64 - bits) - 1)


def _scrambled(seed: int) -> int:
    """The seed, so that two that are close do not give the same places one coordinate further on."""
    word = (seed + 1) * (_FIRST % _WORD) % _WORD
    return (word ^ (word >> 29)) * (_SECOND % _WORD) % _WORD


def _signed(word: int) -> int:
    return word - _WORD if word >= _WORD // 2 else word
