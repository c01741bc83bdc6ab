"""What images that were just made are estimated to owe to training images, kept beside their verdicts."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from guardrail import intake
from guardrail.attribution_errors import AttributionImpossible, GradientsMissing
from guardrail.carriers import ImageBatch, Picture
from guardrail.errors import GuardrailError
from guardrail.index import FolderIndex
from guardrail.protocols import WritableIndex
from guardrail.records import Decision, Work
from guardrail.study.attribution.access import PipelineAccess
from guardrail.study.attribution.asking import GradientIndex, asked_row, parts_of
from guardrail.study.attribution.keeping import JOURNAL, PICTURE_PX
from guardrail.study.attribution.naming import NamingRule
from guardrail.study.attribution.posterior import retrieve
from guardrail.study.attribution.report import Likeness, ReportRule
from guardrail.study.attribution.switching import AskedAt, Credited, Pictured, adapter_shares
from guardrail.study.audit.likeness import resized

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from guardrail.fingerprint import Fingerprinter
    from guardrail.memory import Memory
    from guardrail.protocols import IndexBackend
    from guardrail.records import Attribution, GenerationContext, Verdict
    from guardrail.settings import Settings
    from guardrail.study.attribution.switching import AdapterShares

__all__ = ["Attributing", "posterior_among", "rule_of", "same_pictures"]

log = logging.getLogger("guardrail")


def rule_of(settings: Settings) -> ReportRule:
    """When a training image is named, and how many are kept, as the settings say."""
    said = settings.attribution
    return ReportRule(NamingRule(said.name_by, said.name_at_p, said.name_at_rate), shown=said.shown)


def same_pictures(index: FolderIndex) -> tuple[tuple[tuple[str, str], ...], ...]:
    """Groups of works, as (bank, work_id), that show one picture; sought once for an index, and kept beside it."""
    pinned = index.pinned()
    groups = pinned.duplicates.clusters().groups()
    found = (tuple(pinned.state.work(row) for row in group) for group in groups)
    return tuple(tuple((work.bank, work.work_id) for work in works) for works in found)


def posterior_among(small: NDArray[np.uint8], pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The patch posterior of an image over training images, of those nearest to it by their pixels.

    Args:
        small: uint8 (64, 64, 3), RGB, the image.
        pictures: uint8 (N, 64, 64, 3), as `GradientIndex.pictures` keeps them.

    Returns:
        float64 (N,), 0..1, together 1; 0 for those that were not near enough to be asked about.
    """
    halved = _halved(pictures)
    query = _halved(small[None])[0]
    away = np.array([np.square(one.astype(np.float64) - query).mean() for one in halved])
    found = retrieve(-away, query, lambda rows: halved[rows])
    posterior = np.zeros(len(pictures))
    posterior[found.rows] = found.posteriors
    return posterior


def _halved(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pictures at half their side, each pixel the mean of four: uint8 (n, 32, 32, 3)."""
    count, side = len(pictures), PICTURE_PX // 2
    means = pictures.reshape(count, side, 2, side, 2, 3).mean(axis=(2, 4))
    return np.asarray(np.round(means), np.uint8)


class Attributing:
    """Estimates of one guard; the folder of gradients is opened when it is first needed.

    Args:
        settings: which images, and by what.
        memory: where estimates are kept.
        index: whose the training images are, and how they look.
        fingerprint: as the index was built, to compare how alike images are.
    """

    def __init__(self, settings: Settings, memory: Memory, index: IndexBackend, fingerprint: Fingerprinter) -> None:
        self._settings, self._memory = settings, memory
        self._index, self._fingerprint = index, fingerprint
        self._asking = threading.Lock()  # a model's modes and gradients are changed while it is asked
        self._opened: tuple[tuple[int, ...], GradientIndex] | None = None

    def of_run(
        self, pipe: Any, pictures: Sequence[Picture], verdicts: Sequence[Verdict], context: GenerationContext
    ) -> tuple[Attribution | None, ...]:
        """Estimate and keep what the images of one call owe: all, or those not accepted, as the settings say.

        An estimate that fails is logged and leaves its verdict as it is: attribution lets nothing out, and keeps
        nothing in.

        Returns:
            One for each image, None where none was made.

        Raises:
            MemoryUnwritable: an estimate could not be kept.
        """
        both = enumerate(zip(pictures, verdicts, strict=True))
        return tuple(self._of_one(pipe, at, picture, verdict, context) for at, (picture, verdict) in both)

    def _of_one(
        self, pipe: Any, at: int, picture: Picture, verdict: Verdict, context: GenerationContext
    ) -> Attribution | None:
        asked = self._settings.attribution.when == "always" or verdict.decision is not Decision.ACCEPT
        if picture.pixels is None or not asked:
            return None
        pixels = np.ascontiguousarray(picture.pixels.permute(1, 2, 0).cpu().numpy())
        try:
            found = self.of_image(intake.plain_view(pipe), pixels, context, at)
        except (GuardrailError, ValueError, RuntimeError, OSError) as error:
            log.warning("%s was not attributed: %s", verdict.image, error)
            return None
        found = found.model_copy(update={"verdict_id": verdict.verdict_id})
        self._memory.record_attribution(found)
        return found

    def of_image(
        self, pipe: Any, pixels: NDArray[np.uint8], context: GenerationContext | None, number: int = 0
    ) -> Attribution:
        """Estimate what one image owes.

        Args:
            pipe: the pipeline that made it, without a guard, its adapters as they were.
            pixels: uint8 (H, W, 3), RGB.
            context: how it was made; None where that is not known.
            number: its place in the output of its call, from 0.

        Raises:
            GradientsMissing, GradientsDamaged, GradientsMismatch: the folder of gradients cannot be used for it.
            AttributionImpossible: the pipeline or the image is of a kind that is not understood.
        """
        gradients = self._gradients()
        access = PipelineAccess(pipe, str(getattr(pipe, "device", "cpu")), gradients.manifest.side_px)
        square = resized(pixels[None], gradients.manifest.side_px)[0]
        seed = context.seed if context else None
        row = asked_row(square, None if seed is None else seed + number)
        caption = intake.prompt_of(context, number) if context else None
        with self._asking:
            with gradients.asking(access) as asked:
                parts = asked(square, row, caption, None, parts_of(gradients.manifest.draws))
            shares = self._adapters(pipe, Pictured(square, caption), context)
        works, similarity = self._likeness(gradients, pixels)
        posterior = posterior_among(resized(pixels[None], PICTURE_PX)[0], gradients.pictures())
        found = gradients.attribution(parts, works, rule_of(self._settings), Likeness(similarity, posterior))
        if shares is None:
            return found
        return found.model_copy(update={"adapters": shares.adapters, "base_share": shares.base_share})

    def _adapters(self, pipe: Any, pictured: Pictured, context: GenerationContext | None) -> AdapterShares | None:
        """The shares of the adapters that were on; None where none was, or they cannot be switched."""
        on = {one.name: one.sha256 for one in (context.adapters if context else ()) if one.kind == "lora"}
        if not on:
            return None
        standing = self._memory.adapters.standing(self._settings.organisation)
        holders = {one.weights_sha256: one.holder for one in standing}
        credited = {name: Credited(digest, holders.get(digest or "", "")) for name, digest in on.items()}
        try:
            return adapter_shares(pipe, pictured, AskedAt(device=str(pipe.device)), credited=credited)
        except AttributionImpossible as error:
            log.warning("adapters were not attributed: %s", error)
            return None

    def _gradients(self) -> GradientIndex:
        """The folder of gradients, opened anew when it changed."""
        folder = self._settings.attribution.gradients
        if folder is None:
            raise GradientsMissing("", "the setting attribution.gradients names no folder")
        stamp = _stamp(folder)
        if self._opened is None or self._opened[0] != stamp:
            same = same_pictures(self._index) if isinstance(self._index, FolderIndex) else ()
            self._opened = stamp, GradientIndex.open(folder, same)
        return self._opened[1]

    def _likeness(
        self, gradients: GradientIndex, pixels: NDArray[np.uint8]
    ) -> tuple[list[Work], NDArray[np.float64] | None]:
        """Whose the training images are, and how alike the image is to each: 0 where the index does not have one."""
        bare = [Work(work_id=row.work_id, bank=row.bank) for row in gradients.training]
        if not isinstance(self._index, WritableIndex):
            return bare, None
        kept = self._index.kept([(one.bank, one.work_id) for one in bare])
        place = {(one.bank, one.work_id): at for at, one in enumerate(kept.works)}
        at = np.array([place.get((one.bank, one.work_id), -1) for one in bare])
        works = [kept.works[there] if there >= 0 else one for one, there in zip(bare, at.tolist(), strict=True)]
        if "copy" not in kept.arrays or not len(kept):
            return works, None
        picture = Picture("image", pixels=torch.from_numpy(pixels.copy()).permute(2, 0, 1).contiguous())
        looked = self._fingerprint(ImageBatch((picture,))).copy[0].astype(np.float64)
        alike = kept.arrays["copy"].astype(np.float64) @ looked
        return works, np.where(at >= 0, alike[at], 0.0)


def _stamp(folder: Path) -> tuple[int, ...]:
    """What changes with the rows of a folder of gradients; empty where there is none."""
    try:
        found = (folder / JOURNAL).stat()
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns
