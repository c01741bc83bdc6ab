"""Small carriers of arrays between rooms; records never hold arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from guardrail.records import CheckFailed, Region, Verdict, View, Work

__all__ = ["Fingerprints", "ImageBatch", "IndexRows", "Look", "Picture", "SignedImage", "SourcePicture"]


@dataclass(frozen=True, slots=True)
class Picture:
    """One image to judge.

    Attributes:
        name: what the caller knows it by: `images[0]`, or a path.
        pixels: uint8 (3, H, W), RGB 0..255, on any device, our own copy; None when it could not be read.
        failure: why it could not be read; exactly one of `pixels` and `failure` is set.
        file_sha256: hex digest of the file's bytes, where it came from a file.
        bare: where the picture is partly transparent, how else it may be seen, like `pixels`: its colours without the
            transparency, and laid on black. They are judged too.
    """

    name: str
    pixels: torch.Tensor | None = None
    failure: CheckFailed | None = None
    file_sha256: str | None = None
    bare: tuple[torch.Tensor, ...] = ()

    def __post_init__(self) -> None:
        assert (self.pixels is None) != (self.failure is None), "a picture has pixels or a failure"

    def seen_otherwise(self) -> tuple[Picture, ...]:
        """A partly transparent picture as it looks without the transparency, and on black (no file name holds NUL)."""
        return tuple(Picture(f"{self.name}\0{at}", pixels=pixels) for at, pixels in enumerate(self.bare, start=1))


@dataclass(frozen=True, slots=True)
class ImageBatch:
    """The images of one call, in the order they were returned."""

    pictures: tuple[Picture, ...]

    def __post_init__(self) -> None:
        assert len({picture.name for picture in self.pictures}) == len(self.pictures), "no two pictures share a name"

    def __len__(self) -> int:
        return len(self.pictures)


class Look(NamedTuple):
    """One look of the copy descriptor: a dihedral view of the picture, and a region of it (None: the whole)."""

    view: View
    region: Region | None


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """The fingerprints of a batch of N images; a row whose `failures` entry is set holds zeros and is not searched.

    Attributes:
        failures: per image, None or why it has no fingerprint.
        file_sha256: per image, hex digest of the file's bytes, or None where there was no file.
        pixels_sha256: per image, hex digest of its size and RGB pixels; None where it failed.
        pdq: uint8 (N, 8, 32), 256-bit PDQ hashes in the eight views of `records.VIEWS`, most significant bit first.
        pdq_quality: int64 (N,), 0..100, PDQ's own measure of how much there is to hash.
        phash: uint8 (N, 8, 8), 64-bit pHash in the eight views.
        copy: float32 (N, D), unit length copy descriptors of the whole pictures.
        clip: float32 (N, E), unit length CLIP embeddings, or None when no CLIP embedder was asked for.
        looks: the L further looks of the copy descriptor, at turned views and tiles.
        copy_looks: float32 (N, L, D), unit length copy descriptors of those looks; None where there are none.
    """

    failures: tuple[CheckFailed | None, ...]
    file_sha256: tuple[str | None, ...]
    pixels_sha256: tuple[str | None, ...]
    pdq: NDArray[np.uint8]
    pdq_quality: NDArray[np.int64]
    phash: NDArray[np.uint8]
    copy: NDArray[np.float32]
    clip: NDArray[np.float32] | None = None
    looks: tuple[Look, ...] = ()
    copy_looks: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.failures)


@dataclass(frozen=True, slots=True)
class IndexRows:
    """N works with all that an index keeps of them; what adding, building, exporting and importing hand on.

    Attributes:
        works: whose they are; no two have the same bank and work_id.
        files: the name of the file each was made from, relative to where it was found; empty where there was none.
        file_sha256: hex digest of that file's bytes, or None.
        pixels_sha256: hex digest of size and RGB pixels, or None.
        arrays: by column, one entry a work. `pdq` uint8 (N, 32), `phash` uint8 (N, 8), unturned; `copy` float16 (N, D),
            `tiles` float16 (N, T, D) and `clip` float16 (N, E), unit length; `pixels` uint8 (N, 32, 32, 3), RGB. A
            column that is missing was not computed for any of them (a hash list has `pdq` alone).
        previews: JPEG files of at most 192 px a side; empty bytes where there is none.
    """

    works: tuple[Work, ...]
    files: tuple[str, ...]
    file_sha256: tuple[str | None, ...]
    pixels_sha256: tuple[str | None, ...]
    arrays: Mapping[str, NDArray[Any]]
    previews: tuple[bytes, ...]

    def __post_init__(self) -> None:
        rest = (self.files, self.file_sha256, self.pixels_sha256, self.previews, *self.arrays.values())
        assert all(len(column) == len(self.works) for column in rest), "every column has one entry a work"

    def __len__(self) -> int:
        return len(self.works)


@dataclass(frozen=True, slots=True)
class SignedImage:
    """An accepted image as it leaves: the signed bytes and what they carry.

    Attributes:
        content: the whole file, PNG, with its manifest.
        manifest_id: the C2PA manifest's URN.
        verdict: why it was accepted.
    """

    content: bytes
    manifest_id: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class SourcePicture:
    """One picture of a source, listed and not read yet.

    Attributes:
        name: what it is called in its source; no other picture there has this name.
        stamp: what is the same as long as the picture is; empty where that cannot be told.
        at: where its source finds it again: a path, or a shard and a position in it.
        facts: what the source says of the work, by the names of `Work`'s fields.
    """

    name: str
    stamp: str
    at: Any = None
    facts: Mapping[str, str] = field(default_factory=dict)
