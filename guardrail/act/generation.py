"""How a run was made in, what a signed file says of it out: which model, adapters and inputs, and no prompt."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from guardrail.act.naming import hub_name, plain_name
from guardrail.act.prompts import PROMPT_ALGORITHM, load_prompt_key, prompt_digests
from guardrail.records import Adapter, AdapterKind, GenerationContext, InputRole, Verdict
from guardrail.records.base import Record, Sha256

if TYPE_CHECKING:
    from collections.abc import Mapping

    from guardrail.settings import Settings

__all__ = [
    "GENERATION_LABEL",
    "AdapterStatement",
    "GenerationStatement",
    "ModelStatement",
    "PromptStatement",
    "generation_assertion",
]

GENERATION_LABEL = "org.guardrail.generation"
_CLASS_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_FIRST_WORD = re.compile(r"[a-z_]+")
_ITEM = re.compile(r"\w+\[(\d+)\]")  # how pictures of an output are called: `images[3]`, `frames[0][12]`
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_MOST_ADAPTERS = 32  # more cost kilobytes in every file


class ModelStatement(Record):
    """The model: its name on a hub, revision, and digests; `weights` says whether what ran is what is in the files."""

    name: str | None = None
    revision: str | None = None
    weights_sha256: Sha256 | None = None
    files_sha256: tuple[Sha256, ...] = ()
    weights: Literal["as_in_files", "modified", "unknown"] = "unknown"
    signature: Literal["verified", "failed", "not_asked"] = "not_asked"
    signed_by: str | None = None


class AdapterStatement(Record):
    """An adapter that was on: its digest, weight, and its name where that is no path and no word of the prompt."""

    kind: AdapterKind
    name: str | None = None
    sha256: Sha256 | None = None
    weight: float | None = None
    fused: bool = False


class PromptStatement(Record):
    """Keyed digests of the prompts, by field, bound to the verdict under which the image left; see `prompt_digest`."""

    algorithm: Literal["HMAC-SHA256"] = PROMPT_ALGORITHM
    bound_to: str
    digests: dict[str, tuple[Sha256, ...]]


class GenerationStatement(Record):
    """What a signed file says of the run: `org.guardrail.generation`.

    Never in it: prompts, paths, names of files or people, and the seed, with which a guessed prompt could be confirmed.
    `inputs` counts the pictures that were given, by role. `unread` names the parts of the run that could not be read,
    without saying what was found there. `scheduler`, `steps` and `guidance_scale` are left out at detail `summary`.
    """

    schema_version: Literal[1] = 1
    pipeline: str | None = None
    model: ModelStatement
    adapters: tuple[AdapterStatement, ...] = ()
    inputs: dict[InputRole, int] = Field(default_factory=dict)
    strength: float | None = None
    scheduler: str | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    prompts: PromptStatement | None = None
    unread: tuple[str, ...] = ()


def generation_assertion(verdict: Verdict, context: GenerationContext, settings: Settings) -> dict[str, Any]:
    """What a signed file says of the run that made it, JSON-ready; empty fields are left out.

    Args:
        verdict: under which it leaves.
        context: how the model was run.
        settings: `provenance` says how much is told (at `none`, nothing but the caller's own rule), and whether prompts
            are digested; the key is made where there is none.

    Raises:
        PromptKeyUnusable: the key of prompt digests cannot be used.
    """
    full = settings.provenance.detail == "full"
    said = GenerationStatement(
        pipeline=_matching(_CLASS_NAME, context.pipeline),
        model=_model(context, settings),
        adapters=tuple(_adapter(one) for one in context.adapters[:_MOST_ADAPTERS]),
        inputs=dict(Counter(one.role for one in context.inputs)),
        strength=context.strength,
        scheduler=_matching(_CLASS_NAME, context.scheduler) if full else None,
        steps=context.steps if full else None,
        guidance_scale=context.guidance_scale if full else None,
        prompts=_prompts(verdict, context, settings),
        unread=_unread(context),
    )
    return _without_empty(said.model_dump(mode="json", exclude_none=True))


def _model(context: GenerationContext, settings: Settings) -> ModelStatement:
    files, signature = context.model_files, context.model_signature
    verified = signature is not None and signature.outcome == "verified"
    return ModelStatement(
        name=settings.provenance.model_name or hub_name(context) or None,
        revision=_matching(_COMMIT, context.model_revision),
        weights_sha256=context.weights_sha256,
        files_sha256=files.sha256 if files is not None and files.state == "as_in_files" else (),
        weights=files.state if files is not None else "unknown",
        signature=signature.outcome if signature is not None else "not_asked",
        signed_by=signature.signed_by if signature is not None and verified else None,
    )


def _adapter(adapter: Adapter) -> AdapterStatement:
    return AdapterStatement(
        kind=adapter.kind,
        name=plain_name(adapter) or None,
        sha256=adapter.sha256,
        weight=adapter.weight,
        fused=adapter.fused,
    )


def _prompts(verdict: Verdict, context: GenerationContext, settings: Settings) -> PromptStatement | None:
    own = _own_prompts(context, verdict.image)
    if not settings.provenance.prompt_digest or not own:
        return None
    digests = prompt_digests(load_prompt_key(settings.prompt_key), verdict.verdict_id, own)
    return PromptStatement(bound_to=verdict.verdict_id, digests={field: tuple(some) for field, some in digests.items()})


def _own_prompts(context: GenerationContext, image: str) -> Mapping[str, str | tuple[str, ...]]:
    """The prompts of one image of a run; all of the call's where it is not known which one was for it."""
    item = _ITEM.match(image)
    if item is None:
        return context.prompts
    at = int(item[1]) // max(1, context.images_per_prompt or 1)
    return {
        field: said if isinstance(said, str) or at >= len(said) else said[at] for field, said in context.prompts.items()
    }


def _unread(context: GenerationContext) -> tuple[str, ...]:
    """Which parts could not be read, by their first word alone: what follows may quote a name or a path."""
    words = (_FIRST_WORD.match(line.partition(":")[0]) for line in context.unread)
    return tuple(sorted({word[0] for word in words if word}))


def _matching(pattern: re.Pattern[str], name: str | None) -> str | None:
    return name if name is not None and pattern.fullmatch(name) else None


def _without_empty(said: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _without_empty(value) if isinstance(value, dict) else value
        for name, value in said.items()
        if value not in ([], {})
    }
