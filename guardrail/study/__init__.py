"""Slow questions: what a model has memorised, which copies are found, where limits lie; diffusers is its heavy one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guardrail.lazy import lazy_names

if TYPE_CHECKING:
    from guardrail.study.copies import CopyFigures, Looks, measure_copies
    from guardrail.study.edits import EDITS, SUITES, Edit, Suite
    from guardrail.study.optimal_denoiser import OptimalDenoiser, overfitted_pipeline
    from guardrail.study.ranking import micro_average_precision

__all__ = [
    "EDITS",
    "SUITES",
    "CopyFigures",
    "Edit",
    "Looks",
    "OptimalDenoiser",
    "Suite",
    "measure_copies",
    "micro_average_precision",
    "overfitted_pipeline",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "guardrail.study.copies": ("CopyFigures", "Looks", "measure_copies"),
        "guardrail.study.edits": ("EDITS", "SUITES", "Edit", "Suite"),
        "guardrail.study.optimal_denoiser": ("OptimalDenoiser", "overfitted_pipeline"),
        "guardrail.study.ranking": ("micro_average_precision",),
    },
)
