"""What there is to see of one case: evidence work by work, rights, and the run, for its page and its file."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from guardrail.desk.web.case_owes import OwesView, owes_view
from guardrail.desk.web.case_places import Placement, RegionView, placed, regions_of
from guardrail.desk.web.case_rights import changed_words, rights_facts, standing_of, standing_words
from guardrail.desk.web.case_run import Fact, RunView, run_view
from guardrail.desk.web.case_signals import SignalView, signals_of
from guardrail.errors import CalibrationUnfit
from guardrail.index import FolderIndex
from guardrail.index.calibrated import read_calibration
from guardrail.protocols import WritableIndex
from guardrail.records import CheckFailed, MatchEvidence, Signal, Unproved

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from guardrail.guard import Guard
    from guardrail.records import (
        Attribution,
        Calibration,
        GenerationContext,
        Limits,
        Neighbour,
        RemedyTried,
        Verdict,
        Work,
    )

__all__ = ["Basis", "CalibrationView", "CaseView", "Judged", "WorkView", "basis_of", "case_view"]

_SHOWN = 12  # digits of a calibration's id, for people
_CHECKS = {  # what a check is about, in words
    "pdq_quality": "the perceptual hash",
    "adapter": "the adapters of the run",
    "embedder": "the copy descriptor",
    "model_signature": "the model's signature",
    "read": "reading the image",
}

Key = tuple[str, str]


class Judged(Protocol):
    """Whatever has a verdict and how the model was run, such as `CaseDetails`."""

    @property
    def verdict(self) -> Verdict:
        """The verdict."""

    @property
    def context(self) -> GenerationContext | None:
        """How the model was run; None where nothing is known of it, or it was purged."""


@dataclass(frozen=True, slots=True)
class Basis:
    """What a verdict is read by: the limits in force, the calibration behind them, the works as they are now.

    Attributes:
        limits: in force now.
        calibration: beside the index; None where there is none, or none that can be trusted.
        works: by bank and work_id, as the index has them now; those that it has no more are left out.
        signals: those that this index can measure, strongest first.
    """

    limits: Limits
    calibration: Calibration | None = None
    works: Mapping[Key, Work] = field(default_factory=dict)
    signals: tuple[Signal, ...] = ()


@dataclass(frozen=True, slots=True)
class CalibrationView:
    """By which limits an image was judged: `in_force` says whether they are those of now."""

    id: str
    words: str
    in_force: bool
    uncalibrated: bool
    stale: bool


@dataclass(frozen=True, slots=True)
class WorkView:
    """One near work: whose it is, every signal on it, and where it lies in the image. `number` counts from 1."""

    number: int
    bank: str
    work_id: str
    title: str
    creator: str
    facts: tuple[Fact, ...]
    standing_word: str
    standing: str
    changed: str
    reaches: str
    signals: tuple[SignalView, ...]
    regions: tuple[RegionView, ...]
    placement: Placement
    doubts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CaseView:
    """All there is to see of one case; `dataclasses.asdict` of it is JSON-ready."""

    verdict_id: str
    image: str
    judged_at: str
    decision: str
    rule: str
    explanation: str
    calibration: CalibrationView
    works: tuple[WorkView, ...]
    run: RunView | None
    failed: tuple[str, ...]
    owes: OwesView


def basis_of(guard: Guard, verdict: Verdict) -> Basis:
    """What a verdict is read by now: limits, calibration, and the works that it names."""
    header = guard.index.header
    keys = [key for key in _keys(verdict) if key[0] not in verdict.adapter_snapshots]
    works: dict[Key, Work] = {}
    if keys and isinstance(guard.index, WritableIndex):
        works = {(one.bank, one.work_id): one for one in guard.index.kept(keys).works}
    calibration = None
    if isinstance(guard.index, FolderIndex):
        try:
            calibration = read_calibration(guard.index.folder, header)
        except CalibrationUnfit:  # one that was edited says nothing; the limits in force are still those of the guard
            calibration = None
    wanted = [Signal.GEOMETRY, Signal.CORRELATION, Signal.COPY, Signal.TILE, Signal.PDQ, Signal.PHASH]
    if "clip" in header.embedders:
        wanted.append(Signal.CLIP)
    tiled = header.sampling.tiles > 1 or header.sampling.query_tiles > 1
    signals = tuple(one for one in wanted if one is not Signal.TILE or tiled)
    limits = guard.limits.model_copy(update={"banks": header.limits.banks}) if not guard.limits.banks else guard.limits
    return Basis(limits, calibration, works, signals)


def case_view(
    details: Judged,
    basis: Basis,
    at: datetime | None = None,
    remedies: Sequence[RemedyTried] = (),
    attributions: Sequence[Attribution] = (),
) -> CaseView:
    """Everything there is to see of one case.

    Args:
        details: with the verdict and how the model was run.
        basis: what it is read by, see `basis_of`.
        at: the moment that rights are read at; now by default.
        remedies: what was tried to make the image anew.
        attributions: what it was estimated to owe to whom.
    """
    verdict, at = details.verdict, at or datetime.now(UTC)
    return CaseView(
        verdict_id=verdict.verdict_id,
        image=verdict.image,
        judged_at=f"{verdict.at.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
        decision=str(verdict.decision),
        rule=verdict.rule,
        explanation=verdict.explanation,
        calibration=_calibration(verdict, basis),
        works=tuple(_work(number, key, verdict, basis, at) for number, key in enumerate(_keys(verdict), start=1)),
        run=run_view(verdict, details.context, remedies),
        failed=tuple(_failed(found) for found in verdict.evidence if isinstance(found, CheckFailed)),
        owes=owes_view(attributions),
    )


def _keys(verdict: Verdict) -> tuple[Key, ...]:
    """The works that a verdict names, nearest first, each once."""
    about = [*verdict.nearest, *(found for found in verdict.evidence if isinstance(found, MatchEvidence | Unproved))]
    return tuple(dict.fromkeys((one.work.bank, one.work.work_id) for one in about))


def _about(verdict: Verdict, key: Key) -> tuple[list[MatchEvidence | Unproved], list[Neighbour]]:
    found = [one for one in verdict.evidence if isinstance(one, MatchEvidence | Unproved)]
    near = [one for one in verdict.nearest if (one.work.bank, one.work.work_id) == key]
    return [one for one in found if (one.work.bank, one.work.work_id) == key], near


def _work(number: int, key: Key, verdict: Verdict, basis: Basis, at: datetime) -> WorkView:
    found, near = _about(verdict, key)
    before = (*near, *found)[0].work
    now = basis.works.get(key)
    work = now or before
    signals = signals_of(work, found, near, basis)
    return WorkView(
        number=number,
        bank=work.bank,
        work_id=work.work_id,
        title=work.title or work.work_id,
        creator=work.creator,
        facts=rights_facts(work, at),
        standing_word=standing_of(work, at),
        standing=standing_words(work, at),
        changed=changed_words(before, now, elsewhere=key[0] in verdict.adapter_snapshots),
        reaches=_gravest(signals),
        signals=signals,
        regions=regions_of(found),
        placement=placed(found, near),
        doubts=tuple(_doubt(one) for one in found if isinstance(one, Unproved)),
    )


def _gravest(signals: Sequence[SignalView]) -> str:
    reached = {one.reaches for one in signals}
    return next((word for word in ("block", "flag") if word in reached), "accept")


def _doubt(found: Unproved) -> str:
    return (
        f"a closer look found no region of the work in the image ({found.inliers} points, where both pictures have "
        f"{found.keypoints} or more to go by): a likeness without proof flags and does not block"
    )


def _failed(found: CheckFailed) -> str:
    about = _CHECKS.get(found.check, found.check)
    return f"{about} could not be checked: {found.error}"


def _calibration(verdict: Verdict, basis: Basis) -> CalibrationView:
    said = verdict.calibration
    uncalibrated = said.startswith("uncalibrated")
    in_force = said.partition(",")[0] == basis.limits.calibration.partition(",")[0]
    words = "shipped limits, never calibrated on this index" if uncalibrated else f"calibration {said[:_SHOWN]}"
    if not uncalibrated and "," in said:
        words += said[said.index(",") :]
    if not in_force:
        words += (
            f"; other limits are in force by now ({basis.limits.calibration[:_SHOWN]}), and are the ones shown here"
        )
    return CalibrationView(said, words, in_force, uncalibrated, stale=", stale" in said)
