"""A verdict in, how urgently a person should look at it out."""

from guardrail.records import (
    BitsLimit,
    CheckFailed,
    CountLimit,
    Decision,
    Evidence,
    ExactMatch,
    GeometryMatch,
    Limits,
    MatchEvidence,
    MemorisationSign,
    SemanticMatch,
    Signal,
    SimilarityLimit,
    Unproved,
    Verdict,
    Work,
)

__all__ = ["band_of", "severity_of"]

_BANDS = 10  # steps of severity by which the queue is sorted before age
_HINT = 0.5  # share of a likeness that proves nothing (CLIP), or that a closer look did not confirm
_PROOF_ALONE = 0.8  # severity of proof whose limits are not known
_LIKENESS_ALONE = 0.5  # severity of a likeness whose limits are not known
_FIELD = {Signal.COPY: "copy_"}  # of `Limits`, where it is not the signal's name


def severity_of(verdict: Verdict, limits: Limits | None) -> float:
    """How far the strongest evidence lies beyond its flag limit on the way to its block limit.

    What could not be checked, an exact copy and a blocked image are as severe as can be; a likeness by meaning alone,
    and one that a closer look did not confirm, count half. An image whose evidence reaches no limit has 0.

    Args:
        verdict: to flag or block.
        limits: it was judged by; None: not known, so that the kind of evidence alone tells.

    Returns:
        0..1.
    """
    if verdict.decision is Decision.BLOCK:
        return 1.0
    unproved = {_key(one.work) for one in verdict.evidence if isinstance(one, Unproved)}
    return max((_of_evidence(one, limits, unproved) for one in verdict.evidence), default=0.0)


def band_of(severity: float) -> int:
    """Severity in tenths, 0..9."""
    return min(int(severity * _BANDS), _BANDS - 1)


def _key(work: Work) -> tuple[str, str]:
    return work.bank, work.work_id


def _of_evidence(found: Evidence, limits: Limits | None, unproved: set[tuple[str, str]]) -> float:
    if isinstance(found, CheckFailed | ExactMatch):
        return 1.0
    if isinstance(found, MemorisationSign):
        return _of_sign(found)
    if not isinstance(found, MatchEvidence):
        return 0.0
    weak = isinstance(found, SemanticMatch) or _key(found.work) in unproved
    return _beyond(found, limits) * (_HINT if weak else 1.0)


def _of_sign(sign: MemorisationSign) -> float:
    if sign.reaches is Decision.BLOCK:
        return 1.0
    if sign.reaches is Decision.ACCEPT or sign.flag_above is None:
        return 0.0
    return _share(sign.value, sign.flag_above, sign.block_above)


def _beyond(found: MatchEvidence, limits: Limits | None) -> float:
    """How far a measured likeness lies beyond its limit, 0..1."""
    if limits is None:
        return _PROOF_ALONE if isinstance(found, GeometryMatch) else _LIKENESS_ALONE
    limit = getattr(limits.of_bank(found.work.bank), _FIELD.get(found.signal, found.signal.value))
    if isinstance(limit, CountLimit) and isinstance(found, GeometryMatch):
        return _share(float(found.inliers), limit.flag_at_least, limit.block_at_least)
    if isinstance(limit, SimilarityLimit):
        return _share(getattr(found, "similarity", 0.0), limit.flag_above, limit.block_above)
    if isinstance(limit, BitsLimit):
        flag, block = limit.flag_within_bits, limit.block_within_bits
        lowest = None if flag is None else -float(flag)
        return _share(-float(getattr(found, "distance_bits", 0)), lowest, None if block is None else -float(block))
    return 0.0


def _share(value: float, flag: float | None, block: float | None) -> float:
    """Where a value (higher is nearer) lies between two limits: 0 at the one to flag, 1 at the one to block."""
    if block is not None and value >= block:
        return 1.0
    if flag is None or value < flag:
        return 0.0
    if block is None or block <= flag:  # nothing says how far it could go
        return _LIKENESS_ALONE
    return (value - flag) / (block - flag)
