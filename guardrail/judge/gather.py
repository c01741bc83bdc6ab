"""Turn measured neighbours into evidence: only what reaches a flag limit is evidence."""

from guardrail.records import (
    BitsLimit,
    CheckFailed,
    CopyMatch,
    CountLimit,
    Decision,
    Evidence,
    ExactMatch,
    GeometryMatch,
    HashMatch,
    InputMatch,
    Limits,
    MatchEvidence,
    Neighbour,
    PixelMatch,
    SemanticMatch,
    Signal,
    SimilarityLimit,
)

__all__ = ["gather", "limit_of", "nearest_works", "reached"]

_STRENGTH = (
    Signal.BYTES,
    Signal.PIXELS,
    Signal.GEOMETRY,
    Signal.CORRELATION,
    Signal.COPY,
    Signal.TILE,
    Signal.PDQ,
    Signal.PHASH,
    Signal.CLIP,
)


def limit_of(signal: Signal, limits: Limits, bank: str = "") -> BitsLimit | CountLimit | SimilarityLimit:
    """The limit of one signal, for the works of a bank where one is named; exact matches always block."""
    if bank and limits.banks:
        limits = limits.of_bank(bank)
    exact = BitsLimit(flag_within_bits=0, block_within_bits=0)
    by_signal: dict[Signal, BitsLimit | CountLimit | SimilarityLimit] = {
        Signal.BYTES: exact,
        Signal.PIXELS: exact,
        Signal.PDQ: limits.pdq,
        Signal.PHASH: limits.phash,
        Signal.COPY: limits.copy_,
        Signal.TILE: limits.tile,
        Signal.CLIP: limits.clip,
        Signal.CORRELATION: limits.correlation,
        Signal.GEOMETRY: limits.geometry,
    }
    return by_signal[signal]


def reached(found: Neighbour | MatchEvidence | InputMatch, limits: Limits) -> Decision:
    """The decision that one measured likeness is enough for, by the limits of its signal for its work's bank."""
    limit = limit_of(found.signal, limits, "" if isinstance(found, InputMatch) else found.work.bank)
    if isinstance(limit, CountLimit):
        assert isinstance(found, GeometryMatch), "points are counted by proof, not by a search"
        return limit.reached(found.inliers)
    if isinstance(limit, SimilarityLimit):
        similarity = getattr(found, "similarity", None)
        assert similarity is not None, f"{found.signal} is measured as a similarity"
        return limit.reached(similarity)
    return limit.reached(getattr(found, "distance_bits", None) or 0)


def gather(image: str, neighbours: tuple[Neighbour, ...], pdq_quality: int, limits: Limits) -> tuple[Evidence, ...]:
    """The evidence in one image's neighbours.

    Args:
        image: the image's name, for messages.
        neighbours: what search found.
        pdq_quality: PDQ's quality of the image, 0..100; below the limit its hash says nothing, which is evidence too.
        limits: what counts as near.

    Returns:
        Evidence in the order of `neighbours`; a failed check last.
    """
    hashable = pdq_quality >= limits.pdq_quality_at_least
    found: list[Evidence] = [
        _evidence(near)
        for near in neighbours
        if reached(near, limits) is not Decision.ACCEPT and (hashable or near.signal is not Signal.PDQ)
    ]
    if not hashable:
        error = f"PDQ quality {pdq_quality} of 100 is below {limits.pdq_quality_at_least}, so the hash says nothing"
        found.append(CheckFailed(check="pdq_quality", image=image, error=error))
    return tuple(found)


def _evidence(near: Neighbour) -> MatchEvidence:
    if near.signal is Signal.BYTES or near.signal is Signal.PIXELS:
        return ExactMatch(work=near.work, signal=near.signal)
    if near.signal is Signal.PDQ or near.signal is Signal.PHASH:
        assert near.distance_bits is not None
        return HashMatch(work=near.work, signal=near.signal, distance_bits=near.distance_bits, view=near.view)
    assert near.similarity is not None
    if near.signal is Signal.COPY or near.signal is Signal.TILE:
        return CopyMatch(
            work=near.work,
            signal=near.signal,
            similarity=near.similarity,
            view=near.view,
            region=near.region,
            work_region=near.work_region,
        )
    if near.signal is Signal.CLIP:
        return SemanticMatch(work=near.work, similarity=near.similarity)
    return PixelMatch(work=near.work, similarity=near.similarity, view=near.view)


def nearest_works(neighbours: tuple[Neighbour, ...], limits: Limits, count: int) -> tuple[Neighbour, ...]:
    """At most `count` works, each by its strongest signal: first what reaches a limit, then by signal and nearness."""

    def rank(near: Neighbour) -> tuple[int, int, float]:
        far = near.distance_bits if near.similarity is None else -near.similarity
        return (-reached(near, limits).severity, _STRENGTH.index(near.signal), far or 0.0)

    best: dict[tuple[str, str], Neighbour] = {}
    for near in sorted(neighbours, key=rank):
        best.setdefault((near.work.bank, near.work.work_id), near)
    return tuple(best.values())[:count]
