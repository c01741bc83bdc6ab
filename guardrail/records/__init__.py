"""The frozen records that cross rooms, in flow order: run, work, neighbour, evidence, verdict, release."""

from guardrail.records.base import VIEWS, Record, Region, View
from guardrail.records.evidence import (
    CheckFailed,
    CopyMatch,
    Evidence,
    ExactMatch,
    HashMatch,
    MatchEvidence,
    PixelMatch,
    SemanticMatch,
)
from guardrail.records.index import EmbedderSpec, IndexHeader, Neighbour, Sampling
from guardrail.records.limits import BitsLimit, Decision, Limits, Signal, SimilarityLimit
from guardrail.records.run import Adapter, GenerationContext
from guardrail.records.verdict import Credit, Release, Timings, Verdict, VerifyOutcome, VerifyReport
from guardrail.records.works import Disposition, Work

__all__ = [
    "VIEWS",
    "Adapter",
    "BitsLimit",
    "CheckFailed",
    "CopyMatch",
    "Credit",
    "Decision",
    "Disposition",
    "EmbedderSpec",
    "Evidence",
    "ExactMatch",
    "GenerationContext",
    "HashMatch",
    "IndexHeader",
    "Limits",
    "MatchEvidence",
    "Neighbour",
    "PixelMatch",
    "Record",
    "Region",
    "Release",
    "Sampling",
    "SemanticMatch",
    "Signal",
    "SimilarityLimit",
    "Timings",
    "Verdict",
    "VerifyOutcome",
    "VerifyReport",
    "View",
    "Work",
]
