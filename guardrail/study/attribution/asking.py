"""A folder of gradients and an image in; the influence of every training image on it, with what naming needs, out."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from guardrail.attribution_errors import AttributionImpossible
from guardrail.records import Attribution, AttributionMethod, Work
from guardrail.study.attribution.access import PipelineAccess
from guardrail.study.attribution.clusters import digest_groups, gradient_pairs, grouped
from guardrail.study.attribution.draws import row_of
from guardrail.study.attribution.fitting import ImageGradients, opened_model, pixels_sha256
from guardrail.study.attribution.hubs import Baseline
from guardrail.study.attribution.keeping import GradientManifest, GradientRows, KeptRow
from guardrail.study.attribution.pulls import Pulls, without_self
from guardrail.study.attribution.report import Likeness, ReportRule, attributed
from guardrail.study.attribution.solving import Decomposition, Solver, decomposed

__all__ = ["GradientIndex", "Influences", "asked_row", "parts_of"]

_EIGEN = "eigen.npz"
_IN_MEMORY = 2**28  # numbers of all rows that are kept in memory once read: 1 GiB
_REFERENCES = 512  # decoys that are asked as references, at most
_COSINES = 20_000  # rows up to which gradients are held against each other for near-duplicates
_FEWEST = 2  # decoys, between which a cosine tells how alike strangers are
_SINGLE = 20  # draws up to which each is asked alone, so that an interval of shares has many to draw from


class Influences(NamedTuple):
    """The influence of every row on every query.

    Attributes:
        training: float64 (Q, N), of images the model was trained on.
        decoys: float64 (Q, D), of images it was not trained on.
    """

    training: NDArray[np.float64]
    decoys: NDArray[np.float64]


class GradientIndex:
    """A folder of gradients, as it is when it is opened.

    Rows are in two lists: N training images, and D decoys. Arrays over both have the training images first.

    Args:
        folder: that `guardrail attribute fit` made.
        same: groups of works, as (bank, work_id), that show one picture, as an index knows; each is credited as one.

    Raises:
        GradientsMissing: there is none.
        GradientsDamaged: a file of it is cut or edited.
    """

    def __init__(self, folder: Path, same: Iterable[Iterable[tuple[str, str]]] = ()) -> None:
        self.folder, self._rows = folder, GradientRows(folder)
        self._same = tuple(tuple(group) for group in same)
        self._live = self._rows.rows
        self._is_decoy = np.array([row.decoy for row in self._live], bool)

    @classmethod
    def open(cls, folder: str | Path, same: Iterable[Iterable[tuple[str, str]]] = ()) -> GradientIndex:
        """Open a folder; see the class."""
        return cls(Path(folder), same)

    @property
    def manifest(self) -> GradientManifest:
        """What its gradients were made with."""
        return self._rows.manifest

    @cached_property
    def training(self) -> tuple[KeptRow, ...]:
        """The N images that the model was trained on."""
        return tuple(row for row in self._live if not row.decoy)

    @cached_property
    def decoys(self) -> tuple[KeptRow, ...]:
        """The D images that it was not trained on."""
        return tuple(row for row in self._live if row.decoy)

    def method(self) -> AttributionMethod:
        """How influence is estimated by it.

        Raises:
            AttributionImpossible: it has no rows.
        """
        manifest = self.manifest
        return AttributionMethod(
            function=manifest.function,
            draws=manifest.draws,
            counters=manifest.counters,
            seed=manifest.seed,
            damping=self.solver.safe_damping,
            images=len(self.training),
            decoys=len(self.decoys),
            weights_sha256=manifest.weights_sha256,
        )

    @contextmanager
    def asking(self, access: PipelineAccess, at_once: int | None = None) -> Iterator[ImageGradients]:
        """Have a model that can be asked about images as this folder's were.

        Args:
            access: to it, by a pipeline without a guard, with the adapters that were on when an image was made.
            at_once: draws in one pass.

        Raises:
            GradientsMismatch: it is another model.
        """
        with opened_model(access, self.manifest, self.folder, at_once) as gradients:
            yield gradients

    # --- influence ----------------------------------------------------------------------------------------------

    @cached_property
    def solver(self) -> Solver:
        """Solves for influence; its decomposition is kept beside the rows until these change.

        Raises:
            AttributionImpossible: there are no rows, or all are zero.
        """
        path, of = self.folder / _EIGEN, self._rows.sha256()
        found = Decomposition.read(path, of)
        if found is None:
            if not self.training:
                raise self._refused("no training image", "one at least", "run guardrail attribute fit to its end")
            found = decomposed(self._blocks, len(self._live), self.manifest.counters)
            with contextlib.suppress(OSError):  # a folder that is only read: it is worked out again the next time
                found.write(path, of)
        if not found.safe_damping > 0:
            raise self._refused("gradients that are all zero", "gradients", "choose other parameters, and fit again")
        return Solver(self._blocks, found)

    def influences(self, queries: NDArray[np.floating], damping: float | None = None) -> Influences:
        """The influence of every row on every query.

        Args:
            queries: float (Q, k), gradients of the images that were generated.
            damping: what is added to the eigenvalues; default: from the rows, a tenth of their mean.
        """
        return self._split(self.solver.influences(queries, damping))

    def products(self, queries: NDArray[np.floating]) -> NDArray[np.float64]:
        """Inner products of queries with all rows, both less the decoys' mean gradient: float64 (Q, N + D).

        What all images have in common is most of a gradient, and nobody's.
        """
        apart = np.asarray(queries, np.float64) - self.common
        plain = np.hstack([apart @ one.astype(np.float64).T for one in self._blocks()])
        return np.hstack(self._split(plain)) - (apart @ self.common)[:, None]

    @cached_property
    def common(self) -> NDArray[np.float64]:
        """The mean gradient of the decoys, float64 (k,); zero where there are none."""
        total = np.zeros(self.manifest.counters)
        for block in self._rows.blocks(self._is_decoy):
            total += block.sum(axis=0, dtype=np.float64)
        return total / max(1, len(self.decoys))

    def reference(self, limit: int = _REFERENCES) -> Influences:
        """The influence of every row on the first decoys, as if these were images that were generated.

        Args:
            limit: R at most.

        Returns:
            (R, N) and (R, D); a decoy's influence on itself is in column r of row r.
        """
        return self.influences(self.row_gradients([row.name for row in self.decoys[:limit]]))

    def row_gradients(self, names: Collection[str]) -> NDArray[np.float32]:
        """The gradients of some rows, in the order in which the folder has them: float32 (n, k)."""
        wanted = {*names}
        return self._rows.all(np.array([row.name in wanted for row in self._live], bool))

    def pictures(self, rows: Sequence[KeptRow] | None = None) -> NDArray[np.uint8]:
        """Small pictures to be looked at, in the order in which the folder has them: uint8 (n, 64, 64, 3), RGB.

        Args:
            rows: of which; None: of the N training images.
        """
        wanted = {row.name for row in (self.training if rows is None else rows)}
        return self._rows.pictures(np.array([row.name in wanted for row in self._live], bool))

    def pulls(self, parts: NDArray[np.floating]) -> Pulls:
        """What all rows do to one image.

        Args:
            parts: float (H, k), of `ImageGradients`.
        """
        asked = np.asarray(parts, np.float64)
        apart = asked - self.common
        return Pulls(np.hstack(self.influences(asked)), self.products(asked), apart @ apart.T)

    # --- naming -------------------------------------------------------------------------------------------------

    @cached_property
    def labels(self) -> NDArray[np.intp]:
        """A number for each of N + D rows, the same for near-duplicates: by an index, equal pixels, and gradients."""
        both = (*self.training, *self.decoys)
        place = {(row.bank, row.work_id): at for at, row in enumerate(self.training)}
        known = [[place[one] for one in group if one in place] for group in self._same]
        same = [*digest_groups([row.pixels_sha256 for row in both]), *known]
        if len(both) > _COSINES or len(self.decoys) < _FEWEST:
            return grouped(len(both), same)
        gradients = np.vstack(self._split_rows(self._all())).astype(np.float64)
        return grouped(len(both), same, gradient_pairs(gradients, np.array([row.decoy for row in both], bool)))

    @cached_property
    def baseline(self) -> Baseline:
        """What clusters of near-duplicates and decoys do to images they have nothing to do with; worked out once."""
        found = self.reference()
        count = len(found.training)
        references = without_self(np.hstack(found), len(self.training) + np.arange(count))
        is_decoy = np.r_[np.zeros(len(self.training), bool), np.ones(len(self.decoys), bool)]
        return Baseline.of(references, is_decoy, self.labels)

    def attribution(
        self,
        parts: NDArray[np.floating],
        works: Sequence[Work] | None = None,
        rule: ReportRule | None = None,
        likeness: Likeness | None = None,
    ) -> Attribution:
        """What one image is estimated to owe to training images.

        Args:
            parts: float (H, k), its gradient by parts of its draws, of `asking`.
            works: of the N training images, with whose they are; default: their names alone.
            rule: when an image is named.
            likeness: how alike the image and the training images are, for a column of its own.
        """
        named = works or [Work(work_id=row.work_id, bank=row.bank) for row in self.training]
        return attributed(self.pulls(parts), self.baseline, named, self.method(), rule, likeness)

    # --- rows ---------------------------------------------------------------------------------------------------

    def _blocks(self) -> Iterator[NDArray[np.float32]]:
        if len(self._live) * self.manifest.counters <= _IN_MEMORY:
            yield self._all()
        else:
            yield from self._rows.blocks()

    def _all(self) -> NDArray[np.float32]:
        return self._in_memory

    @cached_property
    def _in_memory(self) -> NDArray[np.float32]:
        return self._rows.all()

    def _split(self, over_rows: NDArray[np.float64]) -> Influences:
        return Influences(over_rows[:, ~self._is_decoy], over_rows[:, self._is_decoy])

    def _split_rows(self, rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return rows[~self._is_decoy], rows[self._is_decoy]

    def _refused(self, found: str, expected: str, do: str) -> AttributionImpossible:
        return AttributionImpossible(str(self.folder), found, expected, do)


def asked_row(pixels: NDArray[np.uint8], seed: int | None = None) -> int:
    """The number that decides the noise an image is asked with: its seed where it is known, else its pixels."""
    return row_of(f"query:{pixels_sha256(pixels)}" if seed is None else f"seed:{seed}")


def parts_of(draws: int) -> int:
    """Into how many parts an image's draws are split: one a draw; of many, two halves that take turns."""
    return draws if draws <= _SINGLE or draws % 2 else 2
