"""How each dihedral view of `records.VIEWS` is made of mirrored axes and a transpose; and packing bits to bytes."""

from __future__ import annotations

from typing import NamedTuple

import torch

from guardrail.records import View

__all__ = ["TURNS", "Turn", "packed_bits"]

_BYTE = (128, 64, 32, 16, 8, 4, 2, 1)


class Turn(NamedTuple):
    """A view as steps: mirror the rows, mirror the columns, then transpose."""

    mirror_rows: bool
    mirror_columns: bool
    transpose: bool


# Pillow turns counter-clockwise: rotate_90 takes out[i, j] = in[j, W - 1 - i], the transpose of the mirrored columns.
TURNS: dict[View, Turn] = {
    "identity": Turn(False, False, False),
    "rotate_90": Turn(False, True, True),
    "rotate_180": Turn(True, True, False),
    "rotate_270": Turn(True, False, True),
    "flip_left_right": Turn(False, True, False),
    "flip_top_bottom": Turn(True, False, False),
    "transpose": Turn(False, False, True),
    "transverse": Turn(True, True, True),
}


def packed_bits(bits: torch.Tensor) -> torch.Tensor:
    """Pack bits as `numpy.packbits` does, most significant first: bool (..., 8 B) to uint8 (..., B)."""
    weights = torch.tensor(_BYTE, dtype=torch.uint8, device=bits.device)
    octets = bits.reshape(*bits.shape[:-1], bits.shape[-1] // 8, 8).to(torch.uint8)
    return (octets * weights).sum(-1, dtype=torch.uint8)
