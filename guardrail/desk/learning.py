"""Join rooms to learn from decisions: what they say of the rules, and which limits they speak for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from guardrail import judge
from guardrail.judging import limits_now
from guardrail.records import Decision, Disposition, Evidence, Limits, MatchEvidence, Signal, Verdict
from guardrail.study.agreement import Kappa, Precision, cohens_kappa, precisions
from guardrail.study.labels import is_confirmed, label_of
from guardrail.study.proposals import CASES_LEAST, Proposal, Weighed, propose
from guardrail.study.units import unit_of

if TYPE_CHECKING:
    from guardrail.guard import Guard
    from guardrail.records import ReasonCode, ReviewAnswers, ReviewDecision, ReviewOutcome
    from guardrail.settings import Policy

__all__ = [
    "DecidedPair",
    "Labelled",
    "Quality",
    "Thin",
    "current_limits",
    "labelled",
    "proposals",
    "quality_of",
    "rejudged",
]


class DecidedPair(Protocol):
    """A case that people decided for good, as memory hands it out."""

    @property
    def case_id(self) -> int:
        """Which case."""

    @property
    def group_id(self) -> int:
        """Shared by cases that are nearly the same picture."""

    @property
    def verdict(self) -> Verdict:
        """Why it was flagged."""

    @property
    def outcome(self) -> ReviewOutcome:
        """What was decided."""

    @property
    def reasons(self) -> tuple[ReasonCode, ...]:
        """Of the decision that settled it."""

    @property
    def answers(self) -> ReviewAnswers:
        """Of the decision that settled it."""

    @property
    def decided_at(self) -> datetime:
        """When it was settled."""

    @property
    def nearest_work(self) -> str:
        """`bank/work_id`."""

    @property
    def decisions(self) -> tuple[ReviewDecision, ...]:
        """All that stand, oldest first."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A decided case and what it says: whether the image copies the work; and what a second person did to that.

    `seconded` and `turned` are as in `Weighed`.
    """

    pair: DecidedPair
    confirmed: bool
    seconded: bool
    turned: bool

    def matches(self) -> Iterator[MatchEvidence]:
        """The evidence on works that were protected when it was judged."""
        verdict = self.pair.verdict
        for found in verdict.evidence:
            if isinstance(found, MatchEvidence) and found.work.standing(verdict.at) is Disposition.PROTECT:
                yield found


@dataclass(frozen=True, slots=True)
class Quality:
    """What decisions say of people and rules.

    Attributes:
        decided: cases that were decided for good.
        said_nothing: of them, those that say nothing of copying (withheld as sensitive alone).
        kappa: agreement of first and second looks that did not see each other.
        rules: how often what a rule flagged was confirmed.
        banks: the same for the bank of the nearest work.
    """

    decided: int
    said_nothing: int
    kappa: Kappa
    rules: tuple[Precision, ...]
    banks: tuple[Precision, ...]


@dataclass(frozen=True, slots=True)
class Thin:
    """A bank and a signal of which too few cases are decided for a proposal, or none would spare anything."""

    bank: str
    signal: Signal
    decided: int
    least: int


def labelled(pairs: Iterable[DecidedPair]) -> list[Labelled]:
    """The decided cases that say whether the image copies, each picture and work once: the one decided last.

    Those that were decided as the very pixels had been before say nothing more.
    """
    found: dict[tuple[int, str], Labelled] = {}
    for pair in pairs:
        confirmed = is_confirmed(pair.outcome, pair.reasons, pair.answers)
        if confirmed is None or (pair.decisions[-1:] and pair.decisions[-1].round == "repeat"):
            continue
        first = next((one for one in pair.decisions if one.round == "first"), None)
        second = next((one for one in pair.decisions if one.round == "second"), None)
        let_pass = first is not None and second is not None and label_of(first) is False
        found[pair.group_id, pair.nearest_work] = Labelled(pair, confirmed, let_pass, let_pass and confirmed)
    return list(found.values())


def quality_of(pairs: Sequence[DecidedPair]) -> Quality:
    """Agreement and precision over all decided cases."""
    blind = []
    named: list[tuple[str, str, bool]] = []
    for pair in pairs:
        by_round = {one.round: one.outcome for one in pair.decisions}
        if "first" in by_round and "second" in by_round:
            blind.append((str(by_round["first"]), str(by_round["second"])))
        confirmed = is_confirmed(pair.outcome, pair.reasons, pair.answers)
        if confirmed is not None:
            named.append((pair.verdict.rule, pair.nearest_work.partition("/")[0], confirmed))
    return Quality(
        decided=len(pairs),
        said_nothing=len(pairs) - len(named),
        kappa=cohens_kappa(blind),
        rules=precisions((rule, confirmed) for rule, _, confirmed in named),
        banks=precisions((bank, confirmed) for _, bank, confirmed in named if bank),
    )


def current_limits(guard: Guard) -> Limits:
    """The limits that a guard's next check is judged by."""
    return limits_now(guard.limits, guard.index.header.limits, guard.settings.limits)


def proposals(pairs: Iterable[DecidedPair], guard: Guard) -> tuple[tuple[Proposal, ...], tuple[Thin, ...]]:
    """Flag limits for single banks that decisions speak for, those that spare most first; and where there are too few.

    A case counts as spared where the policy, asked again without the evidence in question, would have accepted it.

    Args:
        pairs: all decided cases of the guard's organisation.
        guard: whose limits and policy are in force.
    """
    limits, policy = current_limits(guard), guard.settings.policy
    weighed: dict[tuple[str, Signal], list[Weighed]] = defaultdict(list)
    for one in labelled(pairs):
        for bank, signal, measured in _nearest_of_banks(one):
            weighed[bank, signal].append(
                Weighed(
                    case_id=one.pair.case_id,
                    measured=measured,
                    confirmed=one.confirmed,
                    hangs_on_it=_passes_without(one.pair.verdict, bank, signal, limits, policy),
                    seconded=one.seconded,
                    turned=one.turned,
                )
            )
    found, thin = [], []
    for (bank, signal), cases in weighed.items():
        flag, block = _limits_on(limits, bank, signal)
        proposal = propose(bank, signal, flag, block, cases) if flag is not None else None
        if proposal is not None:
            found.append(proposal)
        else:
            thin.append(Thin(bank, signal, len(cases), CASES_LEAST))
    ranked = sorted(found, key=lambda one: (-one.spared, one.bank, one.signal))
    return tuple(ranked), tuple(sorted(thin, key=lambda one: (one.bank, one.signal)))


def _nearest_of_banks(one: Labelled) -> Iterator[tuple[str, Signal, float]]:
    """By bank and signal, how near the nearest work is, in the signal's own unit."""
    nearest: dict[tuple[str, Signal], float] = {}
    for found in one.matches():
        unit, measured = unit_of(found.signal), _measured(found)
        if unit is not None and measured is not None:
            key = found.work.bank, Signal(found.signal)
            before = nearest.get(key)
            if before is None or unit.nearness(measured) > unit.nearness(before):
                nearest[key] = measured
    for (bank, signal), measured in nearest.items():
        yield bank, signal, measured


def _measured(found: MatchEvidence) -> float | None:
    """What a piece of evidence measured, in its signal's own unit; None for exact matches."""
    for name in ("similarity", "distance_bits", "inliers"):
        if (value := getattr(found, name, None)) is not None:
            return float(value)
    return None


def _limits_on(limits: Limits, bank: str, signal: Signal) -> tuple[float | None, float | None]:
    """The flag and the block limit of a signal for the works of a bank."""
    unit = unit_of(signal)
    assert unit is not None, "only signals with limits are weighed"
    of_signal = getattr(limits.of_bank(bank), unit.field)
    return getattr(of_signal, unit.flag), getattr(of_signal, unit.block)


def _passes_without(verdict: Verdict, bank: str, signal: Signal, limits: Limits, policy: Policy) -> bool:
    """Whether the policy accepts what was found, less what this signal says of this bank."""
    rest = tuple(found for found in verdict.evidence if not _is_of(found, bank, signal))
    return rejudged(verdict, rest, limits, policy) is Decision.ACCEPT


def _is_of(found: Evidence, bank: str, signal: Signal) -> bool:
    return isinstance(found, MatchEvidence) and found.signal is signal and found.work.bank == bank


def rejudged(verdict: Verdict, evidence: tuple[Evidence, ...], limits: Limits, policy: Policy) -> Decision:
    """What the policy decides on some evidence of a verdict by other limits; of the run nothing is known."""
    about = judge.Findings(
        image=verdict.image,
        pixels_sha256=verdict.pixels_sha256,
        evidence=evidence,
        neighbours=(),
        limits=limits,
        index_snapshot=verdict.index_snapshot,
        at=verdict.at,
    )
    return judge.decide(about, policy).decision
