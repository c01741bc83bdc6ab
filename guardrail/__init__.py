"""A guard around diffusion pipelines: finds near-copies of protected works, judges them, signs what it accepts."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from guardrail.errors import GuardrailError, ImageBlocked
    from guardrail.guard import Guard
    from guardrail.hookspecs import hookimpl
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
]

__version__ = "0.1.0"

_HOMES = {
    "guardrail.errors": ("GuardrailError", "ImageBlocked"),
    "guardrail.guard": ("Guard",),
    "guardrail.hookspecs": ("hookimpl",),
    "guardrail.records": ("CheckFailed", "Decision", "Disposition", "GenerationContext", "Release", "Verdict", "Work"),
    "guardrail.settings": ("Policy", "Rule", "Settings"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Load a public name when it is first used, so that `import guardrail` stays light."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'guardrail' has no attribute {name!r}; see guardrail.__all__")
    found: object = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
