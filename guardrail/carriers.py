"""Small carriers of arrays between rooms; records never hold arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from guardrail.records import (
        CheckFailed,
        Evidence,
        ImageMime,
        InputPicture,
        Limits,
        Neighbour,
        Region,
        ReviewDecision,
        Verdict,
        View,
        Watermark,
        Work,
    )

__all__ = [
    "Fingerprints",
    "ImageBatch",
    "IndexRows",
    "Look",
    "Marked",
    "OutputPicture",
    "OutputPrints",
    "ParentFile",
    "Picture",
    "RunFacts",
    "RunInputs",
    "Sign",
    "SignReading",
    "SignedImage",
    "SourcePicture",
    "Step",
    "Unread",
]


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
        stands_for: of a frame of a video, the names of the frames after it that were left out because they hardly
            differ from it; the verdict on it is theirs.
    """

    name: str
    pixels: torch.Tensor | None = None
    failure: CheckFailed | None = None
    file_sha256: str | None = None
    bare: tuple[torch.Tensor, ...] = ()
    stands_for: tuple[str, ...] = ()

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


@dataclass(frozen=True, slots=True)
class RunInputs:
    """The pictures that a call was given, copied before it ran.

    Attributes:
        records: what each is; where it could not be read, without a digest.
        batch: the pictures themselves, in the same order and under the same names.
        unread: what was given and not looked at, one line each, for `GenerationContext.unread`.
        parent: the file behind the first picture that the run starts from, where that has credentials.
    """

    records: tuple[InputPicture, ...]
    batch: ImageBatch
    unread: tuple[str, ...] = ()
    parent: ParentFile | None = None

    def __post_init__(self) -> None:
        names = tuple(picture.name for picture in self.batch.pictures)
        assert names == tuple(record.name for record in self.records), "one record for each picture"


class Look(NamedTuple):
    """One look of the copy descriptor: a dihedral view of the picture, and a region of it (None: the whole)."""

    view: View
    region: Region | None


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What is known of a run besides its context when its pictures are judged.

    Attributes:
        known: the pictures that it was given, fingerprinted and searched for (`judge.KnownInputs`); None without any.
        evidence: by picture name, what was found while it ran.
        earlier: by picture name, the id of the verdict on it as it was generated, where it is judged as it leaves.
        reviewed: whether a person has decided that they may leave: no case is opened for them.
    """

    known: Any = None
    evidence: Mapping[str, tuple[Evidence, ...]] = field(default_factory=dict)
    earlier: Mapping[str, str] = field(default_factory=dict)
    reviewed: bool = False


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
class Marked:
    """An image that a plugin put an invisible mark into.

    Attributes:
        pixels: uint8 (H, W, 3), RGB, of the size of the image.
        watermark: what was put in.
    """

    pixels: NDArray[np.uint8]
    watermark: Watermark


@dataclass(frozen=True, slots=True)
class ParentFile:
    """A file with credentials of its own that an image was made from.

    Attributes:
        content: the whole file.
        mime: its type.
        strength: of image to image: how far the run could go from it (0..1); None where that is not known.
        is_output: whether it is the very image, which was checked as a file and is merely encoded anew.
    """

    content: bytes
    mime: ImageMime
    strength: float | None = None
    is_output: bool = False


@dataclass(frozen=True, slots=True)
class OutputPicture:
    """An accepted image as it is about to be signed: encoded, and judged once more as it now is.

    Attributes:
        content: the whole file, without a manifest.
        mime: its type.
        pixels: uint8 (H, W, 3), RGB, what the file decodes to.
        watermark: the mark in it, if any.
        parent: the file that it was made from, where that has credentials.
        limits: those it was judged by, to be told beside the nearest works; None: they are not told.
        review: the decision of the person who released it; None where none was asked.
    """

    content: bytes
    mime: ImageMime
    pixels: NDArray[np.uint8]
    watermark: Watermark | None = None
    parent: ParentFile | None = None
    limits: Limits | None = None
    review: ReviewDecision | None = None


@dataclass(frozen=True, slots=True)
class OutputPrints:
    """What is kept of a released image to know a copy of it again that has lost its credentials.

    Attributes:
        pdq: 32 bytes each, unturned: of the whole, then of nine crops that overlap.
        embedder: name and sha256 of the weights of the copy descriptor, `NAME@SHA256`.
        copy: float16 (1 + T, D), unit length: of the whole, and of T tiles.
        iscc: the image's ISCC; empty where it was not asked for.
        preview: JPEG file of at most 192 px a side.
    """

    pdq: bytes
    embedder: str
    copy: NDArray[np.float16]
    iscc: str
    preview: bytes


@dataclass(frozen=True, slots=True)
class SignedImage:
    """An accepted image as it leaves: the signed bytes and what they carry.

    Attributes:
        content: the whole file, with its manifest.
        manifest_id: the C2PA manifest's URN.
        verdict: why it was accepted.
        mime: the file's type.
        binding_sha256: the digest that binds the manifest to the file, as hex.
    """

    content: bytes
    manifest_id: str
    verdict: Verdict
    mime: ImageMime = "image/png"
    binding_sha256: str | None = None


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


class Unread(NamedTuple):
    """Why something could not be read off a step or a run."""

    reason: str


@dataclass(frozen=True, slots=True)
class Sign:
    """A sign of memorisation that a plugin looks for during one run.

    Attributes:
        name: its name in settings, evidence and calibrations.
        unit: what it is measured in, in words; higher is more suspicious.
        over: how the steps of a run are put together: their mean, or the highest.
        scale: whether values are lengths (0 and up) or cosines (-1..1); calibration fits them accordingly.
    """

    name: str
    unit: str
    over: Literal["mean", "max"] = "mean"
    scale: Literal["length", "cosine"] = "length"


@dataclass(frozen=True, slots=True)
class SignReading:
    """What a sign measured at one step, for each of the B images of the batch.

    Attributes:
        sign: its name.
        values: float (B,), on any device; NaN where nothing could be measured of an image is a check that failed.
        works: for each image the work that the value is about, or empty.
    """

    sign: str
    values: torch.Tensor
    works: tuple[Work | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a scheduler inside a pipeline's call, for a batch of B images. Tensors are read, never written to.

    Attributes:
        stage: the pipeline's component that made the step (`scheduler`, `prior_scheduler`), or `prior` where an image
            embedding was finished.
        number: of this stage, from 0.
        total: how many there will be; None where that is not known.
        timestep: as the scheduler counts it.
        latents: (B, ...), before the step.
        after: (B, ...), after it.
        noise: (B, ...), the model output the scheduler was given, guidance included; None at an embedding.
        gap: (B,), float, length of the difference between the conditional and the unconditional prediction
            (Euclidean, over all values of an image), or why there is none.
        guidance: the guidance scale in force; None where the pipeline does not say.
        embedding: (B, D), a finished image embedding; None at all other steps.
        embedder: name of the index's CLIP embedder, by which embeddings are looked up; empty where it has none.
        predict: gives the image the model is heading for, (B, ...), in the space of the latents.
        pictures: gives that image decoded, a batch of B pictures.
        look: gives the works nearest to those pictures, or to the embedding, for each of the B images.
    """

    stage: str
    number: int
    total: int | None
    timestep: torch.Tensor | float
    latents: torch.Tensor
    after: torch.Tensor
    noise: torch.Tensor | None
    gap: torch.Tensor | Unread
    guidance: float | None
    embedding: torch.Tensor | None
    embedder: str
    predict: Callable[[], torch.Tensor | Unread]
    pictures: Callable[[], ImageBatch | Unread]
    look: Callable[[], tuple[tuple[Neighbour, ...], ...] | Unread]
