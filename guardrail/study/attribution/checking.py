"""How often images are named that nothing is owed to: counted on the decoys of an index itself."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from guardrail.study.attribution.hubs import Baseline
from guardrail.study.attribution.naming import NamingRule, named

__all__ = ["NamingCheck", "check_naming"]

_FOLDS = 5  # a fifth of the decoys is held out at a time, so that four fifths are left to name by

Array = NDArray[np.float64]
Rows = NDArray[np.intp]


class NamingCheck(NamedTuple):
    """What was named on pictures that the model was neither trained on nor made.

    Attributes:
        pictures: how many were asked about; 0 where there are too few decoys to hold any out.
        naming: on how many of them anything was named.
        images_named: 0..1, the share of training images, over all pictures, that were named.
        decoys_named: 0..1, the same of decoys that were passed off as training images.
    """

    pictures: int
    naming: int
    images_named: float
    decoys_named: float


def check_naming(
    references: Array, decoys: NDArray[np.bool_], labels: Rows, rule: NamingRule | None = None, seed: int = 0
) -> NamingCheck:
    """Hold decoys out, ask about them as pictures, and pass them off as training images.

    In five turns a fifth of the decoys is held out and the others stay decoys. What is named on pictures that were held
    out is false, as far as they owe nothing to the training images. Nothing is asked of the model: influence on an
    image that is itself a row differs from that on a new one by a factor that all other rows share.

    Args:
        references: float64 (R, M), as for `Baseline.of`; those of them that are no decoys are not asked about.
        decoys: bool (M,).
        labels: (M,), equal for near-duplicates.
        rule: when a cluster is named; default: `NamingRule()`.
        seed: of the turns.

    Returns:
        The counts over all pictures. Costs five times `Baseline.of`.
    """
    itself = np.isnan(references)
    own = np.where(itself.any(axis=1), itself.argmax(axis=1), -1)
    rows = np.flatnonzero(decoys)
    turns = np.random.default_rng(seed).permutation(len(rows)) % _FOLDS
    told: list[tuple[bool, float, float]] = []
    for turn in range(_FOLDS):
        held = rows[turns == turn]
        out = np.isin(own, held)
        baseline = Baseline.of(references[~out], decoys & ~np.isin(np.arange(len(decoys)), held), labels)
        if not baseline.references:
            continue
        images = np.unique(baseline.cluster[~decoys])
        passed_off = np.setdiff1d(baseline.cluster[held], images)
        for picture in np.flatnonzero(out).tolist():
            found = named(baseline, np.nan_to_num(references[picture], nan=0.0), rule).named
            other = np.arange(len(found)) != baseline.cluster[own[picture]]
            of_images, of_decoys = (found[which[other[which]]] for which in (images, passed_off))
            told.append((bool(of_images.any()), _share(of_images), _share(of_decoys)))
    anything, images_named, decoys_named = np.mean(told, axis=0).tolist() if told else (0.0, 0.0, 0.0)
    return NamingCheck(len(told), round(anything * len(told)), images_named, decoys_named)


def _share(named_ones: NDArray[np.bool_]) -> float:
    """The share of those that are named, 0 of none."""
    return float(named_ones.mean()) if len(named_ones) else 0.0
