"""Images that are influential on everything: each row is held against what it does to images that owe it nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from guardrail.attribution_errors import AttributionImpossible

__all__ = ["LEAST_REFERENCES", "Baseline", "Values", "centre_and_spread"]

LEAST_REFERENCES = 20  # images; the spread of fewer is wrong by more than a fifth, and hubs are left as they are
_NORMAL_SPREAD = 1.4826  # standard deviations of a normal distribution in its median absolute deviation

Array = NDArray[np.float64]
Labels = NDArray[np.intp]


class Values(NamedTuple):
    """Influences on one image, comparable with each other.

    Attributes:
        clusters: float64 (C,), centred on the median of the decoys, in units of their spread.
        decoys: float64 (D,), the same of the decoys.
        shift: 0 or more, how much higher than decoys the clusters lie as a whole; it was taken off `clusters`.
        scale: 1 or more, how much wider they are spread; `clusters` were divided by it.
    """

    clusters: Array
    decoys: Array
    shift: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Baseline:
    """What the clusters and decoys of an index do to R reference images; made once, used for every image.

    The influences on an image are centred on the decoys' median in units of their spread (1.4826 x the median absolute
    deviation), because a faint image pulls less than a strong one. Then each cluster and each decoy is centred and
    scaled by its own median and spread over the references, because some images have large gradients and are
    influential on everything. Sums over ten copies vary more than single influences do; the second step takes that off
    as well, so that a cluster is compared with decoys whatever its size.

    A picture that a model made, or knows by heart, pulls like all training images a little, whatever they show, and not
    like decoys. Where the clusters as a whole lie higher than the decoys or are spread wider, that is taken off, too:
    who stands out has to stand out among the training images.

    Attributes:
        cluster: intp (M,), the cluster of each row, 0..C-1; -1 for decoys.
        decoys: intp (D,), rows of the decoys that count: those with no near-duplicate among the training images or
            among former decoys.
        centre: float64 (C + D,), of each cluster and decoy over the references, after the first step.
        spread: float64 (C + D,), the same.
        over_clusters: float32 (R, C), what the clusters do to the references.
        over_decoys: float64, ascending, what the decoys do to all references but themselves.
        references: R; 0 where they were too few to correct by.
    """

    cluster: Labels
    decoys: Labels
    centre: Array
    spread: Array
    over_clusters: NDArray[np.float32]
    over_decoys: Array
    references: int

    @classmethod
    def of(cls, references: Array, decoys: NDArray[np.bool_], labels: Labels, *, hubs: bool = True) -> Baseline:
        """Measure what is usual.

        Args:
            references: float64 (R, M), influences of all rows on images the model was not trained on and did not make,
                as a rule the decoys; NaN where image and row are the same (`without_self`).
            decoys: bool (M,), which rows are decoys.
            labels: (M,), equal for near-duplicates (`grouped`).
            hubs: whether to correct for rows that are influential on everything.

        Raises:
            AttributionImpossible: the shapes do not fit, or an influence is infinite.
        """
        if references.ndim != 2 or not references.shape[1] == len(decoys) == len(labels) or np.isinf(references).any():
            raise AttributionImpossible(
                "references",
                f"{references.shape}, {len(decoys)} rows told apart and {len(labels)} labels",
                "finite (R, M) and M of each",
                "ask the references about all rows",
            )
        cluster, kept = _told_apart(decoys, labels)
        asked = references[~np.isnan(references[:, _left_out(decoys, kept)]).any(axis=1)]
        if len(asked) < LEAST_REFERENCES or not len(kept):
            asked = asked[:0]
        plain = np.hstack(_scaled(asked, cluster, kept))
        columns = plain.shape[1]
        corrected = hubs and len(asked) > 0
        centre, spread = centre_and_spread(plain.T) if corrected else (np.zeros(columns), np.ones(columns))
        values = (plain - centre) / spread
        clusters = columns - len(kept)
        over_decoys = values[:, clusters:]
        return cls(
            cluster=cluster,
            decoys=kept,
            centre=centre,
            spread=spread,
            over_clusters=values[:, :clusters].astype(np.float32),
            over_decoys=np.sort(over_decoys[~np.isnan(over_decoys)]),
            references=len(asked),
        )

    @property
    def clusters(self) -> int:
        """C, how many clusters of training images there are."""
        return int(self.over_clusters.shape[1])

    def values(self, influence: Array) -> Values:
        """The influences on one image, comparable with each other.

        Args:
            influence: float64 (M,), of all rows.

        Returns:
            The values of clusters and decoys. Without decoys the clusters are centred on their own median, in units of
            their own spread.

        Source: for what the training images have in common, Efron 2004, "Large-scale simultaneous hypothesis testing:
        the choice of a null hypothesis", section 3 (the null from the middle of the values themselves); we differ in
        that it is taken only where it makes naming harder, because few influences are to be real.
        """
        plain = _scaled(influence[None], self.cluster, self.decoys)
        both = (np.hstack(plain)[0] - self.centre) / self.spread
        clusters, alone = both[: self.clusters], both[self.clusters :]
        if len(clusters) < LEAST_REFERENCES:
            return Values(clusters, alone)
        middle, width = centre_and_spread(clusters[None])
        shift, scale = max(float(middle[0]), 0.0), max(float(width[0]), 1.0)
        return Values((clusters - shift) / scale, alone, shift, scale)


def centre_and_spread(rows: Array) -> tuple[Array, Array]:
    """Median, and 1.4826 x the median absolute deviation, of each row of float64 (B, n), NaN left out: (B,) each.

    Where more than half of a row are one value, the mean absolute deviation stands in; where all are, 1.
    """
    centre = np.nanmedian(rows, axis=1)
    off = np.abs(rows - centre[:, None])
    spread = _NORMAL_SPREAD * np.nanmedian(off, axis=1)
    spread = np.where(spread > 0, spread, np.nanmean(off, axis=1))
    return centre, np.where(spread > 0, spread, 1.0)


def _told_apart(decoys: NDArray[np.bool_], labels: Labels) -> tuple[Labels, Labels]:
    """Clusters of the training rows as 0..C-1, -1 for decoys; and the rows of the decoys that count."""
    known, numbered = np.unique(labels[~decoys], return_inverse=True)
    cluster = np.full(len(labels), -1, np.intp)
    cluster[~decoys] = numbered
    rows = np.flatnonzero(decoys)
    _, first = np.unique(labels[rows], return_index=True)
    rows = rows[np.sort(first)]
    return cluster, rows[~np.isin(labels[rows], known)]


def _left_out(decoys: NDArray[np.bool_], kept: Labels) -> Labels:
    """Rows of the decoys that do not count."""
    return np.setdiff1d(np.flatnonzero(decoys), kept)


def _scaled(influences: Array, cluster: Labels, decoys: Labels) -> tuple[Array, Array]:
    """Sums over clusters (B, C) and decoys (B, D), each of B images centred and scaled by its decoys."""
    rows = np.flatnonzero(cluster >= 0)
    count = int(cluster.max(initial=-1)) + 1
    members = csr_array((np.ones(len(rows)), (rows, cluster[rows])), shape=(len(cluster), count))
    sums, alone = (np.nan_to_num(influences, nan=0.0) @ members), influences[:, decoys]
    over = alone if len(decoys) else sums
    if not over.size:
        return sums, alone
    centre, spread = centre_and_spread(over)
    return (sums - centre[:, None]) / spread[:, None], (alone - centre[:, None]) / spread[:, None]
