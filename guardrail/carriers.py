"""Small carriers of arrays between rooms; records never hold arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from guardrail.records import CheckFailed, Region, Verdict, View

__all__ = ["Fingerprints", "ImageBatch", "Look", "Picture", "SignedImage"]


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
