"""An index in memory whose works change from one trial to the next, and the plugin that offers it."""

import hashlib
from datetime import UTC, datetime

import numpy as np
from PIL import Image

from guardrail.fingerprint import HASHES
from guardrail.hookspecs import hookimpl
from guardrail.records import IndexHeader, Limits, Neighbour, Signal, SimilarityLimit, Work
from guardrail.testing import FakeEmbedder

__all__ = ["Shelf", "ShelfPlugin"]

_PROOF_SIDE_PX = 32  # of the small picture that proof by pixels compares
_LIMITS = Limits.model_validate(
    {
        "pdq": {"flag_within_bits": 64, "block_within_bits": 31},
        "phash": {"flag_within_bits": 5},
        "correlation": {"flag_above": 0.86, "block_above": 0.92},
        "copy": {"flag_above": 0.95, "block_above": 0.99},
        "tile_l2_within": 0.15,
        "pdq_quality_at_least": 50,
    }
)  # those that ship, and the fake embedder's


class Shelf:
    """Works in memory, searched one by one: exact pixels, both hashes in their eight views, and the copy descriptor."""

    def __init__(self):
        self.works = []
        self.embedder = FakeEmbedder()

    def put(self, prints, pictures, bank):
        """Stand pictures on the shelf, as works of a bank; those that stand there go."""
        self.works = [
            (Work(work_id=f"work-{at}", bank=bank), prints, at, picture)
            for at, picture in enumerate(pictures)
            if prints.failures[at] is None
        ]

    @property
    def header(self):
        said = "/".join(f"{work.bank}:{prints.pixels_sha256[at]}" for work, prints, at, _ in self.works)
        return IndexHeader(
            snapshot=hashlib.sha256(said.encode()).hexdigest(),
            works=len(self.works),
            banks={},
            embedders={"copy": self.embedder.spec},
            hashes=HASHES,
            limits=_LIMITS.overridden(Limits(copy=SimilarityLimit(flag_above=0.95, block_above=0.99))),
            built_at=datetime(2026, 1, 1, tzinfo=UTC),
            unreadable=0,
        )

    def pinned(self):
        return self

    def search(self, prints, limit):
        return tuple(
            () if prints.failures[row] is not None else tuple(self._near(prints, row, limit))
            for row in range(len(prints))
        )

    def _near(self, prints, row, limit):
        for place, (work, kept, at, _) in enumerate(self.works):
            if kept.pixels_sha256[at] == prints.pixels_sha256[row]:
                yield Neighbour(work=work, row=place, signal=Signal.PIXELS, distance_bits=0)
        for signal in (Signal.PDQ, Signal.PHASH):
            bits = [(_bits(kept, at, prints, row, signal), place) for place, (_, kept, at, _) in enumerate(self.works)]
            for distance, place in sorted(bits)[:limit]:
                yield Neighbour(work=self.works[place][0], row=place, signal=signal, distance_bits=distance)
        likes = [(float(kept.copy[at] @ prints.copy[row]), place) for place, (_, kept, at, _) in enumerate(self.works)]
        for cosine, place in sorted(likes, reverse=True)[:limit]:
            similarity = min(1.0, max(-1.0, cosine))
            yield Neighbour(work=self.works[place][0], row=place, signal=Signal.COPY, similarity=similarity)

    def proof_pixels(self, row):
        image = Image.fromarray(self.works[row][3].pixels.permute(1, 2, 0).cpu().numpy())
        return np.asarray(image.resize((_PROOF_SIDE_PX, _PROOF_SIDE_PX), Image.Resampling.BOX))

    def preview(self, row):
        from io import BytesIO

        file = BytesIO()
        Image.fromarray(self.works[row][3].pixels.permute(1, 2, 0).cpu().numpy()).save(file, "JPEG")
        return file.getvalue()


def _bits(kept, at, prints, row, signal):
    """The Hamming distance of a work's hash to that of the nearest view."""
    mine, theirs = getattr(kept, str(signal))[at, 0], getattr(prints, str(signal))[row]
    return int(np.unpackbits(mine[None] ^ theirs, axis=-1).sum(-1).min())


class ShelfPlugin:
    """Offers the shelf as `shelf://`, and the fake embedder its vectors are made with."""

    def __init__(self):
        self.shelf = Shelf()

    @hookimpl
    def register_index_backends(self):
        return {"shelf": lambda location, device: self.shelf}

    @hookimpl
    def register_embedders(self):
        return {"fake": lambda rest, device: self.shelf.embedder}
