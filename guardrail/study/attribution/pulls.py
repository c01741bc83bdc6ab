"""How all rows of a gradient index and an image pull on a model, as plain arrays: what naming and shares start from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from guardrail.attribution_errors import AttributionImpossible

__all__ = ["Pulls", "measured", "without_self"]

Array = NDArray[np.float64]
Chosen = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Pulls:
    """One image, and the M rows of an index: N training images and D decoys.

    Influence and inner product are linear in the image's gradient, so that those of all draws are the mean over the
    parts, and those of other draws can be told from them.

    Attributes:
        influences: float64 (H, M), of every row on each of H parts of the image's draws, all of as many draws, in the
            order of their times: single draws, or two halves that take turns.
        products: float64 (H, M), inner products of the gradient of a part with those of the rows, both less the mean
            gradient of the decoys: what all images have in common is no share of anybody.
        gram: float64 (H, H), the same of the gradients of the parts.

    Raises:
        AttributionImpossible: the shapes do not fit, or a number is not finite.
    """

    influences: Array
    products: Array
    gram: Array

    def __post_init__(self) -> None:
        parts, rows = self.influences.shape
        if self.products.shape != (parts, rows) or self.gram.shape != (parts, parts) or not parts:
            raise AttributionImpossible(
                "pulls",
                f"influences {self.influences.shape}, products {self.products.shape} and gram {self.gram.shape}",
                "(H, M) twice and (H, H)",
                "ask all parts of the draws about all rows",
            )
        if not all(np.isfinite(one).all() for one in (self.influences, self.products, self.gram)):
            raise AttributionImpossible("pulls", "NaN or infinity", "finite influences", "fit the gradients again")

    @property
    def influence(self) -> Array:
        """Of every row on the whole image, float64 (M,)."""
        return np.asarray(self.influences.mean(axis=0))


def without_self(references: Array, asked: NDArray[np.intp]) -> Array:
    """Influences on reference images, less that of an image on itself, which nobody asked for.

    Args:
        references: float64 (R, M), of all rows on R images that are rows themselves.
        asked: (R,), which row each of them is.

    Returns:
        A copy, float64 (R, M), NaN where image and row are the same.
    """
    kept = np.array(references, np.float64)
    kept[np.arange(len(kept)), asked] = np.nan
    return kept


def measured(gradients: Array, decoys: Chosen, parts: Array, damping: float) -> tuple[Pulls, Array]:
    """The plain version of what an index works out: everything about one image from the gradients themselves.

    Args:
        gradients: float64 (M, k), of all rows.
        decoys: bool (M,), which of them the model was not trained on.
        parts: float64 (H, k), gradients of the image, one for each part of its draws.
        damping: above 0, what is added to the eigenvalues of the Gram matrix.

    Returns:
        The pulls, and float64 (R, M) influences on the decoys as references, NaN for each on itself.

    Source: Park et al. 2023 (TRAK), section 3, equation 15, less the factor of the training loss; Zheng et al. 2024
    (D-TRAK), section 3, leave it out as well.
    """
    rows, asked = np.asarray(gradients, np.float64), np.asarray(parts, np.float64)
    gram = rows @ rows.T
    both = np.hstack([rows @ asked.T, gram[:, decoys]])
    solved = np.asarray(np.linalg.solve(gram + damping * np.eye(len(rows)), both), np.float64)
    common = rows[decoys].mean(axis=0) if decoys.any() else 0.0
    apart = asked - common
    pulls = Pulls(solved[:, : len(asked)].T.copy(), apart @ (rows - common).T, apart @ apart.T)
    return pulls, without_self(solved[:, len(asked) :].T, np.flatnonzero(decoys))
