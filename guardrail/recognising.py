"""A picture without credentials in, the released output that it is a copy of out; and what is kept to know that."""

from __future__ import annotations

import io
import tempfile
import tomllib
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image

from guardrail.act.iscc import picture_iscc
from guardrail.carriers import ImageBatch, OutputPrints, Picture
from guardrail.errors import ImageUnreadable
from guardrail.fingerprint import Fingerprinter, hash_pdq
from guardrail.fingerprint.devices import exact_arithmetic
from guardrail.proof import Features, align, compare_aligned, compare_viewed, detail_apart, features_of, lay_whole
from guardrail.records import VIEWS, Release

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from guardrail.protocols import Embedder
    from guardrail.records import View

__all__ = ["PrintsKept", "Recognised", "Recognising", "RecognitionLimits"]

_LIMITS = Path(__file__).with_suffix(".toml")
_WINDOW = 0.9  # of a side: what is left of it by the crop that a copy most often goes through
_OFFSETS = (0.0, 0.5, 1.0)  # of what is left over: three by three windows
_PREVIEW_PX, _PREVIEW_QUALITY = 192, 85  # as an index keeps works
_LONGEST_PX = 320  # of a picture when its features are sought, as in hooks/guardrail_hooks/geometry_proof.py
_FEWEST_INLIERS = 8  # limits.toml's flag limit; here only where to look, the tiles decide
_ROWS_AT_A_TIME = 4096  # of copy descriptors turned to float32 at once: 20 MB
_LEAST_SPREAD = 4.0  # standard deviation of grey values, of 255: who copied a blank picture cannot be told
_CLEAR_SHARE = 0.5  # of the limit: an output as near as this is it, and the others are not looked at
_CONTRAST_PX = 64  # as proof/tiles.py compares pictures
_BYTES_OF_PDQ = 32
_TURNS = 4  # of the eight views; the others are flipped


class PrintsKept(Protocol):
    """A memory that keeps prints of released images."""

    def released_prints(self) -> Iterator[tuple[Release, OutputPrints]]:
        """Every release that stands, with its prints."""


class RecognitionLimits(NamedTuple):
    """What makes a picture a copy of an output, see recognising.toml.

    Attributes:
        candidates: outputs looked at closely, by each of PDQ and the copy descriptor.
        tile_l2_within: how far the farthest of 16 tiles may be from the output's preview, 0..1.
        tile_share_within: the same, as a share of the preview's contrast (mean standard deviation of its channels).
        detail_within: in what share of the cells that have detail the two may differ, 0..1.
        alike_bits: laid as a whole or by its pixels, a picture must be as near by PDQ,
        alike_from: or as similar by the copy descriptor.
    """

    candidates: int
    tile_l2_within: float
    tile_share_within: float
    detail_within: float
    alike_bits: int
    alike_from: float

    def within(self, preview: NDArray[np.uint8]) -> float:
        """How far the farthest tile may be from this preview, uint8 (h, w, 3): 0..1."""
        return min(self.tile_l2_within, self.tile_share_within * _contrast(preview))

    @classmethod
    def shipped(cls) -> RecognitionLimits:
        """Those that ship with guardrail."""
        return cls(**tomllib.loads(_LIMITS.read_text(encoding="utf-8")))


@dataclass(frozen=True, slots=True)
class Recognised:
    """A picture that shows one of our outputs.

    Attributes:
        release: the output.
        distance_bits: PDQ, in the nearest of eight views, to the nearest of the output's crops.
        similarity: cosine of the copy descriptors; None where the output was kept with another embedder.
        tile_l2: of the picture laid onto the output's preview, the farthest of 16 tiles, 0..1.
        laid_by: how it was laid there: turned as a whole, by local features, or by its pixels.
    """

    release: Release
    distance_bits: int
    similarity: float | None
    tile_l2: float
    laid_by: Literal["view", "features", "pixels"]


class Recognising:
    """Keeps what is needed to know our outputs again, and knows them again.

    Args:
        memory: keeps the prints.
        copy: the embedder of the copy descriptor.
        device: where hashes are made, a torch device name or `auto`.
        iscc: whether an ISCC is kept too.
        limits: default: those that ship with guardrail.
    """

    def __init__(
        self,
        memory: PrintsKept,
        copy: Embedder,
        *,
        device: str = "cpu",
        iscc: bool = False,
        limits: RecognitionLimits | None = None,
    ) -> None:
        self._memory, self._iscc = memory, iscc
        self._fingerprint = Fingerprinter(copy, device=device)
        self._embedder = f"{copy.spec.name}@{copy.spec.weights_sha256}"
        self._limits = limits or RecognitionLimits.shipped()
        self._kept: _Kept | None = None

    def prints_of(self, picture: Picture) -> OutputPrints:
        """What is kept of an output, about 8 KB: ten PDQ hashes, a copy descriptor, a preview, an ISCC where asked for.

        Args:
            picture: with pixels, uint8 (3, H, W).

        Raises:
            ImageUnreadable: no fingerprint can be made of it.
            ExtraMissing: an ISCC is asked for, and `iscc` is not installed.
        """
        pixels, prints = self._prints(picture)
        with exact_arithmetic(pixels.device):
            windows = hash_pdq(_windows(pixels))[0][:, 0].cpu().numpy()
        rows = _rows(pixels)
        return OutputPrints(
            pdq=prints.pdq[0, 0].tobytes() + np.ascontiguousarray(windows).tobytes(),
            embedder=self._embedder,
            copy=prints.copy.astype(np.float16),
            iscc=picture_iscc(rows) if self._iscc else "",
            preview=_preview(rows),
        )

    def find(self, picture: Picture) -> Recognised | None:
        """The output that a picture is a copy of, or None.

        JPEG, scaling, tints, flips, quarter turns and small crops do not hide a copy; what was drawn over, cut to a
        piece or made anew is not found. All prints are read from memory at the first call, and kept.

        Args:
            picture: with pixels, uint8 (3, H, W).

        Raises:
            ImageUnreadable: no fingerprint can be made of it: whether it is a copy is not known.
            LedgerBroken: the prints in memory were edited.
        """
        pixels, prints = self._prints(picture)
        if self._kept is None:
            self._kept = _Kept(self._memory.released_prints(), self._embedder)
        seen = _Seen(_small(_rows(pixels)))
        if not len(self._kept) or float(seen.pixels.mean(axis=2).std()) < _LEAST_SPREAD:
            return None
        found: list[Recognised] = []
        for near in self._kept.nearest(prints.pdq[0], prints.copy[0], self._limits.candidates):
            preview = self._kept.preview(near.row)
            within = self._limits.within(preview)
            laid = _laid(seen, preview, near, self._limits)
            if laid is not None:
                found.append(Recognised(self._kept.release(near.row), near.distance_bits, near.similarity, *laid))
            if laid is not None and laid[0] <= within * _CLEAR_SHARE:
                break
        return min(found, key=lambda one: one.tile_l2, default=None)

    def _prints(self, picture: Picture) -> tuple[torch.Tensor, _Prints]:
        prints = self._fingerprint(ImageBatch((picture,)))
        if (failure := prints.failures[0]) is not None or picture.pixels is None:
            raise ImageUnreadable(picture.name, f"{failure.check}: {failure.error}" if failure else "no pixels")
        return picture.pixels, _Prints(prints.pdq, prints.copy)


class _Prints(NamedTuple):
    """PDQ in eight views, uint8 (1, 8, 32), and copy descriptor, float32 (1, D), of one picture."""

    pdq: NDArray[np.uint8]
    copy: NDArray[np.float32]


class _Near(NamedTuple):
    """An output that is near by one signal at least."""

    row: int
    distance_bits: int
    view: View
    similarity: float | None


class _Kept:
    """The prints of all outputs: hashes and vectors in memory, previews in a file without a name."""

    def __init__(self, kept: Iterator[tuple[Release, OutputPrints]], embedder: str) -> None:
        self._previews: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as this object
        weakref.finalize(self, self._previews.close)
        self._releases: list[Release] = []
        ends, hashes, vectors, vector_rows, hash_rows = [0], [], [], [], []
        for row, (release, prints) in enumerate(kept):
            self._releases.append(release)
            ends.append(ends[-1] + self._previews.write(prints.preview))
            hashes.append(np.frombuffer(prints.pdq, np.uint64).reshape(-1, _BYTES_OF_PDQ // 8))
            hash_rows += [row] * len(hashes[-1])
            if prints.embedder == embedder:
                vectors.append(prints.copy)
                vector_rows += [row] * len(prints.copy)
        self._ends, self._hash_rows = ends, np.array(hash_rows, np.int64)
        self._hashes = np.concatenate(hashes) if hashes else np.zeros((0, _BYTES_OF_PDQ // 8), np.uint64)
        self._vectors = np.concatenate(vectors) if vectors else np.zeros((0, 0), np.float16)
        self._vector_rows = np.array(vector_rows, np.int64)

    def __len__(self) -> int:
        return len(self._releases)

    def release(self, row: int) -> Release:
        return self._releases[row]

    def preview(self, row: int) -> NDArray[np.uint8]:
        """uint8 (h, w, 3), RGB."""
        self._previews.seek(self._ends[row])
        jpeg = self._previews.read(self._ends[row + 1] - self._ends[row])
        with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as preview:
            return np.asarray(preview.convert("RGB"))

    def nearest(self, pdq: NDArray[np.uint8], copy: NDArray[np.float32], most: int) -> list[_Near]:
        """The outputs nearest by either signal, in turn, at most twice as many as asked for.

        Args:
            pdq: uint8 (8, 32), the picture's in eight views.
            copy: float32 (D,), unit length.
            most: by each signal.
        """
        distances, views = self._distances(pdq)
        similarities = self._similarities(copy)
        ranked = [np.argsort(distances, kind="stable")[:most].tolist()]
        if similarities is not None:
            ranked.insert(0, np.argsort(-similarities, kind="stable")[:most].tolist())
        rows = dict.fromkeys(row for turn in zip(*ranked, strict=True) for row in turn)
        return [
            _Near(
                row,
                int(distances[row]),
                VIEWS[views[row]],
                float(similarities[row]) if similarities is not None and similarities[row] >= -1 else None,
            )
            for row in rows
        ]

    def _distances(self, pdq: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """By output, the least distance over its crops and our views, in bits, and in which view."""
        least, views = np.full(len(self), 256, np.int64), np.zeros(len(self), np.int64)
        for view, asked in enumerate(np.ascontiguousarray(pdq).view(np.uint64)):
            apart = np.bitwise_count(self._hashes ^ asked).sum(axis=1, dtype=np.int64)
            each = np.full(len(self), 256, np.int64)
            np.minimum.at(each, self._hash_rows, apart)
            nearer = each < least
            least, views = np.where(nearer, each, least), np.where(nearer, view, views)
        return least, views

    def _similarities(self, copy: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """By output, the greatest cosine over its looks; below -1 where it has none of our embedder."""
        if self._vectors.shape[1:] != copy.shape:
            return None
        best = np.full(len(self), -2.0, np.float32)
        for start in range(0, len(self._vectors), _ROWS_AT_A_TIME):
            rows = slice(start, start + _ROWS_AT_A_TIME)
            np.maximum.at(best, self._vector_rows[rows], self._vectors[rows].astype(np.float32) @ copy)
        return best


class _Seen:
    """A picture at 320 px at most, and its features once they are asked for."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self.pixels = pixels
        self._features: Features | None = None

    def turned(self, view: View) -> NDArray[np.uint8]:
        """The pixels in one of eight views, as `compare_viewed` turns them."""
        at, swapped = VIEWS.index(view), self.pixels.transpose(1, 0, 2)
        flips = {"flip_left_right": self.pixels[:, ::-1], "flip_top_bottom": self.pixels[::-1], "transpose": swapped}
        turned = np.rot90(self.pixels, at) if at < _TURNS else flips.get(view, np.rot90(swapped, 2))
        return np.ascontiguousarray(turned)

    @property
    def features(self) -> Features:
        if self._features is None:
            self._features = features_of(self.pixels)
        return self._features


def _laid(
    seen: _Seen, preview: NDArray[np.uint8], near: _Near, limits: RecognitionLimits
) -> tuple[float, Literal["view", "features", "pixels"]] | None:
    """How far the picture is from an output on which it was laid, and how it was laid; None where it is too far."""
    if float(preview.mean(axis=2).std()) < _LEAST_SPREAD:
        return None
    within = limits.within(preview)
    alike = near.distance_bits <= limits.alike_bits or (near.similarity or 0.0) >= limits.alike_from
    whole = compare_viewed(seen.pixels, preview, near.view) if alike else None
    if whole is not None and whole <= within and _same_detail(seen.turned(near.view), preview, None, limits):
        return whole, "view"
    laid = align(seen.features, features_of(preview))
    if laid is not None and laid.inliers >= _FEWEST_INLIERS:
        apart = compare_aligned(seen.pixels, preview, laid.homography)
        if apart is not None and apart <= within and _same_detail(seen.pixels, preview, laid.homography, limits):
            return apart, "features"
    homography = lay_whole(seen.pixels, preview) if alike else None
    apart = compare_aligned(seen.pixels, preview, homography) if homography is not None else None
    if apart is None or apart > within or not _same_detail(seen.pixels, preview, homography, limits):
        return None
    return apart, "pixels"


def _same_detail(
    image: NDArray[np.uint8],
    preview: NDArray[np.uint8],
    homography: NDArray[np.float64] | None,
    limits: RecognitionLimits,
) -> bool:
    """Whether an image shows the preview's details where it was laid; without a homography, whole onto whole."""
    if homography is None:
        homography = np.diag([image.shape[1] / preview.shape[1], image.shape[0] / preview.shape[0], 1.0])
    return detail_apart(image, preview, homography) <= limits.detail_within


def _contrast(pixels: NDArray[np.uint8]) -> float:
    """Standard deviation over the picture at 64 x 64, of 0..1, averaged over the channels."""
    coarse = Image.fromarray(pixels).resize((_CONTRAST_PX, _CONTRAST_PX), Image.Resampling.BOX)
    return float(np.asarray(coarse, np.float64).std(axis=(0, 1)).mean() / 255)


def _windows(pixels: torch.Tensor) -> torch.Tensor:
    """The nine crops: uint8 (3, H, W) in, uint8 (9, 3, h, w) out."""
    _, height, width = pixels.shape
    tall, wide = max(1, round(_WINDOW * height)), max(1, round(_WINDOW * width))
    places = [(round(y * (height - tall)), round(x * (width - wide))) for y in _OFFSETS for x in _OFFSETS]
    return torch.stack([pixels[:, top : top + tall, left : left + wide] for top, left in places])


def _rows(pixels: torch.Tensor) -> NDArray[np.uint8]:
    """The only transfer to host memory: (3, H, W) on any device to (H, W, 3) in it."""
    return np.ascontiguousarray(pixels.permute(1, 2, 0).cpu().numpy())


def _small(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = Image.fromarray(pixels)
    image.thumbnail((_LONGEST_PX, _LONGEST_PX), Image.Resampling.BOX)
    return np.asarray(image)


def _preview(pixels: NDArray[np.uint8]) -> bytes:
    image, file = Image.fromarray(pixels), io.BytesIO()
    image.thumbnail((_PREVIEW_PX, _PREVIEW_PX), Image.Resampling.LANCZOS)
    image.save(file, "JPEG", quality=_PREVIEW_QUALITY)
    return file.getvalue()
