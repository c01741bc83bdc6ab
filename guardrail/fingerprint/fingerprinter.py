"""The room's front: a batch of images in, `Fingerprints` out, and a failure stays with the image it belongs to."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from guardrail.carriers import Fingerprints, ImageBatch, Look
from guardrail.errors import ImageUnreadable
from guardrail.fingerprint.devices import exact_arithmetic, resolve_device, to_host
from guardrail.fingerprint.looks import seen_by
from guardrail.fingerprint.pdq import hash_pdq
from guardrail.fingerprint.phash import hash_phash
from guardrail.protocols import Embedder
from guardrail.records import VIEWS, CheckFailed

__all__ = ["HASHES", "Fingerprinter", "pixels_digest"]

HASHES = {"pdq": "pdq-1", "phash": "imagehash-phash-8x8-1"}
"""The hashes of a fingerprint by version: a change that moves bits gets a new one, and old indexes are refused."""

_CPU_CHUNK_PX = 4 * 512 * 512  # pixels hashed at once: 4 MB of float32, about what a core's cache holds
_DEVICE_CHUNK_PX = 64 * 1024 * 1024  # pixels hashed at once on an accelerator: at most 1 GB of working memory
_UNIT_LENGTH_TOLERANCE = 1e-3  # float32 rounding of a norm is 1e-6; more is an embedder that forgot to normalise


_WHOLE = Look("identity", None)


class Fingerprinter:
    """Makes the fingerprints of a batch: digests, PDQ and pHash in eight views, and embeddings."""

    def __init__(
        self,
        copy: Embedder,
        clip: Embedder | None = None,
        device: str = "auto",
        batch: int = 16,
        looks: Sequence[Look] = (),
    ) -> None:
        """Set up with loaded embedders.

        Args:
            copy: makes the copy descriptors.
            clip: makes the CLIP embeddings, or None to leave them out.
            device: where hashes are made, a torch device name or `auto`; embedders have their own.
            batch: pictures handed on at a time, >= 1.
            looks: further looks of the copy descriptor, at turned views and tiles; each costs as much as the whole.

        Raises:
            SettingsInvalid: there is no such device.
        """
        self.copy = copy
        self.clip = clip
        self.looks = tuple(looks)
        self._batch = batch
        wanted = torch.device(resolve_device(device))
        # pHash needs float64, which MPS has not; either hash takes a CPU about a millisecond
        self._device = torch.device("cpu") if wanted.type == "mps" else wanted

    def __call__(self, batch: ImageBatch) -> Fingerprints:
        """Fingerprint every picture that can be; the pictures are not written to.

        Args:
            batch: N pictures; sizes and devices may differ.

        Returns:
            Fingerprints of N rows. A picture that came with a failure, or in which any check failed, has its
            `failures` entry set and zeros everywhere else.
        """
        clip_dimensions = self.clip.spec.dimensions if self.clip else None
        sheet = _Sheet.of(batch, self.copy.spec.dimensions, clip_dimensions, self.looks)
        with exact_arithmetic(self._device):
            for row in sheet.standing():
                self._try(sheet, "pixels", [row], sheet.put_digests)
            for rows in self._hash_chunks(sheet):
                self._try(sheet, "hashes", rows, lambda rows: sheet.put_hashes(rows, self._device))
        self._embed(sheet, "copy", self.copy, sheet.copy)
        if sheet.copy_looks is not None:
            for at, look in enumerate(self.looks):
                self._embed(sheet, "copy", self.copy, sheet.copy_looks[:, at], look)
        if self.clip is not None and sheet.clip is not None:
            self._embed(sheet, "clip", self.clip, sheet.clip)
        return sheet.fingerprints()

    def _embed(
        self, sheet: _Sheet, check: str, embedder: Embedder, into: NDArray[np.float32], look: Look = _WHOLE
    ) -> None:
        standing = sheet.standing()
        for start in range(0, len(standing), self._batch):
            rows = standing[start : start + self._batch]
            self._try(sheet, check, rows, lambda rows: sheet.put_vectors(rows, embedder, into, look))

    def _hash_chunks(self, sheet: _Sheet) -> list[list[int]]:
        """Rows to hash together: of one size, and few enough for the device."""
        by_size: defaultdict[torch.Size, list[int]] = defaultdict(list)
        for row in sheet.standing():
            by_size[sheet.pixels(row).shape].append(row)
        budget_px = _CPU_CHUNK_PX if self._device.type == "cpu" else _DEVICE_CHUNK_PX
        chunks = []
        for (_, height, width), rows in by_size.items():
            size = max(1, min(self._batch, budget_px // (height * width)))
            chunks += [rows[start : start + size] for start in range(0, len(rows), size)]
        return chunks

    def _try(self, sheet: _Sheet, check: str, rows: list[int], work: Callable[[list[int]], None]) -> None:
        """Do some work on rows; if it fails, on each row alone, so that only those at fault fail."""
        try:
            work(rows)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong with a picture is evidence, never a way around
            reason = f"{type(error).__name__}: {error}"
        else:
            return
        # Out of the except block: the error's frames no longer hold memory that a retry needs.
        if len(rows) == 1:
            sheet.fail(rows[0], check, reason)
            return
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()
        for row in rows:
            self._try(sheet, check, [row], work)


def pixels_digest(pixels: torch.Tensor) -> str:
    """The sha256 of a picture's size and pixels, the same whatever file or device they came from.

    Args:
        pixels: uint8 (3, H, W), RGB 0..255, H and W at least 1.

    Returns:
        64 hex digits: of the ASCII text `WxH:` and then three bytes a pixel, row by row.

    Raises:
        ImageUnreadable: the tensor is of another dtype or shape.
    """
    if pixels.dtype != torch.uint8 or pixels.ndim != 3 or pixels.shape[0] != 3 or pixels.numel() == 0:
        raise ImageUnreadable("pixels", f"a tensor {pixels.dtype} {tuple(pixels.shape)}, not uint8 (3, H, W)")
    _, height, width = pixels.shape
    digest = hashlib.sha256(b"%dx%d:" % (width, height))
    digest.update(to_host(pixels.permute(1, 2, 0)).data)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class _Sheet:
    """Fingerprints being filled in; the same fields and rows as `Fingerprints`."""

    batch: ImageBatch
    failures: list[CheckFailed | None]
    pixels_sha256: list[str | None]
    pdq: NDArray[np.uint8]
    pdq_quality: NDArray[np.int64]
    phash: NDArray[np.uint8]
    copy: NDArray[np.float32]
    clip: NDArray[np.float32] | None
    looks: tuple[Look, ...]
    copy_looks: NDArray[np.float32] | None

    @classmethod
    def of(
        cls, batch: ImageBatch, copy_dimensions: int, clip_dimensions: int | None, looks: tuple[Look, ...]
    ) -> _Sheet:
        """An empty sheet, with the failures that the pictures brought along."""
        count = len(batch)
        return cls(
            batch=batch,
            failures=[picture.failure for picture in batch.pictures],
            pixels_sha256=[None] * count,
            pdq=np.zeros((count, len(VIEWS), 32), np.uint8),
            pdq_quality=np.zeros(count, np.int64),
            phash=np.zeros((count, len(VIEWS), 8), np.uint8),
            copy=np.zeros((count, copy_dimensions), np.float32),
            clip=None if clip_dimensions is None else np.zeros((count, clip_dimensions), np.float32),
            looks=looks,
            copy_looks=np.zeros((count, len(looks), copy_dimensions), np.float32) if looks else None,
        )

    def standing(self) -> list[int]:
        """The rows in which nothing has failed yet."""
        return [row for row, failure in enumerate(self.failures) if failure is None]

    def pixels(self, row: int) -> torch.Tensor:
        """The pixels of a row that stands: uint8 (3, H, W)."""
        pixels = self.batch.pictures[row].pixels
        assert pixels is not None, "a standing row has pixels"
        return pixels

    def put_digests(self, rows: Sequence[int]) -> None:
        """Fill in the pixel digests of some rows."""
        for row in rows:
            self.pixels_sha256[row] = pixels_digest(self.pixels(row))

    def put_hashes(self, rows: list[int], device: torch.device) -> None:
        """Fill in both hashes of some rows, whose pictures are of one size."""
        pixels = torch.stack([self.pixels(row).to(device) for row in rows])
        pdq, quality = hash_pdq(pixels)
        self.phash[rows] = to_host(hash_phash(pixels))
        self.pdq[rows], self.pdq_quality[rows] = to_host(pdq), to_host(quality)

    def put_vectors(self, rows: list[int], embedder: Embedder, into: NDArray[np.float32], look: Look) -> None:
        """Fill in an embedder's vectors of some rows by one look, once they are what the embedder promised."""
        vectors = embedder.embed([seen_by(look, self.pixels(row)) for row in rows])
        expected = (len(rows), into.shape[1])
        if vectors.shape != expected:
            raise ValueError(f"embedder {embedder.spec.name!r} returned shape {vectors.shape}, expected {expected}")
        lengths = np.linalg.norm(vectors, axis=1)
        if not np.all(np.abs(lengths - 1) <= _UNIT_LENGTH_TOLERANCE):  # NaN compares as false, so it lands here too
            raise ValueError(f"embedder {embedder.spec.name!r} returned lengths {lengths.tolist()}, expected 1")
        into[rows] = vectors

    def fail(self, row: int, check: str, reason: str) -> None:
        """Record why a row has no fingerprint, and clear what it had."""
        self.failures[row] = CheckFailed(check=check, image=self.batch.pictures[row].name, error=reason)
        self.pixels_sha256[row] = None
        for column in (self.pdq, self.pdq_quality, self.phash, self.copy, self.clip, self.copy_looks):
            if column is not None:
                column[row] = 0

    def fingerprints(self) -> Fingerprints:
        """The finished sheet."""
        return Fingerprints(
            failures=tuple(self.failures),
            file_sha256=tuple(picture.file_sha256 for picture in self.batch.pictures),
            pixels_sha256=tuple(self.pixels_sha256),
            pdq=self.pdq,
            pdq_quality=self.pdq_quality,
            phash=self.phash,
            copy=self.copy,
            clip=self.clip,
            looks=self.looks,
            copy_looks=self.copy_looks,
        )
