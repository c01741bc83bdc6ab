"""Differential privacy put to the test: what epsilon a membership attack proves, and whether that refutes a claim."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.optimize import brentq
from scipy.stats import beta, binom

from guardrail.errors import AuditImpossible
from guardrail.records import AuditFinding, AuditOutcome, Measured, PrivacyAudit, PrivacyClaim, PrivacyStatement
from guardrail.study.audit.asks import Budget, Cost, Subject
from guardrail.study.audit.candidates import Candidate, batches, cannot_tell
from guardrail.study.audit.membership import ATTACKS, EVALUATIONS, membership_traits
from guardrail.study.audit.telling import area_under

__all__ = [
    "Guesses",
    "PrivacyBound",
    "by_a_coin",
    "chance_of_as_many",
    "epsilon_by_guesses",
    "epsilon_by_rates",
    "guess",
    "pictures_needed",
    "read_statement",
    "write_statement",
]

_CONFIDENCE = 0.95  # one-sided, of a lower bound
_MOST = 1024  # pictures that are asked about: a perfect attack on 70% of them proves an epsilon of 5.5
_CALIBRATED_SHARE = 0.3  # of the pictures; they choose attack, direction and number of guesses, and are not guessed
_GUESSED_SHARES = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)  # of the others; the surest first, one of these is chosen
_LEAST = 20  # pictures; of fewer nothing is proved that anybody would claim less than
_LARGEST_EPSILON = 50.0  # beyond, all probabilities are 0 or 1 in float64
_MOST_NEEDED = 10_000_000  # pictures; more than anybody asks a network about
_EPSILON = "epsilon is at least"  # of a finding's figures, by name
_COULD_PROVE = "a perfect attack on these pictures proves"
_RIGHT = "right guesses"

Traits = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Guesses:
    """How an attack did on `pictures` that a coin each had put into training or not: `right` of `made` guesses."""

    pictures: int
    made: int
    right: int


@dataclass(frozen=True, slots=True)
class PrivacyBound:
    """Bounds epsilon from below by membership inference on the one model there is, and compares it with a claim.

    Attributes:
        claim: what is claimed; None: what the statement in the pipeline's folder claims. Without its `trained_share`,
            because pictures were chosen in any other way than by a coin, no bound is proved.
        most: pictures that are asked about at most.
    """

    claim: PrivacyClaim | None = None
    most: int = _MOST

    @property
    def name(self) -> str:
        """`privacy`."""
        return "privacy"

    def cost(self, subject: Subject) -> Cost:
        """`EVALUATIONS` a picture, as membership inference needs."""
        return Cost(evaluations=EVALUATIONS * min(self.most, len(subject.training) + len(subject.held_out)))

    def run(self, subject: Subject, budget: Budget, progress: Callable[[int, int], None]) -> AuditFinding:
        """See `AuditPart.run`; memorised where the claim is refuted, clean where it could have been and was not."""
        if subject.denoiser is None:
            return cannot_tell(self.name, "this kind of pipeline has no denoiser that can be asked directly")
        claim = self.claim or _claimed(subject)
        if claim is None:
            return cannot_tell(self.name, f"found no claim, expected one in {PrivacyStatement.FILE} beside the weights")
        if claim.trained_share is None:
            return cannot_tell(
                self.name,
                f"{_said(claim)} is not put to the test: expected pictures that a coin each put into training or not, "
                "found no word of it; write the coin's probability into the claim as trained_share",
            )
        candidates = by_a_coin(subject, claim.trained_share, min(self.most, budget.evaluations // EVALUATIONS))
        traits, is_member = self._asked(subject, candidates, budget, progress)
        if len(is_member) < _LEAST or is_member.all() or not is_member.any():
            return cannot_tell(
                self.name, f"found {len(is_member)} pictures by fair coins, expected {_LEAST} of both kinds"
            )
        return self._finding(claim, guess(traits, is_member, claim.delta))

    def audit(self, finding: AuditFinding, weights_sha256: str | None = None) -> PrivacyAudit | None:
        """What a finding of this part adds to a statement; None where it bounded nothing."""
        values = {one.name: one for one in finding.measured}
        if _EPSILON not in values:
            return None
        return PrivacyAudit(
            at=datetime.now(UTC),
            weights_sha256=weights_sha256,
            epsilon_at_least=values[_EPSILON].value,
            could_prove=values[_COULD_PROVE].value,
            confidence=_CONFIDENCE,
            pictures=values[_EPSILON].over,
            guesses=values[_RIGHT].over,
            right=round(values[_RIGHT].value * values[_RIGHT].over),
        )

    def _asked(
        self, subject: Subject, candidates: list[Candidate], budget: Budget, progress: Callable[[int, int], None]
    ) -> tuple[dict[str, Traits], NDArray[np.bool_]]:
        """Each attack's traits, float64 (N,), and which pictures are members, bool (N,), as far as time goes."""
        assert subject.denoiser is not None, "it was asked for"
        found: list[Traits] = []
        for asked in batches(subject, candidates):
            if budget.is_over():
                break
            found.extend(np.stack(list(membership_traits(subject.denoiser, asked, subject.seed).values()), axis=1))
            progress(len(found), len(candidates))
        columns = np.array(found).reshape(len(found), len(ATTACKS)).T
        members = np.array([one.is_member for one in candidates[: len(found)]], bool)
        return dict(zip(ATTACKS, columns, strict=True)), members

    def _finding(self, claim: PrivacyClaim, guesses: Guesses) -> AuditFinding:
        delta, claimed = claim.delta, claim.epsilon
        proved = epsilon_by_guesses(guesses, delta)
        could = epsilon_by_guesses(replace(guesses, made=guesses.pictures, right=guesses.pictures), delta)
        measured = (
            Measured(name=_EPSILON, value=proved, over=guesses.pictures),
            Measured(name=_COULD_PROVE, value=could, over=guesses.pictures),
            Measured(name=_RIGHT, value=guesses.right / guesses.made, over=guesses.made),
        )
        so = f"{guesses.right} of {guesses.made} guesses were right, so epsilon is at least {proved:.2f}"
        if proved > claimed:
            outcome, reason = AuditOutcome.MEMORISED, f"{_said(claim)} is refuted: {so}"
        elif could <= claimed:
            needed = pictures_needed(claimed)
            outcome = AuditOutcome.COULD_NOT_TELL
            reason = f"{_said(claim)} stands untested: {so}, and more than {could:.2f} could not be proved; "
            reason += f"that takes {needed} pictures by coins" if needed else "no number of pictures can"
        else:
            outcome, reason = AuditOutcome.CLEAN, f"{_said(claim)} is not refuted: {so}"
        return AuditFinding(
            part=self.name, outcome=outcome, reason=reason, measured=measured, source="Steinke, Nasr and Jagielski 2023"
        )


def by_a_coin(subject: Subject, trained_share: float, most: int) -> list[Candidate]:
    """Pictures that fair coins put into training or not, made from pictures of which a loaded coin did.

    Of those on the likelier side each is dropped with the probability that makes both sides alike; that is decided
    without looking at the model, so that the coins of the others are fair and independent.

    Args:
        subject: its training and held-out pictures are all that the coin was thrown for.
        trained_share: the coin's probability of training, 0..1 exclusive.
        most: how many are kept.

    Returns:
        In an order that chance gave; deterministic for the subject's seed.
    """
    chance = np.random.default_rng(subject.seed)
    odds = (1 - trained_share) / trained_share
    pools = ((True, len(subject.training), min(1.0, odds)), (False, len(subject.held_out), min(1.0, 1 / odds)))
    kept = [
        Candidate(is_member, int(row))
        for is_member, count, share in pools
        for row in np.flatnonzero(chance.random(count) < share)
    ]
    return [kept[at] for at in chance.permutation(len(kept))[:most]]


def guess(traits: dict[str, Traits], is_member: NDArray[np.bool_], delta: float = 0.0) -> Guesses:
    """Guess who is a member, where the attack is surest, by an attack that other pictures chose.

    Args:
        traits: by attack, float64 (N,), N >= 20, in an order that says nothing.
        is_member: bool (N,), of both kinds; fair coins.
        delta: of the claim.

    Returns:
        The guesses about the pictures that did not choose: the highest traits are guessed members, the lowest not.
    """
    used = int(_CALIBRATED_SHARE * len(is_member))
    chosen: tuple[float, str, float, float] | None = None
    for name, values in traits.items():
        ours, theirs = values[:used][is_member[:used]], values[:used][~is_member[:used]]
        sign = 1.0 if not len(ours) or not len(theirs) or area_under(ours, theirs) >= 0.5 else -1.0
        for share in _GUESSED_SHARES:
            tried = _guessed(sign * values[:used], is_member[:used], share)
            bound = epsilon_by_guesses(tried, delta)
            if chosen is None or bound > chosen[0]:
                chosen = (bound, name, sign, share)
    assert chosen is not None, "there is an attack"
    _, name, sign, share = chosen
    return _guessed(sign * traits[name][used:], is_member[used:], share)


def chance_of_as_many(guesses: Guesses, epsilon: float, delta: float = 0.0) -> float:
    """How probable as many right guesses are, at most, of any attack on an (epsilon, delta)-private training.

    Args:
        guesses: what the attack did.
        epsilon: >= 0.
        delta: 0..1.

    Returns:
        0..1; the largest value under the claim.

    Source: Steinke, Nasr and Jagielski, "Privacy auditing with one (1) training run", NeurIPS 2023, theorem 5.2; no
    difference but that the sums are taken as one array.
    """
    right_share = 1 / (1 + math.exp(-epsilon))
    as_many = float(binom.sf(guesses.right - 1, guesses.made, right_share))
    fewer = np.cumsum(binom.pmf(np.arange(guesses.right - 1, -1, -1), guesses.made, right_share))
    steepest = float((fewer / np.arange(1, guesses.right + 1)).max(initial=0.0))
    return min(1.0, as_many + 2 * guesses.pictures * delta * steepest)


def epsilon_by_guesses(guesses: Guesses, delta: float = 0.0, confidence: float = _CONFIDENCE) -> float:
    """The largest epsilon that as many right guesses refute, one-sided; 0 where they refute none."""
    surprise = 1 - confidence
    if chance_of_as_many(guesses, 0.0, delta) > surprise:
        return 0.0
    if chance_of_as_many(guesses, _LARGEST_EPSILON, delta) <= surprise:
        return _LARGEST_EPSILON
    at = brentq(lambda epsilon: chance_of_as_many(guesses, epsilon, delta) - surprise, 0.0, _LARGEST_EPSILON)
    return max(0.0, float(at))


def epsilon_by_rates(
    found: int, members: int, alarms: int, others: int, delta: float = 0.0, confidence: float = _CONFIDENCE
) -> float:
    """A lower bound on epsilon from an attack's rates over independently trained models.

    Of one model's pictures the guesses hang together, and this proves nothing; use it where each guess is about a model
    of its own, half of them trained with a picture and half without.

    Args:
        found: models trained with it, and guessed so.
        members: models trained with it, >= 1.
        alarms: models trained without it, and guessed to be with it.
        others: models trained without it, >= 1.
        delta: 0..1.
        confidence: that the bound holds; each of both rates is bounded with half the doubt.

    Returns:
        >= 0.

    Source: Jagielski, Ullman and Oprea, "Auditing differentially private machine learning: how private is private
    SGD?", NeurIPS 2020, theorem 2 and section 4 (Clopper-Pearson); we differ in also taking the delta off the rate, as
    Nasr et al. 2021, equation 5, do.
    """
    doubt = (1 - confidence) / 2
    hits_low = float(beta.ppf(doubt, found, members - found + 1)) if found else 0.0
    alarms_high = float(beta.isf(doubt, alarms + 1, others - alarms)) if alarms < others else 1.0
    return math.log((hits_low - delta) / alarms_high) if hits_low - delta > alarms_high else 0.0


def pictures_needed(epsilon: float, confidence: float = _CONFIDENCE) -> int | None:
    """How many pictures by coins a perfect attack needs to prove more than `epsilon` at delta 0.

    None beyond ten million. All guesses right has the probability e^epsilon / (1 + e^epsilon) to the power of their
    number, which must be at most the doubt; the pictures that choose the attack come on top.
    """
    guesses = -math.log(1 - confidence) / math.log1p(math.exp(-epsilon)) if epsilon < _LARGEST_EPSILON else math.inf
    needed = (math.floor(guesses) + 1) / (1 - _CALIBRATED_SHARE) if math.isfinite(guesses) else math.inf
    return math.ceil(needed) if needed <= _MOST_NEEDED else None


def read_statement(folder: Path) -> PrivacyStatement | None:
    """The claim beside a model's weights, with its audits; None where there is none.

    Raises:
        AuditImpossible: there is a file that is not one.
    """
    file = folder / PrivacyStatement.FILE
    try:
        return PrivacyStatement.model_validate_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise AuditImpossible(str(file), first, "a privacy statement", "correct it, or remove it") from error


def write_statement(folder: Path, statement: PrivacyStatement) -> Path:
    """Keep a claim beside a model's weights, all of it or nothing; returns the file.

    Raises:
        OSError: the folder cannot be written.
    """
    file = folder / PrivacyStatement.FILE
    partial = file.with_suffix(".partial")
    partial.write_text(statement.model_dump_json(indent=2) + "\n", encoding="utf-8")
    partial.replace(file)
    return file


def _claimed(subject: Subject) -> PrivacyClaim | None:
    """What is claimed beside the weights that the pipeline was loaded from."""
    folder = str(getattr(getattr(subject.pipeline, "config", None), "_name_or_path", "") or "")
    statement = read_statement(Path(folder)) if folder else None
    return statement.claim if statement else None


def _guessed(traits: Traits, is_member: NDArray[np.bool_], share: float) -> Guesses:
    """Guess the highest half of a share members, and the lowest half not."""
    each = int(share * len(traits) / 2)
    order = np.argsort(-traits, kind="stable")
    right = int(is_member[order[:each]].sum()) + int((~is_member[order[len(order) - each :]]).sum())
    return Guesses(len(traits), 2 * each, right)


def _said(claim: PrivacyClaim) -> str:
    return f"the claim of ({claim.epsilon:g}, {claim.delta:g})-differential privacy"
