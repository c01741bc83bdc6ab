"""One batch on its way to verdicts: fingerprints, neighbours in every index that is asked, evidence, decisions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from guardrail import judge
from guardrail import plugins as tools
from guardrail.records import Timings
from guardrail.searching import Indexes, Searched, search_all

if TYPE_CHECKING:
    from guardrail.carriers import Fingerprints, ImageBatch, Picture, RunFacts
    from guardrail.records import Evidence, GenerationContext, Limits, Neighbour, Verdict
    from guardrail.settings import Settings

__all__ = ["Judge", "JudgedBatch", "limits_now"]


class Judge(Protocol):
    """What a batch needs of the guard that judges it."""

    settings: Settings
    plugins: Any
    limits: Limits
    indexes: Indexes

    def fingerprint(self, batch: ImageBatch) -> Fingerprints:
        """Fingerprint a batch."""


class JudgedBatch:
    """The pictures of one call, fingerprinted and searched for.

    Args:
        by: the guard that judges.
        batch: the pictures.
        context: how the model was run.
        facts: what else is known of that run.

    Raises:
        IndexMismatch, IndexMissing, IndexDamaged: an index cannot be searched any more.
    """

    def __init__(self, by: Judge, batch: ImageBatch, context: GenerationContext | None, facts: RunFacts) -> None:
        self.by, self.batch, self.facts, self.context_given = by, batch, facts, context
        self.context = judge.with_adapter_facts(context, by.settings.adapters) if context is not None else None
        started = time.perf_counter()
        self.prints = by.fingerprint(batch)
        if len(self.prints) != len(batch):
            raise ValueError(f"{len(self.prints)} fingerprints for {len(batch)} images")
        fingerprinted = time.perf_counter()
        self.searched = by.indexes.pinned(context)  # one batch, one state
        self.limits = limits_now(by.limits, self.searched[0].backend.header.limits, by.settings.limits)
        self.neighbours = search_all(self.searched, self.prints, by.settings.neighbours)
        self._spent_s = (fingerprinted - started, time.perf_counter() - fingerprinted)

    def verdicts(self) -> list[Verdict]:
        """Gather the evidence on every picture, and decide."""
        started = time.perf_counter()
        evidence = [tuple(self._evidence(picture, row)) for row, picture in enumerate(self.batch.pictures)]
        spent_s = (*self._spent_s, time.perf_counter() - started)
        timings = Timings(**{name: s * 1000 for name, s in zip(Timings.model_fields, spent_s, strict=True)})
        pairs = zip(self.batch.pictures, evidence, strict=True)
        return [self._decided(picture, row, found, timings) for row, (picture, found) in enumerate(pairs)]

    def _evidence(self, picture: Picture, row: int) -> Iterator[Evidence]:
        """All evidence on one picture: from each index, from the run, and from what the run was given."""
        name = picture.name.partition("\0")[0]  # another look of a picture was made by the same run
        yield from self.facts.evidence.get(name, ())
        yield from judge.adapter_failures(self.context, self.by.settings.adapters, picture.name)
        failure = self.prints.failures[row]
        if failure is not None:
            yield failure
            return
        for searched, answers in zip(self.searched, self.neighbours, strict=True):
            yield from self._matches(picture, row, searched, answers[row])
        if self.facts.known is not None:
            yield from judge.input_matches(self.facts.known, self.prints, row, self.limits)

    def _matches(
        self, picture: Picture, row: int, searched: Searched, near: tuple[Neighbour, ...]
    ) -> Iterator[Evidence]:
        """Evidence from the neighbours in one index, then from every plugin that looks closer at them."""
        found = judge.gather(picture.name, near, int(self.prints.pdq_quality[row]), self.limits)
        yield from (one for one in found if not searched.adapter or one.kind != "check_failed")  # said once
        for answer in tools.call_guards(
            self.by.plugins,
            "find_evidence",
            context=self.context,
            picture=picture,
            neighbours=near,
            index=searched.backend,
            limits=self.limits,
            settings=self.by.settings,
        ):
            yield from tools.evidence_of(answer, picture.name)

    def _decided(self, picture: Picture, row: int, evidence: tuple[Evidence, ...], timings: Timings) -> Verdict:
        failed = self.prints.failures[row] is not None
        about = judge.Findings(
            image=picture.name,
            pixels_sha256=self.prints.pixels_sha256[row],
            evidence=evidence,
            neighbours=() if failed else sum((answers[row] for answers in self.neighbours), ()),
            limits=self.limits,
            index_snapshot=self.searched[0].backend.header.snapshot,
            at=datetime.now(UTC),
            run_id=self.context.run_id if self.context else None,
            timings=timings,
            run=self.context,
            adapter_snapshots={one.adapter: one.backend.header.snapshot for one in self.searched[1:]},
            frames=picture.stands_for,
        )
        return judge.decide(about, self.by.settings.policy)


def limits_now(limits: Limits, of_index: Limits, said: Limits | None) -> Limits:
    """The limits of a guard with those that people set for single banks, as they are now.

    Args:
        limits: the guard's.
        of_index: those of the index as it is pinned.
        said: those of the settings, which count more than a bank's where they name the signal.
    """
    named = said.model_fields_set if said is not None else set()
    banks = tuple(one for one in of_index.banks if one.field not in named)
    if not banks:
        return limits.model_copy(update={"banks": ()}) if limits.banks else limits
    changes = "+".join(dict.fromkeys(one.change_id[:8] for one in banks))
    return limits.model_copy(update={"banks": banks, "calibration": f"{limits.calibration}, bank limits {changes}"})
