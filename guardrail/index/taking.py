"""What is kept of a picture besides its fingerprints, and both together as rows of a shard."""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from guardrail.carriers import Fingerprints, ImageBatch, Picture, SourcePicture
from guardrail.index.shards import PROOF_SIDE_PX, ShardRows
from guardrail.records import CheckFailed

__all__ = ["Taken", "shard_rows", "take"]

_PREVIEW_SIDE_PX = 192
_PREVIEW_QUALITY = 85


@dataclass(frozen=True, slots=True)
class Taken:
    """A picture that was read, with what is kept of it for proof and for people.

    Attributes:
        picture: with pixels or a failure; without its bare colours, which nobody searches for.
        small: uint8 (32, 32, 3), RGB; zeros where it could not be read.
        preview: a JPEG file; empty where it could not be read.
    """

    picture: Picture
    small: NDArray[np.uint8]
    preview: bytes

    @classmethod
    def lost(cls, reason: str) -> "Taken":
        """One that could not be read, and why."""
        failure = CheckFailed(check="read_file", image="", error=reason)
        return cls(Picture("", failure=failure), np.zeros((PROOF_SIDE_PX, PROOF_SIDE_PX, 3), np.uint8), b"")


def take(read: Callable[[Any], Picture], place: Any) -> Taken:
    """Read a picture and make the small ones of it: what a worker does.

    Args:
        read: gives the picture at a place, with a failure where it cannot be read.
        place: what a source's `open` gave.
    """
    picture = read(place)
    if picture.pixels is None:
        return Taken.lost(picture.failure.error if picture.failure else "no pixels")
    try:
        image = Image.fromarray(np.ascontiguousarray(picture.pixels.cpu().numpy().transpose(1, 2, 0)))
        sides = (PROOF_SIDE_PX, PROOF_SIDE_PX)
        small = np.asarray(image.resize(sides, Image.Resampling.BOX, reducing_gap=None))
        image.thumbnail((_PREVIEW_SIDE_PX, _PREVIEW_SIDE_PX))
        jpeg = io.BytesIO()
        image.save(jpeg, "JPEG", quality=_PREVIEW_QUALITY)
    except (OSError, ValueError, MemoryError) as error:
        return Taken.lost(f"{type(error).__name__}: {error}")
    return Taken(replace(picture, bare=()), small, jpeg.getvalue())


def shard_rows(
    pictures: Sequence[SourcePicture], taken: Sequence[Taken], fingerprint: Callable[[ImageBatch], Fingerprints]
) -> ShardRows:
    """Fingerprint some pictures, a row each in their order; one that failed has no stamp, so that it is tried again."""
    names = [f"{at}: {picture.name}" for at, picture in enumerate(pictures)]
    batch = ImageBatch(tuple(replace(one.picture, name=name) for name, one in zip(names, taken, strict=True)))
    prints = fingerprint(batch)
    assert len(prints) == len(pictures), "one row a picture"
    errors = [(failure.error or failure.check) if failure else "" for failure in prints.failures]
    both = list(zip(pictures, errors, strict=True))
    text: dict[str, Sequence[str | None]] = {
        "file": [picture.name for picture in pictures],
        "stamp": ["" if error else picture.stamp for picture, error in both],
        "error": errors,
        "facts": [json.dumps(dict(picture.facts), ensure_ascii=True) for picture in pictures],
        "file_sha256": prints.file_sha256,
        "pixels_sha256": prints.pixels_sha256,
    }
    arrays: dict[str, NDArray[Any]] = {"pdq": prints.pdq[:, 0], "phash": prints.phash[:, 0], "copy": prints.copy}
    if prints.copy_looks is not None:
        arrays["tiles"] = prints.copy_looks
    if prints.clip is not None:
        arrays["clip"] = prints.clip
    arrays["pixels"] = np.stack([one.small for one in taken])
    return ShardRows(text, prints.pdq_quality.astype(np.uint8), arrays, [one.preview for one in taken])
