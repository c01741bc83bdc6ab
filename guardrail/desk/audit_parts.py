"""The further parts of an audit, by name: attacks that are made only when a person asks for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from guardrail.desk.audit_subject import load_pipeline, read_output
from guardrail.errors import AuditImpossible, SettingsInvalid
from guardrail.records import PrivacyClaim, PrivacyStatement
from guardrail.study.audit import AuditPart, DenoiserAccess, Subject, access_to
from guardrail.study.audit.attacking import Attacks, attacks_on
from guardrail.study.audit.attacks import Inpainting
from guardrail.study.audit.membership import Membership
from guardrail.study.audit.privacy import PrivacyBound
from guardrail.study.audit.shadows import ShadowModels, read_shadow
from guardrail.study.audit.sweeps import AdapterSweep, StrengthSweep, has_adapter

__all__ = ["FURTHER", "Given", "further_parts", "parts_left_out", "require_parts"]

FURTHER: dict[str, Callable[[], AuditPart]] = {
    "membership": Membership,
    "inpainting": lambda: Inpainting(read_output),
    "strength": lambda: StrengthSweep(read_output),
    "adapter": lambda: AdapterSweep(read_output),
}
"""By name, what makes each part that needs nothing but the subject; `shadows` and `privacy` need what is `Given`."""
_NAMES = (*FURTHER, "shadows", "privacy")


@dataclass(frozen=True, slots=True)
class Given:
    """What a person gave for further parts.

    Attributes:
        names: of parts; `all`: those that apply to the model.
        shadows: folders of models that were trained with and without its pictures.
        claim: of differential privacy, to be put to the test.
    """

    names: tuple[str, ...] = ()
    shadows: tuple[Path, ...] = ()
    claim: PrivacyClaim | None = None


def require_parts(given: Given) -> None:
    """Require that every name is that of a part, and what it needs is given, before any work is done.

    Raises:
        SettingsInvalid: there is no part of that name, or no shadow model for the part `shadows`.
    """
    unknown = [name for name in given.names if name not in _NAMES and name != "all"]
    if unknown:
        raise SettingsInvalid("--part", f"found {unknown[0]!r}, expected all, or some of {', '.join(_NAMES)}")
    if "shadows" in given.names and not given.shadows:
        raise SettingsInvalid("--part", "found shadows and no shadow model, expected --shadow FOLDER for each of them")


def further_parts(given: Given, subject: Subject) -> tuple[AuditPart, ...]:
    """The parts that were asked for, each once; shadows and a claim ask for their own.

    Raises:
        AuditImpossible: a shadow cannot be loaded.
    """
    shadows = tuple(read_shadow(folder, lambda path: _denoiser(path, subject.device)) for folder in given.shadows)
    found: dict[str, AuditPart] = {}
    if "all" in given.names:
        works = subject.training if has_adapter(subject.pipeline) else None
        found |= {part.name: part for part in attacks_on(subject, Attacks(read=read_output, adapter_works=works))}
    found |= {name: make() for name, make in FURTHER.items() if name in given.names}
    if shadows:
        found["shadows"] = ShadowModels(shadows)
    if _is_claimed(given, subject):
        found["privacy"] = PrivacyBound(given.claim)
    return tuple(found.values())


def parts_left_out(given: Given, subject: Subject, parts: Sequence[AuditPart]) -> tuple[str, ...]:
    """Where all parts were asked for, those that do not apply to the subject, each with the reason."""
    if "all" not in given.names:
        return ()
    asked = {part.name for part in parts}
    compares = "its network cannot be asked" if len(subject.held_out) else "there are no held-out pictures"
    why = {"adapter": "it has no adapter", "shadows": "no shadow model is given", "privacy": "nothing is claimed"}
    return tuple(f"{name}: {why.get(name, compares)}" for name in _NAMES if name not in asked)


def _is_claimed(given: Given, subject: Subject) -> bool:
    """Whether a claim is to be put to the test: one that was said, or, with all parts, one beside the weights."""
    if given.claim is not None or "privacy" in given.names:
        return True
    return "all" in given.names and (Path(subject.name) / PrivacyStatement.FILE).is_file()


def _denoiser(folder: Path, device: str) -> DenoiserAccess:
    found = access_to(load_pipeline(str(folder), device), device)
    if found is None:
        raise AuditImpossible(
            str(folder), "a pipeline whose network cannot be asked", "one of the model's own kind", "leave it out"
        )
    return found
