"""What a rescan found, as people and webhooks are told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from guardrail.records import Release, Verdict, Work

__all__ = ["NearOutput", "RescanReport"]

_SHOWN_CASES = 200  # cases that a report names


@dataclass(frozen=True, slots=True)
class NearOutput:
    """A released output that would not be accepted now.

    Attributes:
        release: what left.
        verdict: the new one.
        work: the work that it is nearest to among those that are new.
        is_new: whether a case was opened for it now, and not by an earlier run of the same job.
    """

    release: Release
    verdict: Verdict
    work: Work
    is_new: bool


@dataclass(frozen=True, slots=True)
class RescanReport:
    """What a rescan found.

    Attributes:
        works: how many works were sought.
        missing: works that the index does not hold, or keeps no picture of, as `bank/work_id`.
        outputs: how many outputs were compared.
        by_hash_alone: of them, those whose copy descriptor was made by another embedder.
        near: outputs that would be flagged or blocked now.
        cases: cases whose pictures are within PDQ's flag limit of one of the works.
    """

    works: int
    missing: tuple[str, ...]
    outputs: int
    by_hash_alone: int
    near: tuple[NearOutput, ...]
    cases: tuple[tuple[int, int], ...]

    def document(self) -> dict[str, Any]:
        """As JSON, without paths."""
        return {
            "works": self.works,
            "missing": list(self.missing),
            "by_hash_alone": self.by_hash_alone,
            "near": [_said(one) for one in self.near],
            "cases": [{"case_id": case_id, "distance_bits": bits} for case_id, bits in self.cases[:_SHOWN_CASES]],
            "cases_near": len(self.cases),
        }


def _said(one: NearOutput) -> dict[str, Any]:
    strongest = [
        {"signal": str(near.signal), "similarity": near.similarity, "distance_bits": near.distance_bits}
        for near in one.verdict.nearest
    ]
    return {
        "file": PurePath(one.release.file).name,
        "released_at": one.release.at.isoformat(),
        "manifest_id": one.release.manifest_id,
        "decision": str(one.verdict.decision),
        "rule": one.verdict.rule,
        "explanation": one.verdict.explanation,
        "verdict_id": one.verdict.verdict_id,
        "bank": one.work.bank,
        "work_id": one.work.work_id,
        "title": one.work.title,
        "nearest": strongest,
    }
