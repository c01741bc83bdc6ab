"""Fingerprints of images and of the user's own inputs in, `InputMatch` evidence out: what an image merely repeats."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from guardrail.carriers import Fingerprints
from guardrail.judge.gather import limit_of, reached
from guardrail.records import (
    VIEWS,
    Decision,
    InputMatch,
    InputPicture,
    Limits,
    Neighbour,
    Signal,
    SimilarityLimit,
    View,
    Work,
)

__all__ = ["KnownInputs", "input_matches", "known_inputs"]

_HASHES = (Signal.PDQ, Signal.PHASH)
_IDENTITY = VIEWS.index("identity")


@dataclass(frozen=True, slots=True)
class KnownInputs:
    """The pictures that a call was given, with what is known of them.

    Attributes:
        records: what each is, M of them.
        prints: their fingerprints, M rows, made like those of the images.
        works: for each, the works that it is itself a copy of.
        by_copy: whether copy descriptors may be compared: not where the index normalises similarities, since these
            are on another scale.
    """

    records: tuple[InputPicture, ...]
    prints: Fingerprints
    works: tuple[tuple[Work, ...], ...]
    by_copy: bool = True


class _Nearness(NamedTuple):
    """How near an image is to an input, by one signal."""

    signal: Signal
    similarity: float | None = None
    distance_bits: int | None = None
    view: View = "identity"


def known_inputs(
    records: Sequence[InputPicture],
    prints: Fingerprints,
    neighbours: Sequence[Sequence[Neighbour]],
    limits: Limits,
    *,
    by_copy: bool = True,
) -> KnownInputs:
    """What is known of a call's inputs once they were fingerprinted and searched for.

    Args:
        records: what each of M inputs is.
        prints: fingerprints of M rows.
        neighbours: what search found near each of them; M sequences.
        limits: what counts as a copy: a block limit that is reached, CLIP's never.
        by_copy: False where the index normalises similarities.

    Raises:
        ValueError: the three are not of one length.
    """
    if not len(records) == len(prints) == len(neighbours):
        raise ValueError(f"{len(records)} inputs, {len(prints)} fingerprints and {len(neighbours)} answers")
    works = tuple(tuple(_copied(near, int(prints.pdq_quality[row]), limits)) for row, near in enumerate(neighbours))
    return KnownInputs(tuple(records), prints, works, by_copy)


def input_matches(known: KnownInputs, prints: Fingerprints, row: int, limits: Limits) -> tuple[InputMatch, ...]:
    """The evidence that an image repeats one of its call's inputs, by the same signals and limits as works.

    Masks are left out: they show nothing. What could not be fingerprinted repeats nothing, and a picture with too
    little in it to hash is only compared pixel by pixel, since blank pictures are near any other.

    Args:
        known: the inputs.
        prints: fingerprints of the images of this call.
        row: which of them.
        limits: what counts as near; a flag limit that is reached is evidence.
    """
    if prints.failures[row] is not None:
        return ()
    return tuple(
        InputMatch(
            input=record.name,
            role=record.role,
            signal=near.signal,
            similarity=near.similarity,
            distance_bits=near.distance_bits,
            view=near.view,
            works=known.works[at],
        )
        for at, record in enumerate(known.records)
        if record.role != "mask" and known.prints.failures[at] is None
        for near in _nearness(known, at, prints, row, limits.pdq_quality_at_least)
        if _reaches(near, limits)
    )


def _copied(neighbours: Sequence[Neighbour], pdq_quality: int, limits: Limits) -> Iterator[Work]:
    """The works that an input is a copy of, each once."""
    hashable = pdq_quality >= limits.pdq_quality_at_least
    seen: set[tuple[str, str]] = set()
    for near in neighbours:
        exact = near.signal in (Signal.BYTES, Signal.PIXELS)
        key = near.work.bank, near.work.work_id
        if near.signal is Signal.CLIP or key in seen or not (hashable or exact):
            continue
        if reached(near, limits) is Decision.BLOCK:
            seen.add(key)
            yield near.work


def _nearness(known: KnownInputs, at: int, prints: Fingerprints, row: int, quality: int) -> Iterator[_Nearness]:
    """How near an image is to input `at`, by every signal that says something of both."""
    inputs = known.prints
    if prints.pixels_sha256[row] is not None and prints.pixels_sha256[row] == inputs.pixels_sha256[at]:
        yield _Nearness(Signal.PIXELS)
    if min(prints.pdq_quality[row], inputs.pdq_quality[at]) < quality:
        return
    for signal, ours, theirs in zip(_HASHES, (prints.pdq, prints.phash), (inputs.pdq, inputs.phash), strict=True):
        view, bits = _bits(ours[row], theirs[at, _IDENTITY])
        yield _Nearness(signal, distance_bits=bits, view=view)
    if known.by_copy:
        cosine = float(prints.copy[row].astype(np.float64) @ inputs.copy[at])
        yield _Nearness(Signal.COPY, similarity=min(1.0, max(-1.0, cosine)))


def _bits(views: NDArray[np.uint8], plain: NDArray[np.uint8]) -> tuple[View, int]:
    """The view of an image whose hash (8, B) is nearest to a picture's plain hash (B,), and how many bits differ."""
    distances = np.bitwise_count(views ^ plain).sum(-1, dtype=np.int64)
    nearest = int(distances.argmin())
    return VIEWS[nearest], int(distances[nearest])


def _reaches(near: _Nearness, limits: Limits) -> bool:
    limit = limit_of(near.signal, limits)
    if isinstance(limit, SimilarityLimit):
        return near.similarity is not None and limit.reached(near.similarity) is not Decision.ACCEPT
    return limit.reached(near.distance_bits or 0) is not Decision.ACCEPT
