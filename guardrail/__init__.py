"""A guard around diffusion pipelines: finds near-copies of protected works, judges them, signs what it accepts."""

from typing import TYPE_CHECKING

from guardrail.lazy import lazy_names

if TYPE_CHECKING:
    from guardrail.errors import GuardrailError, ImageBlocked
    from guardrail.guard import Guard
    from guardrail.hookspecs import hookimpl
    from guardrail.intake import open_input
    from guardrail.records import CheckFailed, Decision, Disposition, GenerationContext, Release, Verdict, Work
    from guardrail.settings import Policy, Rule, Settings

__all__ = [
    "CheckFailed",
    "Decision",
    "Disposition",
    "GenerationContext",
    "Guard",
    "GuardrailError",
    "ImageBlocked",
    "Policy",
    "Release",
    "Rule",
    "Settings",
    "Verdict",
    "Work",
    "__version__",
    "hookimpl",
    "open_input",
]

__version__ = "0.1.0"

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "guardrail.errors": ("GuardrailError", "ImageBlocked"),
        "guardrail.guard": ("Guard",),
        "guardrail.hookspecs": ("hookimpl",),
        "guardrail.intake": ("open_input",),
        "guardrail.records": (
            "CheckFailed",
            "Decision",
            "Disposition",
            "GenerationContext",
            "Release",
            "Verdict",
            "Work",
        ),
        "guardrail.settings": ("Policy", "Rule", "Settings"),
    },
)
