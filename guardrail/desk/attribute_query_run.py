"""What `guardrail attribute query` does: join a model, gradients, the index that knows rights, and images."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from guardrail.attributing import posterior_among, rule_of, same_pictures
from guardrail.attribution_errors import AttributionImpossible
from guardrail.desk.attribute_model import AskedModel, open_model
from guardrail.desk.audit_pictures import Listed, Square, SquareReader
from guardrail.index import FolderIndex
from guardrail.plugins import build_plugins, make_embedder
from guardrail.protocols import Embedder
from guardrail.records import Attribution, Influence, Work
from guardrail.settings import Settings
from guardrail.study.attribution.asking import GradientIndex, asked_row, parts_of
from guardrail.study.attribution.keeping import PICTURE_PX
from guardrail.study.attribution.report import Likeness

__all__ = ["AskedQuery", "AttributedImage", "attribute_images"]

ProgressOf = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
_EMBEDDER = "mini"  # shipped; where an index is given, the one it was built with


@dataclass(frozen=True, slots=True)
class AskedQuery:
    """What a person asked for.

    Attributes:
        model: that made the images, with the adapters that were on.
        gradients: the folder of its training images' gradients.
        images: files.
        prompt: what they were made from; None: nothing.
        label: their class; None without one.
        seed: they were made from, where it is known.
        index: folder of the index that knows whose the works are; None: they have names alone.
        square: how they are made square.
        at_once: draws in one pass; None: all.
    """

    model: AskedModel
    gradients: Path
    images: tuple[Path, ...]
    prompt: str | None = None
    label: int | None = None
    seed: int | None = None
    index: Path | None = None
    square: Square = "crop"
    at_once: int | None = None


@dataclass(frozen=True, slots=True)
class AttributedImage:
    """One image, and what it is estimated to owe.

    Attributes:
        path: of its file.
        attribution: the record.
        pixels: uint8 (S, S, 3), as the model was asked about it.
        shown: uint8 (64, 64, 3), the training images that the record tells of.
        cpu_s: CPU seconds it took, the model and what all images share not counted.
    """

    path: Path
    attribution: Attribution
    pixels: NDArray[np.uint8]
    shown: tuple[NDArray[np.uint8], ...]
    cpu_s: float = 0.0


def attribute_images(asked: AskedQuery, settings: Settings, progress_of: ProgressOf) -> tuple[AttributedImage, ...]:
    """Attribute images to training images, one after the other.

    Raises:
        GradientsMissing: there are none.
        GradientsMismatch: they are those of another model.
        AttributionImpossible: an image cannot be read, or the model is of a kind that is not understood.
    """
    query = _Query(asked, settings)
    access = open_model(asked.model).access
    found: list[AttributedImage] = []
    with query.index.asking(access, asked.at_once) as gradients, progress_of("asking the model") as progress:
        for at, path in enumerate(asked.images):
            progress(at, len(asked.images))
            began = time.process_time()
            pixels, small = query.read(at)
            parts = gradients(
                pixels, asked_row(pixels, asked.seed), asked.prompt, asked.label, parts_of(query.index.manifest.draws)
            )
            one = query.attributed(path, parts, pixels, small)
            found.append(replace(one, cpu_s=time.process_time() - began))
        progress(len(asked.images), len(asked.images))
    return tuple(found)


class _Query:
    """What all images of a call share: rows, whose they are, and how likeness is told."""

    def __init__(self, asked: AskedQuery, settings: Settings) -> None:
        same = () if asked.index is None else same_pictures(FolderIndex(asked.index))
        self.index = GradientIndex.open(asked.gradients, same)
        self._asked = asked
        self._rule = rule_of(settings)
        names = tuple(str(path) for path in asked.images)
        listed = Listed("images", Path(), names, (None,) * len(names), square=asked.square)
        self._reader = SquareReader(listed, settings.largest_image_px)
        self._pictures = self.index.pictures()
        self.index.baseline  # noqa: B018 - worked out once, before the first image
        self._works, self._embedder = _works_and_embedder(self.index, asked, settings)

    def read(self, at: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """An image at the side the model is asked at, and small."""
        pixels = self._reader.square(at, self.index.manifest.side_px)
        small = self._reader.square(at, PICTURE_PX)
        if pixels is None or small is None:
            raise AttributionImpossible(
                str(self._asked.images[at]), "no picture that can be read", "one", "give a PNG, JPEG or WebP"
            )
        return pixels, small

    def attributed(
        self, path: Path, parts: NDArray[np.float32], pixels: NDArray[np.uint8], small: NDArray[np.uint8]
    ) -> AttributedImage:
        """The record, with how alike what it tells of is, and the pictures of it."""
        likeness = Likeness(posterior=posterior_among(small, self._pictures))
        record = self.index.attribution(parts, self._works, self._rule, likeness)
        places = {(work.bank, work.work_id): at for at, work in enumerate(self._works)}
        told = [places[one.work.bank, one.work.work_id] for one in record.influences]
        shown = tuple(self._pictures[at] for at in told)
        influences = self._with_similarity(record.influences, small, shown)
        return AttributedImage(path, record.model_copy(update={"influences": influences}), pixels, shown)

    def _with_similarity(
        self, influences: Sequence[Influence], small: NDArray[np.uint8], shown: Sequence[NDArray[np.uint8]]
    ) -> tuple[Influence, ...]:
        """How alike the image and each picture that is told of are, by the copy descriptor."""
        tensors = [torch.from_numpy(np.array(one)).permute(2, 0, 1) for one in (small, *shown)]
        vectors = self._embedder.embed(tensors)
        similar = np.clip(vectors[1:] @ vectors[0], -1, 1)
        return tuple(
            one.model_copy(update={"similarity": round(float(near), 4)})
            for one, near in zip(influences, similar, strict=True)
        )


def _works_and_embedder(index: GradientIndex, asked: AskedQuery, settings: Settings) -> tuple[list[Work], Embedder]:
    """The works of the training images, with whose they are where an index knows; and what tells likeness."""
    known: dict[tuple[str, str], Work] = {}
    name = _EMBEDDER
    if asked.index is not None:
        pinned = FolderIndex(asked.index).pinned()
        known = {(work.bank, work.work_id): work for work in pinned.works}
        name = pinned.header.embedders["copy"].name
    works = [
        known.get((row.bank, row.work_id)) or Work(work_id=row.work_id, bank=row.bank, title=Path(row.file).stem)
        for row in index.training
    ]
    return works, make_embedder(build_plugins(()), name, asked.model.device, settings.weights_dir)
