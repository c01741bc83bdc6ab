"""Evidence and a policy in, one verdict out, with the sentence that explains it."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from guardrail.judge.explain import explanation
from guardrail.judge.gather import nearest_works, reached
from guardrail.judge.proofs import Proofs
from guardrail.records import (
    CheckFailed,
    CopyMatch,
    Credit,
    Decision,
    Disposition,
    Evidence,
    ExactMatch,
    GeometryMatch,
    Limits,
    MatchEvidence,
    Neighbour,
    PixelMatch,
    Signal,
    Timings,
    Unproved,
    Verdict,
    Work,
)
from guardrail.settings import Policy, Rule

__all__ = ["Findings", "decide", "graver"]

_NEAREST_IN_VERDICT = 5  # C2PA assertions grow by 60 bytes a neighbour, and nobody reads further
_NO_RULE = "no rule covers this"
_UNCONFIRMED = "likeness that a closer look does not confirm"
_NOTHING_NEAR = "nothing protected is near"
_GENERIC = "generic imagery"
_CREDITED = "licensed work, credited"


@dataclass(frozen=True, slots=True)
class Findings:
    """All that is known of one image when it is judged."""

    image: str
    pixels_sha256: str | None
    evidence: tuple[Evidence, ...]
    neighbours: tuple[Neighbour, ...]
    limits: Limits
    index_snapshot: str | None
    at: datetime
    run_id: str | None = None
    timings: Timings | None = None


class _Opinion(NamedTuple):
    """What one piece of evidence asks for."""

    decision: Decision
    rule: str
    evidence: MatchEvidence | CheckFailed | None
    place: int = 0

    @property
    def weight(self) -> tuple[int, int]:
        """The most severe weighs most; of equally severe ones, the one whose rule comes first."""
        return self.decision.severity, -self.place


def decide(about: Findings, policy: Policy) -> Verdict:
    """Judge one image: the most severe opinion on its evidence wins, the earlier rule of equally severe ones."""
    spoken = [found for found in about.evidence if not isinstance(found, Unproved)]
    proofs = Proofs.among(about.evidence, about.limits)
    standing = {id(found): _standing(found, about.at) for found in spoken}
    counted = [found for found in spoken if standing[id(found)] is not None or isinstance(found, CheckFailed)]
    matches = [found for found in counted if not isinstance(found, CheckFailed)]
    protected = [found for found in matches if standing[id(found)] is Disposition.PROTECT]
    others = [(found, standing[id(found)]) for found in matches if standing[id(found)] is not Disposition.PROTECT]
    weighed = [found for found in protected if not _explained_away(found, others, about.limits)]
    generic = [found for found, what in others if what is Disposition.IGNORE]
    excused = bool(generic) and not weighed and any(reached(found, about.limits) is Decision.BLOCK for found in generic)
    failed = [
        found for found in counted if isinstance(found, CheckFailed) and not (excused and found.check == "pdq_quality")
    ]
    blank = any(found.check == "pdq_quality" for found in failed)
    telling = [found for found in weighed if not (blank and isinstance(found, CopyMatch))]
    opinions = [opinion for found in (*failed, *telling) if (opinion := _opinion(found, policy, proofs))]
    owed = [found for found, what in others if what is Disposition.CREDIT]
    winner = max(opinions, key=lambda opinion: opinion.weight, default=_quiet(owed, generic))
    return _verdict(about, policy, winner, owed, proofs)


def graver(verdict: Verdict, bare: Verdict) -> Verdict:
    """The graver of the verdicts on a picture and on another look of it; that the latter is flat does not count."""
    if bare.decision.severity <= verdict.decision.severity:
        return verdict
    if all(isinstance(found, CheckFailed) and found.check == "pdq_quality" for found in bare.evidence):
        return verdict
    explanation = f"{bare.explanation[:-1]}; so it looks without the transparency, or on black."
    own = {"image": verdict.image, "pixels_sha256": verdict.pixels_sha256, "explanation": explanation}
    return bare.model_copy(update=own)


def _standing(found: MatchEvidence | CheckFailed, at: datetime) -> Disposition | None:
    return None if isinstance(found, CheckFailed) else found.work.standing(at)


def _explained_away(
    found: MatchEvidence, others: list[tuple[MatchEvidence, Disposition | None]], limits: Limits
) -> bool:
    """Whether a work we need not protect is as near by the same signal.

    Generic imagery explains any likeness but an exact one; a licensed work only what would merely be flagged. A part of
    the image that holds a work is not explained by what another part holds.
    """
    if isinstance(found, ExactMatch | GeometryMatch) or found.signal is Signal.TILE:
        return False
    merely_flagged = reached(found, limits) is Decision.FLAG
    return any(
        other.signal == found.signal
        and _nearness(other) >= _nearness(found)
        and (what is Disposition.IGNORE or merely_flagged)
        for other, what in others
    )


def _nearness(found: MatchEvidence) -> float:
    """Higher is nearer, comparable within one signal only."""
    if isinstance(found, GeometryMatch):
        return float(found.inliers)
    bits = getattr(found, "distance_bits", 0)
    return float(getattr(found, "similarity", -bits))


def _opinion(found: MatchEvidence | CheckFailed, policy: Policy, proofs: Proofs) -> _Opinion | None:
    """The opinion of the first rule that fits; where none does, a failed check blocks, and so does a copy.

    What a closer look lowered is flagged at least, whatever the rules say of flags.
    """
    lowered = not isinstance(found, CheckFailed) and proofs.lowers(found)
    grave = isinstance(found, CheckFailed | ExactMatch) or proofs.reached(found) is Decision.BLOCK
    rules = policy.rules if isinstance(found, CheckFailed) else policy.banks.get(found.work.bank, policy.rules)
    for place, rule in enumerate(rules):
        if _fits(rule, found, proofs) and not (lowered and rule.decision is Decision.ACCEPT):
            return _Opinion(rule.decision, rule.name, found, place)
    if lowered:
        return _Opinion(Decision.FLAG, _UNCONFIRMED, found, len(rules))
    return _Opinion(Decision.BLOCK, _NO_RULE, found, len(rules)) if grave else None


def _fits(rule: Rule, found: MatchEvidence | CheckFailed, proofs: Proofs) -> bool:
    if rule.evidence != found.kind:
        return False
    if isinstance(found, CheckFailed):
        return rule.signal in (None, found.check)
    return rule.signal in (None, str(found.signal)) and proofs.reached(found).severity >= rule.reaching.severity


def _quiet(owed: list[MatchEvidence], generic: list[MatchEvidence]) -> _Opinion:
    """The opinion where no rule spoke up."""
    if owed:
        return _Opinion(Decision.ACCEPT, _CREDITED, owed[0])
    if generic:
        return _Opinion(Decision.ACCEPT, _GENERIC, generic[0])
    return _Opinion(Decision.ACCEPT, _NOTHING_NEAR, None)


def _verdict(about: Findings, policy: Policy, winner: _Opinion, owed: list[MatchEvidence], proofs: Proofs) -> Verdict:
    works = {(found.work.bank, found.work.work_id): found.work for found in owed}
    released = winner.decision is Decision.ACCEPT
    return Verdict(
        run_id=about.run_id,
        image=about.image,
        pixels_sha256=about.pixels_sha256,
        at=about.at,
        decision=winner.decision,
        rule=winner.rule,
        explanation=explanation(winner.decision, winner.rule, winner.evidence, proofs),
        evidence=about.evidence,
        nearest=_nearest(about, proofs),
        credits=tuple(_credit(work) for work in works.values()) if released else (),
        index_snapshot=about.index_snapshot,
        policy_sha256=policy.sha256,
        calibration=about.limits.calibration,
        timings=about.timings,
    )


def _nearest(about: Findings, proofs: Proofs) -> tuple[Neighbour, ...]:
    """The works to list: those of which a copy was proved first."""
    known = about.neighbours + _proofs(about)
    near = nearest_works(known, about.limits, len(known))
    return tuple(sorted(near, key=lambda one: not proofs.has_proved(one.work))[:_NEAREST_IN_VERDICT])


def _proofs(about: Findings) -> tuple[Neighbour, ...]:
    """Proof by pixels as neighbours, so that the nearest works are listed by the strongest thing known of them."""
    rows = {(near.work.bank, near.work.work_id): near.row for near in about.neighbours}
    return tuple(
        Neighbour(work=found.work, row=row, signal=found.signal, similarity=found.similarity, view=found.view)
        for found in about.evidence
        if isinstance(found, PixelMatch) and (row := rows.get((found.work.bank, found.work.work_id))) is not None
    )


def _credit(work: Work) -> Credit:
    return Credit.model_validate(work.model_dump(include=set(Credit.model_fields)))
