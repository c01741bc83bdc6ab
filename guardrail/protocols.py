"""What rooms and plugins must offer to stand in for one another: embedders and index backends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from guardrail.carriers import Fingerprints, IndexRows, SourcePicture
    from guardrail.records import EmbedderSpec, IndexChange, IndexHeader, Neighbour, SimilarityLimit

__all__ = ["Embedder", "IndexBackend", "Source", "WordEmbedder", "WritableIndex"]


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

    def pinned(self) -> IndexBackend:
        """This index as it is now, and stays whatever is written to it: one batch is judged by one state.

        A work that was added or withdrawn before the call, in whatever process, is seen or is gone. A backend that has
        no former states (a Milvus server) gives the newest one instead.

        Raises:
            IndexMissing, IndexDamaged: the index cannot be trusted any more.
        """

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
        """The work's picture, small: uint8 (32, 32, 3), RGB.

        Args:
            row: of a neighbour of this state of the index.

        Raises:
            PictureNotKept: the index has no picture of that work (it came from a hash list).
        """

    def preview(self, row: int) -> bytes:
        """The work's picture as a JPEG file of at most 192 px a side, for people to look at.

        Raises:
            PictureNotKept: see `proof_pixels`.
        """


@runtime_checkable
class WritableIndex(IndexBackend, Protocol):
    """An index to which works are added and from which they are withdrawn while it is searched."""

    def put(self, rows: IndexRows) -> IndexChange:
        """Add works; one that is there (the same bank and work_id) is replaced.

        Durable when it returns, and seen by every search that starts from then on, in whatever process. It is done
        whole or not at all; doing it again changes nothing.

        Raises:
            IndexMismatch: the rows were made to another specification.
            IndexLocked: another process is writing to it.
            IndexUnwritable: it is full or cannot be reached; nothing was changed.
        """

    def withdraw(self, keys: Sequence[tuple[str, str]]) -> IndexChange:
        """Withdraw works, by (bank, work_id); those that are not there are listed as `unknown`. Durable like `put`.

        Raises:
            IndexLocked, IndexUnwritable: see `put`.
        """

    def kept(self, keys: Sequence[tuple[str, str]]) -> IndexRows:
        """All that the index keeps of some works, in the order asked for; those that are not there are left out.

        Columns that none of these rows has are missing. With `put` this is how a work's owner or dates are updated.
        """


@runtime_checkable
class Source(Protocol):
    """Where pictures are read from in bulk: a folder, tar shards, tables. Can be pickled, so that workers have it."""

    @property
    def location(self) -> str:
        """Where it lies and how it is read: unfinished work is kept for the source of the same location."""

    @property
    def left_out(self) -> int:
        """How many files the last listing passed over, because they are not named like images."""

    def __iter__(self) -> Iterator[SourcePicture]:
        """List every picture, in the same order every time, without reading it.

        What cannot be listed, such as a shard that is cut, is listed as one picture that cannot be read.
        """

    def estimate(self) -> int:
        """About how many pictures there are, for people who wait; 0 where nobody knows."""

    def find(self, name: str) -> SourcePicture | None:
        """A picture that the listing passes over and somebody asked for by name; None where there is no such thing."""

    def open(self, picture: SourcePicture) -> object:
        """What a worker needs to read a picture: a path, an address, or the bytes. Quickest in the order listed."""
