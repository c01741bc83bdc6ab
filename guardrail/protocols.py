"""What rooms and plugins must offer to stand in for one another: embedders and index backends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from guardrail.carriers import Fingerprints
    from guardrail.records import EmbedderSpec, IndexHeader, Neighbour, SimilarityLimit

__all__ = ["Embedder", "IndexBackend", "WordEmbedder"]


@runtime_checkable
class Embedder(Protocol):
    """Turns pictures into unit vectors whose cosine says how alike they are."""

    @property
    def spec(self) -> EmbedderSpec:
        """Name, weights sha256, preprocessing and dimensions: recorded in every index and verdict.

        By this name the embedder is made again when the index is opened. A model file is in it by its own name alone,
        without its folder: it is then looked for in the folder of the setting `weights`.
        """

    @property
    def shipped_limit(self) -> SimilarityLimit:
        """The limits used before calibration."""

    @property
    def shipped_tile_limit(self) -> SimilarityLimit:
        """The limits of matches by tiles before calibration; `SimilarityLimit()`, never reached, if none are known."""

    def embed(self, pictures: Sequence[torch.Tensor]) -> NDArray[np.float32]:
        """Embed pictures.

        Args:
            pictures: N tensors, uint8 (3, H, W), RGB 0..255; sizes may differ; any device.

        Returns:
            float32 (N, D), each row of unit length, in host memory. Same pictures, same device: same rows to 1e-6,
            whatever batch they come in.
        """


@runtime_checkable
class WordEmbedder(Protocol):
    """An embedder that also turns words into vectors among its pictures', so that a bank can be searched by them."""

    @property
    def spec(self) -> EmbedderSpec:
        """See `Embedder.spec`."""

    def embed_words(self, words: Sequence[str]) -> NDArray[np.float32]:
        """Embed N short descriptions: float32 (N, D), each row of unit length, in host memory."""


@runtime_checkable
class IndexBackend(Protocol):
    """Answers which works are near an image."""

    @property
    def header(self) -> IndexHeader:
        """What the index says of itself."""

    def search(self, prints: Fingerprints, limit: int) -> tuple[tuple[Neighbour, ...], ...]:
        """The nearest works of each image.

        Args:
            prints: fingerprints of N images, made to this index's specification.
            limit: how many works to return for each signal and of each kind at most, >= 1.

        Returns:
            N tuples. Every exact match first. Then for each signal, nearest first and each work once in its best view:
            at most `limit` works that are protected now, and apart from them at most `limit` others (credited,
            generic), so that neither crowds out the other; rows that have expired count for nothing. A row that
            failed to fingerprint gets none.
        """

    def proof_pixels(self, row: int) -> NDArray[np.uint8]:
        """The work's picture, small: uint8 (32, 32, 3), RGB."""

    def preview(self, row: int) -> bytes:
        """The work's picture as a JPEG file of at most 192 px a side, for people to look at."""
