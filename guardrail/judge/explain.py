"""A decision and the evidence behind it in, the one sentence that explains it out."""

from guardrail.judge.gather import limit_of, reached
from guardrail.judge.proofs import Proofs
from guardrail.records import (
    BitsLimit,
    CheckFailed,
    CopyMatch,
    CountLimit,
    Decision,
    ExactMatch,
    GeometryMatch,
    HashMatch,
    InputMatch,
    Limits,
    MatchEvidence,
    MemorisationSign,
    RunEvidence,
    SignUnavailable,
    SimilarityLimit,
)

__all__ = ["explanation"]

_DONE = {Decision.ACCEPT: "Accepted", Decision.FLAG: "Flagged", Decision.BLOCK: "Blocked"}


def explanation(
    decision: Decision,
    rule: str,
    found: MatchEvidence | RunEvidence | CheckFailed | None,
    proofs: Proofs,
    *,
    is_sure: bool = True,
) -> str:
    """One sentence: the decision, the rule, the measurement it rests on, and what a closer look said against it.

    `is_sure` is False where the rule asks something of the run that nobody knows, and applies because it is stricter.
    """
    done = _DONE[decision] if is_sure else f"{_DONE[decision]} as the run is not known well enough"
    if found is None:
        return f"{done}: {rule}."
    if isinstance(found, CheckFailed):
        return f"{done}: {rule}; check {found.check!r} on {found.image}: {found.error}."
    if isinstance(found, RunEvidence):
        return f"{done}: {rule}; {_of_the_run(found, proofs)}."
    work = found.work
    by = f" by {work.creator}" if work.creator else ""
    view = _view(found)
    named = f"{work.title or work.work_id!r}{by} (bank {work.bank}){view}"
    return f"{done}: {rule}; {_measurement(found, proofs)} {named}{_doubt(found, proofs)}."


def _view(found: MatchEvidence | InputMatch) -> str:
    seen = getattr(found, "view", "identity")
    return "" if seen == "identity" else f", seen as {seen}"


def _of_the_run(found: RunEvidence, proofs: Proofs) -> str:
    """What was found of the run."""
    if isinstance(found, SignUnavailable):
        return f"the sign {found.sign!r} could not be measured: {found.reason}"
    if isinstance(found, MemorisationSign):
        step = "" if found.step is None else f" at step {found.step}"
        return f"the sign {found.sign!r} is {found.value:.4g}{step}"
    limit = _limit(found, proofs.limits, blocks=proofs.reached(found) is Decision.BLOCK)
    if found.distance_bits is not None:
        measured = f"{found.signal} is {found.distance_bits} bits (limit {limit}) from"
    elif found.similarity is not None:
        measured = f"{found.signal} similarity {found.similarity:.3f} (limit {limit}) with"
    else:
        measured = f"the same {found.signal} as"
    return f"{measured} the user's own input {found.input!r}{_view(found)}"


def _measurement(found: MatchEvidence, proofs: Proofs) -> str:
    if isinstance(found, ExactMatch):
        return f"the same {found.signal} as"
    blocks = proofs.reached(found) is Decision.BLOCK
    limit = _limit(found, proofs.limits, blocks=blocks)
    if isinstance(found, HashMatch):
        return f"{found.signal} is {found.distance_bits} bits (limit {limit}) from"
    if isinstance(found, GeometryMatch):
        return f"{found.inliers} matching points (limit {limit}) cover {found.overlap:.0%} of"
    return f"{found.signal} similarity {found.similarity:.3f} (limit {limit}) with"


def _limit(found: MatchEvidence | InputMatch, limits: Limits, *, blocks: bool) -> str:
    """The limit that was reached, as it was measured, and whether it was ever calibrated."""
    limit = limit_of(found.signal, limits, "" if isinstance(found, InputMatch) else found.work.bank)
    how = "" if limits.calibration.partition(", bank limits ")[0] != "uncalibrated" else ", uncalibrated"
    if isinstance(limit, BitsLimit):
        return f"{limit.block_within_bits if blocks else limit.flag_within_bits}{how}"
    if isinstance(limit, CountLimit):
        return f"{limit.block_at_least if blocks else limit.flag_at_least}{how}"
    assert isinstance(limit, SimilarityLimit)
    return f"{limit.block_above if blocks else limit.flag_above:.3f}{how}"


def _doubt(found: MatchEvidence, proofs: Proofs) -> str:
    """Why evidence that reaches its block limit does not block."""
    if not proofs.lowers(found):
        return ""
    assert reached(found, proofs.limits) is Decision.BLOCK
    if isinstance(found, CopyMatch):
        return ", but a closer look does not confirm it"
    return ", but a part of the picture differs"
