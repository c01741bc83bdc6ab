"""How the model was run, in words: what was read of the run, what was not, and what that says about the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from guardrail.records import Decision, InputMatch, MemorisationSign, SignUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from guardrail.records import Adapter, GenerationContext, RemedyTried, Verdict

__all__ = ["AdapterView", "Fact", "RunView", "SignView", "run_view"]

_UNKNOWN = "not known"
_KINDS = {
    "lora": "LoRA",
    "ip_adapter": "IP-Adapter",
    "textual_inversion": "textual inversion",
    "controlnet": "ControlNet",
}
_STRENGTHS = ((0.35, "most of the input picture is kept"), (0.7, "the input picture shapes the outcome"))  # of 1
_UNREAD = {  # what is named where it could not be read
    "model_id": "model",
    "model_revision": "revision",
    "weights_sha256": "weights",
    "scheduler": "scheduler",
    "guidance_scale": "guidance",
    "steps": "steps",
    "seed": "seed",
    "strength": "strength",
}
_REMEDIES = {
    "fresh_seed": "another seed",
    "delayed_guidance": "the prompt followed later",
    "prompt_noise": "noise on the prompt",
    "random_token": "a random word in the prompt",
    "away_from_work": "steering away from the work",
    "any": "any remedy",
}


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of a table: what it is about, and what is said; `alarming` where a reviewer should look twice."""

    label: str
    text: str
    alarming: bool = False

    def __str__(self) -> str:
        return f"{self.label}: {self.text}"


@dataclass(frozen=True, slots=True)
class AdapterView:
    """An adapter that was on: its name and kind, and in words its weight, its digest and what is known of it."""

    name: str
    kind: str
    weight: str
    sha256: str
    known: str
    trained_on: str
    alarming: bool = False

    @property
    def text(self) -> str:
        """All of it in one line."""
        return f"{self.name}: {self.kind}, weight {self.weight}, {self.known}; trained on: {self.trained_on}"


@dataclass(frozen=True, slots=True)
class SignView:
    """A sign of memorisation: what it measured, its limits, what it reaches (`unavailable`: it was not measured)."""

    sign: str
    value_text: str
    limits_text: str
    reaches: str
    text: str


@dataclass(frozen=True, slots=True)
class RunView:
    """How the model was run. `prompts` are personal data: show them to reviewers, and hand them out on purpose only."""

    facts: tuple[Fact, ...]
    adapters: tuple[AdapterView, ...]
    signs: tuple[SignView, ...]
    inputs: tuple[Fact, ...]
    remedies: tuple[str, ...]
    unread: tuple[str, ...]
    prompts: tuple[Fact, ...]


def run_view(
    verdict: Verdict, context: GenerationContext | None, remedies: Sequence[RemedyTried] = ()
) -> RunView | None:
    """How the model was run; None where nothing at all is known of a run, as of a file that was checked."""
    signs = tuple(_signs(verdict))
    repeats = [found for found in verdict.evidence if isinstance(found, InputMatch)]
    if context is None:
        if not signs and not repeats and verdict.run_id is None:
            return None
        return RunView(
            (Fact("run", _UNKNOWN),), (), signs, tuple(map(_repeated, repeats)), tuple(map(_remedy, remedies)), (), ()
        )
    return RunView(
        facts=tuple(_facts(context)),
        adapters=tuple(_adapter(one) for one in context.adapters),
        signs=signs,
        inputs=tuple(_inputs(verdict, context, repeats)),
        remedies=tuple(map(_remedy, remedies)),
        unread=context.unread,
        prompts=tuple(_prompts(context)),
    )


def _facts(context: GenerationContext) -> Iterator[Fact]:
    yield Fact("made on", f"{context.at:%Y-%m-%d %H:%M} UTC")
    yield Fact("pipeline", context.pipeline)
    revision = f", revision {context.model_revision}" if context.model_revision else ""
    yield Fact("model", f"{_said(context, 'model_id', context.model_id)}{revision}")
    yield Fact("weights, sha256", _said(context, "weights_sha256", context.weights_sha256))
    if context.model_files is not None:
        words = {
            "as_in_files": "as in the files that they were loaded from",
            "modified": "not in any of the files beside them: changed since, as after fusing or training",
            "unknown": f"could not be compared with files: {context.model_files.reason}",
        }
        yield Fact("weights that ran", words[context.model_files.state], context.model_files.state != "as_in_files")
    if context.model_signature is not None:
        signed = context.model_signature
        good = signed.outcome == "verified"
        yield Fact(
            "model's signature", f"signed by {signed.signed_by}" if good else f"failed: {signed.reason}", not good
        )
    yield Fact("scheduler", _said(context, "scheduler", context.scheduler))
    yield Fact("steps", _said(context, "steps", context.steps))
    yield Fact("guidance", _said(context, "guidance_scale", context.guidance_scale))
    yield Fact("seed", _said(context, "seed", context.seed))
    yield Fact("strength", _strength(context))
    if context.versions:
        yield Fact("versions", ", ".join(f"{name} {version}" for name, version in sorted(context.versions.items())))


def _said(context: GenerationContext, field: str, value: object) -> str:
    if value is not None:
        return str(value)
    return "could not be read" if context.is_unread(field) else f"{_UNKNOWN}, or this pipeline has none"


def _strength(context: GenerationContext) -> str:
    """How much of an input picture was made anew, and what that means."""
    if context.strength is None:
        return "could not be read" if context.is_unread("strength") else "none: the image was not started from another"
    meaning = next(
        (words for most, words in _STRENGTHS if context.strength <= most), "little of the input picture is kept"
    )
    return f"{context.strength:g} of 1: {meaning}"


def _adapter(one: Adapter) -> AdapterView:
    if one.doubted:
        known = f"only bears the name {one.known_as or one.name!r}: its weights are not the ones that the settings name"
    elif one.known_as is not None:
        known = f"known to the settings as {one.known_as!r}"
    else:
        known = "not known to the settings"
    fused = ", added into the weights" if one.fused else ""
    return AdapterView(
        name=one.name,
        kind=_KINDS[one.kind] + (f" on {one.component}" if one.component else ""),
        weight=(_UNKNOWN if one.weight is None else f"{one.weight:g}") + fused,
        sha256=one.sha256 or "could not be read",
        known=known,
        trained_on=_UNKNOWN if one.trained_on is None else f"{one.trained_on} images",
        alarming=one.doubted or one.sha256 is None,
    )


def _signs(verdict: Verdict) -> Iterator[SignView]:
    for found in verdict.evidence:
        if isinstance(found, SignUnavailable):
            yield SignView(found.sign, "not measured", "", "unavailable", found.reason)
        elif isinstance(found, MemorisationSign):
            yield _sign(found)


def _sign(found: MemorisationSign) -> SignView:
    value = f"{found.value:.4g} {found.unit}".rstrip()
    limits = [
        f"{name} {limit:.4g}"
        for name, limit in (("flag", found.flag_above), ("block", found.block_above))
        if limit is not None
    ]
    when = f"after step {found.step}" if found.step is not None else "over the whole run"
    meaning = {
        Decision.ACCEPT: "no sign of memorisation"
        if limits
        else "no limit was fitted to this pipeline, so it says nothing",
        Decision.FLAG: "as high as runs seldom are that repeat nothing",
        Decision.BLOCK: "as high as runs hardly ever are that repeat nothing",
    }[found.reaches]
    near = f"; nearest then: {found.work.title or found.work.work_id}" if found.work is not None else ""
    done = "" if found.action == "recorded" else f"; {found.action.replace('_', ' ')}"
    return SignView(
        sign=found.sign.replace("_", " "),
        value_text=value,
        limits_text=", ".join(limits) + (f" (calibration {found.calibration[:12]})" if limits else found.calibration),
        reaches=str(found.reaches),
        text=f"{when}: {meaning}{near}{done}",
    )


def _inputs(verdict: Verdict, context: GenerationContext, repeats: Sequence[InputMatch]) -> Iterator[Fact]:
    for one in context.inputs:
        digest = f"pixels sha256 {one.pixels_sha256[:16]}..." if one.pixels_sha256 else "it could not be read"
        yield Fact(f"{one.name} ({one.role.replace('_', '-')})", digest)
    yield from map(_repeated, repeats)
    if verdict.input_repeated is not None:
        text = (
            f"the image repeats the user's own {verdict.input_repeated!r}, which is itself near the work: "
            "the model need not have memorised it"
        )
        yield Fact("where it comes from", text, alarming=True)
    elif context.inputs and not repeats:
        yield Fact(
            "where it comes from", "the image does not repeat what the user gave to the model, as far as was measured"
        )


def _repeated(found: InputMatch) -> Fact:
    if found.distance_bits is not None:
        measured = f"{found.distance_bits} bits by {found.signal}"
    elif found.similarity is not None:
        measured = f"similarity {found.similarity:.3f} by {found.signal}"
    else:
        measured = "the same pixels"
    works = ", ".join(work.title or work.work_id for work in found.works)
    return Fact(
        f"repeats {found.input}", measured + (f"; that picture is itself near {works}" if works else ""), alarming=True
    )


def _remedy(one: RemedyTried) -> str:
    name = _REMEDIES[one.remedy]
    if one.unfit is not None:
        return f"{name}: did not fit, {one.unfit}"
    if one.failed is not None:
        return f"{name}: tried, and the outcome could not be judged: {one.failed}"
    return f"{name}: tried, then {', '.join(map(str, one.after)) or _UNKNOWN}" + (
        f" ({one.changed})" if one.changed else ""
    )


def _prompts(context: GenerationContext) -> Iterator[Fact]:
    for name, said in sorted(context.prompts.items()):
        yield Fact(name.replace("_", " "), said if isinstance(said, str) else " | ".join(said))
