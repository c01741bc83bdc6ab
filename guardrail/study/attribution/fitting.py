"""A pipeline and its training pictures in, a folder of sketched gradients out; what was done is not done again."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from guardrail.attribution_errors import AttributionImpossible, GradientsMismatch
from guardrail.study.attribution.access import PipelineAccess
from guardrail.study.attribution.draws import drawn_for, row_of
from guardrail.study.attribution.functions import Function
from guardrail.study.attribution.gradients import Sketching, chosen_parameters, in_float32
from guardrail.study.attribution.keeping import PICTURE_PX, GradientManifest, GradientRows, KeptRow
from guardrail.study.attribution.sketch import CountSketch

__all__ = ["FitChoices", "Fitted", "ImageGradients", "Picture", "fit", "manifest_of", "opened_model", "pixels_sha256"]

_ROWS_A_FLUSH = 64  # gradients that are lost at most when the power goes: a minute of a small model
_FLUSH_S = 30.0  # or these seconds, of a large one


class FitChoices(NamedTuple):
    """How gradients are made.

    Attributes:
        patterns: which parameters, by name; see `chosen_parameters`.
        draws: K, (timestep, noise) pairs an image; above 0.
        counters: k, numbers an image.
        seed: of draws and sketch.
        function: whose gradient.
    """

    patterns: tuple[str, ...] = ("*",)
    draws: int = 10
    counters: int = 4096
    seed: int = 0
    function: Function = "noise_norm"


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture to be fitted.

    Attributes:
        row: what it is called, and whether it is a decoy.
        read: gives it at a side in px: uint8 (S, S, 3), RGB; None where it cannot be read.
        caption: what the model was trained to draw it from; None without one.
    """

    row: KeptRow
    read: Callable[[int], NDArray[np.uint8] | None]
    caption: str | None = None


class Fitted(NamedTuple):
    """What a fit did.

    Attributes:
        added: rows that were made.
        kept: rows that were there already, and still hold.
        replaced: of the rows that were made, those whose picture, caption or label had changed.
        unreadable: names of pictures that could not be read; they have no row.
        cpu_s: CPU seconds of this process.
    """

    added: int
    kept: int
    replaced: int
    unreadable: tuple[str, ...]
    cpu_s: float


class _Made(NamedTuple):
    row: KeptRow
    gradient: NDArray[np.float32]
    picture: NDArray[np.uint8]


class ImageGradients:
    """Asks a model about images, as a manifest says; within `opened_model`.

    Args:
        access: to the model.
        manifest: how.
        parameters: that are differentiated.
        at_once: draws in one pass; None: all.
    """

    def __init__(
        self,
        access: PipelineAccess,
        manifest: GradientManifest,
        parameters: Mapping[str, torch.nn.Parameter],
        at_once: int | None = None,
    ) -> None:
        self._access, self._manifest = access, manifest
        sketch = CountSketch(
            [one.numel() for one in parameters.values()], manifest.counters, manifest.seed, access.device
        )
        self._sketching = Sketching(
            access.asked, parameters, access.noising, sketch, manifest.function, at_once=at_once
        )

    def __call__(
        self, pixels: NDArray[np.uint8], row: int, caption: str | None = None, label: int | None = None, parts: int = 1
    ) -> NDArray[np.float32]:
        """The gradient of one image, by parts of its draws, the mean over which is the gradient.

        Args:
            pixels: uint8 (S, S, 3), RGB; S is the manifest's `side_px`.
            row: number that decides its noise; see `row_of`.
            caption: what it was made from, or is described by.
            label: its class.
            parts: H; divides the manifest's draws.

        Returns:
            float32 (H, k), finite.

        Raises:
            AttributionImpossible: the gradient is not finite.
            ValueError: `parts` does not divide the draws.
        """
        count = self._manifest.draws
        if parts < 1 or count % parts:
            raise ValueError(f"found {parts} parts, expected a divisor of {count} draws; ask for {count} or 1")
        conditions = self._access.conditions(caption, label)
        draws = drawn_for(row, self._access.shape, count, self._manifest.seed)
        clean = self._access.encode(pixels)
        made = [self._sketching(clean, draws.part(slice(at, None, parts)), **conditions) for at in range(parts)]
        gradients: NDArray[np.float32] = torch.stack(made).cpu().numpy()
        if not np.isfinite(gradients).all():
            raise AttributionImpossible(
                self._access.name, "a gradient that is not finite", "numbers", "look at the picture, or at the model"
            )
        return gradients


def pixels_sha256(pixels: NDArray[np.uint8]) -> str:
    """sha256 of a picture as the model is asked about it, uint8 (S, S, 3)."""
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def manifest_of(
    access: PipelineAccess, choices: FitChoices, model: str = "", adapters: Sequence[tuple[str, float]] = ()
) -> GradientManifest:
    """What says how gradients of a model are made.

    Args:
        access: to the model.
        choices: how.
        model: what a person calls it.
        adapters: that are on, with their weights.

    Raises:
        AttributionImpossible: no parameter is chosen.
    """
    parameters = chosen_parameters(access.network, choices.patterns)
    return GradientManifest(
        weights_sha256=access.weights_sha256(parameters),
        parameters=sum(one.numel() for one in parameters.values()),
        patterns=choices.patterns,
        counters=choices.counters,
        draws=choices.draws,
        seed=choices.seed,
        function=choices.function,
        noising=access.noising.predicts,
        shape=access.shape,
        side_px=access.side_px,
        pipeline=access.name,
        model=model,
        adapters=tuple(adapters),
    )


@contextmanager
def opened_model(
    access: PipelineAccess, manifest: GradientManifest, folder: Path, at_once: int | None = None
) -> Iterator[ImageGradients]:
    """Have a model that can be asked as a manifest says; afterwards it is as it was.

    Args:
        access: to the model.
        manifest: how it is asked, and which weights it has.
        folder: of the gradients, for messages.
        at_once: draws in one pass.

    Raises:
        GradientsMismatch: the model has other weights, another schedule or another size.
        AttributionImpossible: it has no such parameters.
    """
    parameters = chosen_parameters(access.network, manifest.patterns)
    facts = {
        "weights_sha256": access.weights_sha256(parameters),
        "noising": access.noising.predicts,
        "shape": access.shape,
        "side_px": access.side_px,
    }
    other = [name for name, one in facts.items() if getattr(manifest, name) != one]
    if other:
        found = ", ".join(f"{name} {facts[name]}" for name in other)
        raise GradientsMismatch(str(folder), found, ", ".join(f"{name} {getattr(manifest, name)}" for name in other))
    with in_float32(access.network):
        yield ImageGradients(access, manifest, parameters, at_once)


def fit(
    gradients: ImageGradients,
    pictures: Sequence[Picture],
    rows: GradientRows,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Fitted:
    """Make the rows that are missing; a fit that was killed goes on where it was.

    Args:
        gradients: asks the model.
        pictures: each with a name of its own.
        rows: where they are kept; what they hold of other pictures stays.
        progress: called with (done, total).

    Returns:
        What was done.

    Raises:
        AttributionImpossible: a picture has no gradient; which, is said.
        GradientsLocked: another process writes there.
    """
    began, cpu = time.monotonic(), time.process_time()
    added = kept = replaced = 0
    unreadable: list[str] = []
    with rows.writing():
        made: list[_Made] = []
        for done, picture in enumerate(pictures):
            progress(done, len(pictures))
            pixels, small = picture.read(rows.manifest.side_px), picture.read(PICTURE_PX)
            if pixels is None or small is None:
                unreadable.append(picture.row.name)
                continue
            row = _described(picture, pixels)
            old = rows.row(row.name)
            if old is not None and _same(old, row):
                kept += 1
                continue
            replaced += old is not None
            made.append(_Made(row, _asked(gradients, row, picture, pixels), small))
            added += 1
            if len(made) >= _ROWS_A_FLUSH or time.monotonic() - began > _FLUSH_S:
                _flush(rows, made)
                began = time.monotonic()
        _flush(rows, made)
    progress(len(pictures), len(pictures))
    return Fitted(added, kept, replaced, tuple(unreadable), time.process_time() - cpu)


def _asked(gradients: ImageGradients, row: KeptRow, picture: Picture, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    try:
        parts = gradients(pixels, row_of(row.name), picture.caption, row.label)
    except AttributionImpossible as error:
        what, found, expected, do = error.args
        raise AttributionImpossible(what, f"{found} at {row.name}", expected, do) from error
    whole: NDArray[np.float32] = parts[0]
    return whole


def _flush(rows: GradientRows, made: list[_Made]) -> None:
    if made:
        rows.remove([one.row.name for one in made])
        gradients = np.stack([one.gradient for one in made])
        rows.add([one.row for one in made], gradients, np.stack([one.picture for one in made]))
        made.clear()


def _described(picture: Picture, pixels: NDArray[np.uint8]) -> KeptRow:
    """The row, with what decides its gradient."""
    caption = hashlib.sha256(picture.caption.encode()).hexdigest() if picture.caption else ""
    return replace(picture.row, pixels_sha256=pixels_sha256(pixels), caption_sha256=caption)


def _same(old: KeptRow, new: KeptRow) -> bool:
    return (old.pixels_sha256, old.caption_sha256, old.label) == (new.pixels_sha256, new.caption_sha256, new.label)
