"""The frozen records that cross rooms, in flow order: run, work, neighbour, evidence, verdict, release."""

from guardrail.records.base import VIEWS, Point, Record, Region, View
from guardrail.records.calibration import Background, Calibration, FalseAlarms, FittedLimit, SignalLimits
from guardrail.records.evidence import (
    CheckFailed,
    CopyMatch,
    Evidence,
    ExactMatch,
    GeometryMatch,
    HashMatch,
    MatchEvidence,
    PixelMatch,
    SemanticMatch,
    Unproved,
)
from guardrail.records.index import EmbedderSpec, IndexChange, IndexHeader, Neighbour, Normalisation, Sampling, tiles_of
from guardrail.records.limits import BitsLimit, CountLimit, Decision, Limits, Signal, SimilarityLimit
from guardrail.records.run import Adapter, GenerationContext
from guardrail.records.verdict import Credit, Release, Timings, Verdict, VerifyOutcome, VerifyReport
from guardrail.records.works import Disposition, Work

__all__ = [
    "VIEWS",
    "Adapter",
    "Background",
    "BitsLimit",
    "Calibration",
    "CheckFailed",
    "CopyMatch",
    "CountLimit",
    "Credit",
    "Decision",
    "Disposition",
    "EmbedderSpec",
    "Evidence",
    "ExactMatch",
    "FalseAlarms",
    "FittedLimit",
    "GenerationContext",
    "GeometryMatch",
    "HashMatch",
    "IndexChange",
    "IndexHeader",
    "Limits",
    "MatchEvidence",
    "Neighbour",
    "Normalisation",
    "PixelMatch",
    "Point",
    "Record",
    "Region",
    "Release",
    "Sampling",
    "SemanticMatch",
    "Signal",
    "SignalLimits",
    "SimilarityLimit",
    "Timings",
    "Unproved",
    "Verdict",
    "VerifyOutcome",
    "VerifyReport",
    "View",
    "Work",
    "tiles_of",
]
