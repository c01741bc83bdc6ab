"""A model and its training pictures in, what it memorised of them out; diffusers is its heavy one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guardrail.lazy import lazy_names

if TYPE_CHECKING:
    from guardrail.study.audit.asks import AuditPart, Budget, Cost, DenoiserAccess, Generations, PictureSet, Subject
    from guardrail.study.audit.auditing import Audit, run_audit
    from guardrail.study.audit.denoisers import access_to, side_of
    from guardrail.study.audit.extraction import Extraction
    from guardrail.study.audit.keeping import Keeping
    from guardrail.study.audit.making import Maker, asked_with
    from guardrail.study.audit.plan import Plan, ordered_captions, ordered_labels
    from guardrail.study.audit.repetition import Repetition

__all__ = [
    "Audit",
    "AuditPart",
    "Budget",
    "Cost",
    "DenoiserAccess",
    "Extraction",
    "Generations",
    "Keeping",
    "Maker",
    "PictureSet",
    "Plan",
    "Repetition",
    "Subject",
    "access_to",
    "asked_with",
    "ordered_captions",
    "ordered_labels",
    "run_audit",
    "side_of",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "guardrail.study.audit.asks": (
            "AuditPart",
            "Budget",
            "Cost",
            "DenoiserAccess",
            "Generations",
            "PictureSet",
            "Subject",
        ),
        "guardrail.study.audit.auditing": ("Audit", "run_audit"),
        "guardrail.study.audit.denoisers": ("access_to", "side_of"),
        "guardrail.study.audit.extraction": ("Extraction",),
        "guardrail.study.audit.keeping": ("Keeping",),
        "guardrail.study.audit.making": ("Maker", "asked_with"),
        "guardrail.study.audit.plan": ("Plan", "ordered_captions", "ordered_labels"),
        "guardrail.study.audit.repetition": ("Repetition",),
    },
)
