"""Evidence and a policy in, one verdict out, with the sentence that explains it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from guardrail.judge.conditions import covering_input, holds
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
    GenerationContext,
    GeometryMatch,
    Limits,
    MatchEvidence,
    MemorisationSign,
    Neighbour,
    PixelMatch,
    RunEvidence,
    Signal,
    SignUnavailable,
    Timings,
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

_Speaking = MatchEvidence | RunEvidence | CheckFailed  # what rules may speak of


@dataclass(frozen=True, slots=True)
class Findings:
    """All that is known of one image when it is judged.

    Attributes:
        image: its name.
        pixels_sha256: of its size and RGB pixels; None where it could not be read.
        evidence: what was found, of works and of the run.
        neighbours: what search found, in all indexes that were searched.
        limits: what counts as near.
        index_snapshot: the state of the index.
        at: when; dates of works are compared with it.
        run_id: of the run, where there was one.
        timings: of its batch.
        run: how it was made, for rules that ask; None where nobody knows.
        adapter_snapshots: the states of the indexes of active adapters, by the adapter's name.
        frames: of a frame of a video, the names of those that it stands for.
    """

    image: str
    pixels_sha256: str | None
    evidence: tuple[Evidence, ...]
    neighbours: tuple[Neighbour, ...]
    limits: Limits
    index_snapshot: str | None
    at: datetime
    run_id: str | None = None
    timings: Timings | None = None
    run: GenerationContext | None = None
    adapter_snapshots: Mapping[str, str] = field(default_factory=dict)
    frames: tuple[str, ...] = ()


class _Opinion(NamedTuple):
    """What one piece of evidence asks for; `is_sure` unless it hangs on something that is not known of the run."""

    decision: Decision
    rule: str
    evidence: _Speaking | None
    place: int = 0
    is_sure: bool = True

    @property
    def weight(self) -> tuple[int, int]:
        """The most severe weighs most; of equally severe ones, the one whose rule comes first."""
        return self.decision.severity, -self.place


def decide(about: Findings, policy: Policy) -> Verdict:
    """Judge one image: the most severe opinion on its evidence wins, the earlier rule of equally severe ones."""
    proofs = Proofs.among(about.evidence, about.limits)
    failed = [found for found in about.evidence if isinstance(found, CheckFailed)]
    of_the_run = [found for found in about.evidence if isinstance(found, RunEvidence)]
    standing = [(found, found.work.standing(about.at)) for found in about.evidence if isinstance(found, MatchEvidence)]
    others = [(found, what) for found, what in standing if what not in (None, Disposition.PROTECT)]
    protected = [found for found, what in standing if what is Disposition.PROTECT]
    weighed = [found for found in protected if not _explained_away(found, others, about.limits)]
    generic = [found for found, what in others if what is Disposition.IGNORE]
    if not weighed and any(reached(found, about.limits) is Decision.BLOCK for found in generic):
        failed = [found for found in failed if found.check != "pdq_quality"]  # clearly generic imagery excuses that
    blank = any(found.check == "pdq_quality" for found in failed)
    telling = [found for found in weighed if not (blank and isinstance(found, CopyMatch))]
    asked = (*failed, *telling, *of_the_run)
    opinions = [opinion for found in asked if (opinion := _opinion(found, about, policy, proofs))]
    owed = [found for found, what in others if what is Disposition.CREDIT]
    winner = max(opinions, key=lambda opinion: opinion.weight, default=_quiet(owed, generic))
    verdict = _verdict(about, policy, winner, owed, proofs)
    return _said_of_input(verdict, winner, opinions)


def graver(verdict: Verdict, bare: Verdict) -> Verdict:
    """The graver of the verdicts on a picture and on another look of it; that the latter is flat does not count."""
    if bare.decision.severity <= verdict.decision.severity:
        return verdict
    if all(isinstance(found, CheckFailed) and found.check == "pdq_quality" for found in bare.evidence):
        return verdict
    explanation = f"{bare.explanation[:-1]}; so it looks without the transparency, or on black."
    own = {"image": verdict.image, "pixels_sha256": verdict.pixels_sha256, "explanation": explanation}
    return bare.model_copy(update=own)


def _explained_away(
    found: MatchEvidence, others: Sequence[tuple[MatchEvidence, Disposition | None]], limits: Limits
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


def _opinion(found: _Speaking, about: Findings, policy: Policy, proofs: Proofs) -> _Opinion | None:
    """The opinion of the first rule that fits; where none does, a failed check blocks, and so does a copy.

    What a closer look lowered is flagged at least, whatever the rules say of flags. A rule that hangs on something
    nobody knows of the run counts only where it is stricter than what is decided without it.
    """
    match = found if isinstance(found, MatchEvidence) else None
    lowered = match is not None and proofs.lowers(match)
    rules = policy.banks.get(match.work.bank, policy.rules) if match is not None else policy.rules
    settled, unsure = _fallback(found, proofs, len(rules), lowered=lowered), []
    for place, rule in enumerate(rules):
        if not _fits(rule, found, proofs) or (lowered and rule.decision is Decision.ACCEPT):
            continue
        applies = holds(rule.when, found, about.evidence, about.run) if rule.when is not None else True
        opinion = _Opinion(rule.decision, rule.name, found, place, is_sure=applies is True)
        if applies:
            settled = opinion
            break
        if applies is None:
            unsure.append(opinion)
    least = settled.decision.severity if settled is not None else 0
    return max((one for one in unsure if one.decision.severity > least), key=lambda one: one.weight, default=settled)


def _fallback(found: _Speaking, proofs: Proofs, place: int, *, lowered: bool) -> _Opinion | None:
    """The opinion where no rule fits; none on what only says something of the run, or is merely near."""
    if lowered:
        return _Opinion(Decision.FLAG, _UNCONFIRMED, found, place)
    grave = isinstance(found, CheckFailed | ExactMatch) or (
        isinstance(found, MatchEvidence) and proofs.reached(found) is Decision.BLOCK
    )
    return _Opinion(Decision.BLOCK, _NO_RULE, found, place) if grave else None


def _fits(rule: Rule, found: _Speaking, proofs: Proofs) -> bool:
    """Whether a rule speaks of this evidence, by its kind, its signal and the limit it reaches."""
    if rule.evidence != found.kind:
        return False
    if isinstance(found, CheckFailed):
        return rule.signal in (None, found.check)
    if isinstance(found, SignUnavailable):
        return rule.signal in (None, found.sign)
    if isinstance(found, MemorisationSign):
        return rule.signal in (None, found.sign) and found.reaches.severity >= rule.reaching.severity
    return rule.signal in (None, str(found.signal)) and proofs.reached(found).severity >= rule.reaching.severity


def _quiet(owed: list[MatchEvidence], generic: list[MatchEvidence]) -> _Opinion:
    """The opinion where no rule spoke up."""
    if owed:
        return _Opinion(Decision.ACCEPT, _CREDITED, owed[0])
    if generic:
        return _Opinion(Decision.ACCEPT, _GENERIC, generic[0])
    return _Opinion(Decision.ACCEPT, _NOTHING_NEAR, None)


def _said_of_input(verdict: Verdict, winner: _Opinion, opinions: list[_Opinion]) -> Verdict:
    """The verdict, and that the image repeats the user's own input where that is a copy of every work that decided."""
    grave = [one for one in opinions if one.decision is winner.decision]
    works = [one.evidence.work for one in grave if isinstance(one.evidence, MatchEvidence)]
    if winner.decision is Decision.ACCEPT or not isinstance(winner.evidence, MatchEvidence):
        return verdict
    covers = [covering_input(work, verdict.evidence) for work in (winner.evidence.work, *works)]
    if covers[0] is None or None in covers:
        return verdict
    explanation = (
        f"{verdict.explanation[:-1]}; it repeats the user's own input {covers[0].input!r}, which is a copy of that "
        "work: not memorisation, and no retry can help."
    )
    return verdict.model_copy(update={"input_repeated": covers[0].input, "explanation": explanation})


def _verdict(about: Findings, policy: Policy, winner: _Opinion, owed: list[MatchEvidence], proofs: Proofs) -> Verdict:
    works = {(found.work.bank, found.work.work_id): found.work for found in owed}
    released = winner.decision is Decision.ACCEPT
    return Verdict(
        run_id=about.run_id or (about.run.run_id if about.run else None),
        image=about.image,
        pixels_sha256=about.pixels_sha256,
        at=about.at,
        decision=winner.decision,
        rule=winner.rule,
        explanation=explanation(winner.decision, winner.rule, winner.evidence, proofs, is_sure=winner.is_sure),
        evidence=about.evidence,
        nearest=_nearest(about, proofs, winner),
        credits=tuple(_credit(work) for work in works.values()) if released else (),
        index_snapshot=about.index_snapshot,
        adapter_snapshots=dict(about.adapter_snapshots),
        frames=about.frames,
        policy_sha256=policy.sha256,
        calibration=about.limits.calibration,
        timings=about.timings,
    )


def _nearest(about: Findings, proofs: Proofs, winner: _Opinion) -> tuple[Neighbour, ...]:
    """The works to list: the one that decided first, then those of which a copy was proved."""
    deciding = winner.evidence.work if isinstance(winner.evidence, MatchEvidence) else None
    known = about.neighbours + _proofs(about)
    near = nearest_works(known, about.limits, len(known))
    return tuple(
        sorted(near, key=lambda one: (one.work != deciding, not proofs.has_proved(one.work)))[:_NEAREST_IN_VERDICT]
    )


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
