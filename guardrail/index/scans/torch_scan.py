"""Exact search on a GPU: torch multiplies float16 vectors with a batch of queries, and counts the bits of hashes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from guardrail.index.scans.base import FARTHEST_BITS, Allowed, VectorBlocks
from guardrail.index.scans.rows import RowIds

__all__ = ["TorchHashScan", "TorchScan"]

_LOADED_BYTES = 256 * 2**20  # of vectors carried to the device at a time
_WORKED_NUMBERS = 2**26  # similarities or words that one step holds: 256 MB as float32, 512 MB as int64
_GROUP = 128  # similarities of which the largest stands for all: the nearest few are looked for among those first
_LOW_SCALE = 2048.0  # 2^11: what float16 rounds off a query is this much smaller, and would lose bits as it is
_ODD, _PAIRS, _NIBBLES, _BYTES = 0x5555555555555555, 0x3333333333333333, 0x0F0F0F0F0F0F0F0F, 0x0101010101010101


class TorchScan:
    """Vectors as float16 on a device, compared one and all with every query of the batch. Exact.

    On CUDA a query is split into two float16 numbers a dimension, so that the product is as good as one in float32 and
    the vectors are still read once, as they are; elsewhere blocks of them are turned into float32.
    """

    exact = True

    def __init__(self, vectors: VectorBlocks, device: str) -> None:
        """A structure on `device` over some vectors, carried there piece by piece."""
        dimensions = vectors.dimensions
        self._vectors = torch.empty((len(vectors), dimensions), dtype=torch.float16, device=device)
        ids = np.empty(len(vectors), np.int64)
        start = 0
        for some, piece in vectors.blocks(max(1, _LOADED_BYTES // (2 * dimensions))):
            end = start + len(some)
            self._vectors[start:end] = torch.from_numpy(np.array(piece, np.float16)).to(device)
            ids[start:end] = some
            start = end
        self._rows = RowIds.of(ids)
        self._masks = _Masks(self._rows, self._vectors.device)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def resident_bytes(self) -> int:
        """See `VectorScan.resident_bytes`."""
        return self._vectors.nbytes + self._rows.nbytes

    def holds(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """See `VectorScan.holds`."""
        return self._rows.places_of(ids) >= 0

    def search(
        self, queries: NDArray[np.float32], limit: int, allowed: Allowed
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """See `VectorScan.search`."""
        with torch.inference_mode():
            mask = self._masks.of(allowed)
            asked = torch.from_numpy(np.array(queries, np.float32)).to(self._vectors.device)
            near = asked.new_full((len(queries), limit), -torch.inf)
            places = torch.full((len(queries), limit), -1, dtype=torch.int64, device=asked.device)
            rows = max(_GROUP, _WORKED_NUMBERS // max(len(queries), 1) // _GROUP * _GROUP)
            for start in range(0, len(self), rows):
                found = self._similarities(asked, start, start + rows)
                if mask is not None:
                    found.masked_fill_(~mask[start : start + rows], -torch.inf)
                values, at = _largest(found, limit)
                near, order = torch.cat([near, values], 1).topk(limit)
                places = torch.cat([places, at + start], 1).gather(1, order)
            places[near == -torch.inf] = -1
            return _to_host(near.clamp(min=-1.0)), self._rows.at(_to_host(places))

    def _similarities(self, queries: torch.Tensor, start: int, end: int) -> torch.Tensor:
        """Queries (Q, D) times the vectors from `start` to `end`: float32 (Q, n)."""
        stored = self._vectors[start:end]
        if stored.device.type != "cuda":
            return queries @ stored.float().T
        high = queries.half()
        low = ((queries - high.float()) * _LOW_SCALE).half()
        both = torch.mm(torch.cat([high, low]), stored.T, out_dtype=torch.float32)
        return both[: len(queries)].add_(both[len(queries) :], alpha=1 / _LOW_SCALE)


class TorchHashScan:
    """Codes as 64-bit words on a device, their differing bits counted with shifts and masks. Exact."""

    def __init__(self, ids: NDArray[np.int64], codes: NDArray[np.uint8], device: str) -> None:
        """A structure on `device` over some codes, which are copied.

        Args:
            ids: int64 (n,), ascending.
            codes: uint8 (n, B).
            device: as torch names it.
        """
        self._rows = RowIds.of(ids)
        self._words = _words(codes).to(device)
        self._masks = _Masks(self._rows, self._words.device)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def resident_bytes(self) -> int:
        """See `HashScan.resident_bytes`."""
        return self._words.nbytes + self._rows.nbytes

    def search(
        self, codes: NDArray[np.uint8], limit: int, allowed: Allowed
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """See `HashScan.search`."""
        none = len(self) * (codes.shape[1] * 8 + 1)  # a key beyond all others: no distance is that large
        with torch.inference_mode():
            mask = self._masks.of(allowed)
            asked = _words(codes).to(self._words.device)
            best = torch.full((len(codes), limit), none, dtype=torch.int64, device=asked.device)
            rows = max(1, _WORKED_NUMBERS // max(asked.numel(), 1))
            for start in range(0, len(self), rows):
                stored = self._words[start : start + rows]
                places = torch.arange(start, start + len(stored), device=asked.device)
                bits = _bits_set(asked[:, None] ^ stored[None]).sum(2)
                keys = bits * len(self) + places  # nearest first, then by place
                if mask is not None:
                    keys.masked_fill_(~mask[start : start + rows], none)
                best = torch.cat([best, keys], 1).topk(limit, largest=False).values
            found = _to_host(best)
        gone = found == none
        near = np.where(gone, FARTHEST_BITS, found // max(len(self), 1)).astype(np.int32)
        return near, self._rows.at(np.where(gone, -1, found % max(len(self), 1)))


class _Masks:
    """Which rows count, on the device; the last one is kept, since a batch and the next ask with the same."""

    def __init__(self, rows: RowIds, device: torch.device) -> None:
        self._rows, self._device = rows, device
        self._last: tuple[Allowed, torch.Tensor | None] | None = None

    def of(self, allowed: Allowed) -> torch.Tensor | None:
        """Bool (n,), or None where all count."""
        last = self._last  # read and replaced whole: another thread may do the same
        if last is None or last[0] is not allowed:
            flags = self._rows.flags_of(allowed)
            last = self._last = allowed, None if flags.all() else torch.from_numpy(np.array(flags)).to(self._device)
        return last[1]


def _largest(values: torch.Tensor, limit: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The `limit` largest of each row (Q, n), -inf where there are no more, and where they are.

    They lie in the `limit` groups with the largest members, so only these are looked through: topk alone is slow on
    rows of millions.
    """
    rows, columns = values.shape
    groups = -(-columns // _GROUP)
    if groups <= 2 * limit:
        padded = torch.nn.functional.pad(values, (0, max(limit - columns, 0)), value=-torch.inf)
        best = padded.topk(limit)
        return best.values, best.indices
    grouped = torch.nn.functional.pad(values, (0, groups * _GROUP - columns), value=-torch.inf)
    grouped = grouped.view(rows, groups, _GROUP)
    which = grouped.amax(2).topk(limit).indices
    chosen = grouped.gather(1, which[..., None].expand(-1, -1, _GROUP)).flatten(1)
    best = chosen.topk(limit)
    places = which.gather(1, best.indices // _GROUP) * _GROUP + best.indices % _GROUP
    return best.values, places


def _to_host(tensor: torch.Tensor) -> NDArray[Any]:
    """The only transfer from the device to host memory."""
    return tensor.cpu().numpy()


def _words(codes: NDArray[np.uint8]) -> torch.Tensor:
    """Codes uint8 (n, B) as int64 (n, ceil(B / 8)), filled up with zeros."""
    filled = np.pad(codes, ((0, 0), (0, -codes.shape[1] % 8)))
    return torch.from_numpy(np.ascontiguousarray(filled).view(np.int64))


def _bits_set(words: torch.Tensor) -> torch.Tensor:
    """How many bits of each int64 word are set; the shifts carry the sign, which the masks take off again.

    Source: Warren, Hacker's Delight, 2nd edition, 2012, section 5-1 (counting 1-bits).
    """
    words = words - ((words >> 1) & _ODD)
    words = (words & _PAIRS) + ((words >> 2) & _PAIRS)
    words = (words + (words >> 4)) & _NIBBLES
    return (words * _BYTES) >> 56
