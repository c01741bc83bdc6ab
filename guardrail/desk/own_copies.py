"""Edited copies of an index's own works, made from its previews: how near copies come, beside how near others do."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from guardrail.carriers import Picture
from guardrail.desk.calibrating import Gathered
from guardrail.index import FolderIndex, PinnedIndex
from guardrail.records import Disposition
from guardrail.study.edits.suites import EDITS

if TYPE_CHECKING:
    from guardrail.desk.probing import Prober, Seen

__all__ = ["HANDFUL", "look_at_copies"]

HANDFUL = ("jpeg", "mirror", "crop", "hue", "caption", "rotate")
"""The edits, by name: re-encoded, flipped, cut, recoloured, written on, turned."""

_INTENSITY = 50.0  # of 100
_MOST_WORKS = 200  # of a larger index, a sample of works
_SEED = 0


def look_at_copies(prober: Prober, progress: Callable[[int, int], None] = lambda done, total: None) -> Gathered:
    """Look at a handful of edited copies of each protected work, at most 200 works.

    Copies are made from the previews in the index (192 px, JPEG), so the works themselves need not be at hand. The same
    index gives the same copies.

    Returns:
        What each copy is near to; those that could not be checked are left out.
    """
    assert isinstance(prober.guard.index, FolderIndex), "a prober looks into an index in a folder"
    index = prober.guard.index.pinned()
    rows = [row for row in index.rows(prober.at, Disposition.PROTECT).tolist() if index.has_picture(row)]
    chance = np.random.default_rng(_SEED)
    rows = sorted(chance.permutation(rows)[:_MOST_WORKS].tolist())
    found: list[Seen] = []
    for done, row in enumerate(rows, start=1):
        found += prober.look(list(_copies(index, row)))
        progress(done, len(rows))
    bad = tuple((seen.file, "unreadable", seen.failure) for seen in found if seen.failure)
    return Gathered(tuple(seen for seen in found if not seen.failure), bad)


def _copies(index: PinnedIndex, row: int) -> Iterator[Picture]:
    with Image.open(io.BytesIO(index.preview(row))) as preview:
        work = preview.convert("RGB")
    for number, name in enumerate(HANDFUL):
        edited = EDITS[name](work, _INTENSITY, np.random.default_rng((_SEED, row, number)))
        pixels = torch.from_numpy(np.array(edited.convert("RGB"))).permute(2, 0, 1).contiguous()
        yield Picture(f"{index.work(row).work_id}: {name}", pixels=pixels)
