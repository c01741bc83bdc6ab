"""The pictures about which an attack asks whether the model was trained on them: drawn fairly, read batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from guardrail.records import AuditFinding, AuditOutcome, Measured
from guardrail.study.audit.telling import LEAST_EACH

if TYPE_CHECKING:
    from guardrail.study.audit.asks import PictureSet, Subject

__all__ = ["BATCH", "Asked", "Candidate", "batches", "cannot_tell", "drawn", "nearest_timesteps", "split", "too_few"]

BATCH = 32  # pictures a call of the denoiser


class Candidate(NamedTuple):
    """Picture number `row` of the training pictures, where `is_member`, or of the held-out ones."""

    is_member: bool
    row: int


class Asked(NamedTuple):
    """A batch of B candidates with their pictures, uint8 (B, S, S, 3), and what each was made from."""

    candidates: tuple[Candidate, ...]
    pixels: NDArray[np.uint8]
    captions: tuple[str | None, ...]
    labels: tuple[int | None, ...]


def drawn(subject: Subject, most_each: int) -> list[Candidate]:
    """Up to `most_each` training and as many held-out pictures, in an order that mixes both.

    An attack that runs out of time has then asked about a fair sample of either. Deterministic for the subject's seed.
    """
    chance = np.random.default_rng(subject.seed)
    kinds = ((True, len(subject.training)), (False, len(subject.held_out)))
    rows = [(kind, chance.permutation(count)[:most_each]) for kind, count in kinds]
    found = [Candidate(kind, int(row)) for kind, some in rows for row in some]
    return [found[at] for at in chance.permutation(len(found))]


def batches(subject: Subject, candidates: list[Candidate], size: int = BATCH) -> Iterator[Asked]:
    """The candidates in batches of `size`, read when their turn has come."""
    for start in range(0, len(candidates), size):
        some = candidates[start : start + size]
        sets = [subject.training if one.is_member else subject.held_out for one in some]
        pixels = [pictures.read(one.row, subject.side_px) for one, pictures in zip(some, sets, strict=True)]
        captions = tuple(pictures.captions[one.row] for one, pictures in zip(some, sets, strict=True))
        labels = tuple(_label(pictures, one.row) for one, pictures in zip(some, sets, strict=True))
        yield Asked(tuple(some), np.stack(pixels), captions, labels if any(x is not None for x in labels) else ())


def split(candidates: list[Candidate], traits: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Traits, float64 (N, ...) of the first N candidates, as those of members and those of held-out pictures."""
    is_member = np.array([one.is_member for one in candidates[: len(traits)]], bool)
    return traits[is_member], traits[~is_member]


def nearest_timesteps(alphas: NDArray[np.float64], kept: tuple[float, ...]) -> tuple[int, ...]:
    """The timesteps at which these shares of the signal's variance are kept; shares mean the same in every schedule.

    Args:
        alphas: float64 (T,), falling.
        kept: 0..1.
    """
    return tuple(int(np.abs(alphas - share).argmin()) for share in kept)


def cannot_tell(part: str, reason: str, measured: tuple[Measured, ...] = (), source: str = "") -> AuditFinding:
    """A finding that says why a part could not answer."""
    return AuditFinding(part=part, outcome=AuditOutcome.COULD_NOT_TELL, reason=reason, measured=measured, source=source)


def too_few(subject: Subject) -> str | None:
    """Why there are not enough pictures to compare members with others; None where there are."""
    for count, kind in ((len(subject.training), "training"), (len(subject.held_out), "held-out")):
        if count < LEAST_EACH:
            return f"found {count} {kind} pictures, expected at least {LEAST_EACH}; give more of the same kind"
    return None


def _label(pictures: PictureSet, row: int) -> int | None:
    return pictures.labels[row] if pictures.labels else None
