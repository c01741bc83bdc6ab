"""Read how a model is run: before the call from pipeline and arguments, after it from what the pipeline kept.

What cannot be read is named in `unread` with the reason; nothing is guessed.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from guardrail.carriers import RunInputs
from guardrail.intake.adapters import STILL_BEING_MADE, read_adapters, remember_fused
from guardrail.intake.calls import BoundCall, bound_call
from guardrail.intake.digests_kept import KeptDigests
from guardrail.intake.generators import generators_of
from guardrail.intake.inputs import inputs_of
from guardrail.intake.model_files import files_of, files_of_part, found_at_last, found_so_far
from guardrail.intake.model_signature import signature_of
from guardrail.intake.weights import DENOISERS, digest_of_module
from guardrail.records import GenerationContext
from guardrail.settings import Settings

__all__ = ["finish_context", "prompt_of", "read_context", "read_run", "remember_weights"]

_PROMPTS = ("prompt", "prompt_2", "prompt_3", "negative_prompt", "negative_prompt_2", "negative_prompt_3")
_PER_PROMPT = ("num_images_per_prompt", "num_videos_per_prompt")
_LIBRARIES = ("diffusers", "torch", "transformers", "peft")
_DIGESTS_FILE = "model-files.json"  # in the settings' home
_SNAPSHOT = re.compile(r"[/\\]snapshots[/\\]([0-9a-f]{40})(?:[/\\]|$)")  # how the hub's cache lays out revisions


def read_context(
    pipe: Any, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> GenerationContext:
    """What is known of a run before it begins, its input pictures among it.

    Args:
        pipe: the pipeline.
        call: its own `__call__`, bound, by whose signature positional arguments are named.
        args: what the caller passed in order.
        kwargs: what the caller passed by name.
    """
    bound = bound_call(pipe, call, args, kwargs)
    return read_run(bound, inputs_of(bound))


def read_run(bound: BoundCall, inputs: RunInputs) -> GenerationContext:
    """The same for a call whose arguments are bound, and whose input pictures were copied already."""
    pipe, said = bound.pipe, bound.said
    unread = [f"arguments: {bound.unbound}"] if bound.unbound else []
    unread += inputs.unread
    config = _config(pipe)
    parts = _parts(pipe)
    prompts = {name: _texts(said[name]) for name in _PROMPTS if said.get(name)}
    generators = generators_of(bound, unread)
    scheduler = getattr(pipe, "scheduler", None)
    return GenerationContext(
        pipeline=getattr(pipe, "__name__", type(pipe).__name__),  # a function has a name of its own
        model_id=str(config.get("_name_or_path") or "") or None,
        model_revision=_revision(config, parts),
        scheduler=type(scheduler).__name__ if scheduler is not None else None,
        scheduler_config_sha256=_config_digest(scheduler),
        weights_sha256=_weights_digest(parts, unread),
        adapters=read_adapters(pipe, parts, said, _all_texts(prompts), unread),
        prompts=prompts,
        guidance_scale=_number(said.get("guidance_scale")),
        steps=int(said["num_inference_steps"]) if isinstance(said.get("num_inference_steps"), int) else None,
        strength=_strength(said, unread),
        seed=generators[0].seed if len(generators) == 1 and not generators[0].is_global else None,
        generators=generators,
        images_per_prompt=next((said[name] for name in _PER_PROMPT if isinstance(said.get(name), int)), None),
        init_image_sha256=next((one.pixels_sha256 for one in inputs.records if one.role == "init"), None),
        inputs=inputs.records,
        versions=dict(_versions()),
        unread=tuple(unread),
    )


def finish_context(context: GenerationContext, pipe: Any, settings: Settings | None = None) -> GenerationContext:
    """The same run, with what is only known afterwards: the steps really taken, and digests made in the meantime.

    With settings, also whether the weights are those in the model's files; and, where the settings ask for the model's
    signature, whether it holds: then this waits until all of that is found out.
    """
    known: dict[str, Any] = _identity(pipe, settings) if settings is not None else {}
    timesteps = getattr(getattr(pipe, "scheduler", None), "timesteps", None)
    if context.steps is None and timesteps is not None:
        known["steps"] = len(timesteps)
    if any(line.endswith(STILL_BEING_MADE) for line in context.unread):
        known |= _late_digests(context, pipe)
    return context.model_copy(update=known) if known else context


def remember_weights(pipe: Any, settings: Settings | None = None) -> None:
    """Look at a pipeline's weights when it is wrapped, so that later changes are noticed and calls need not wait.

    The digest of large weights is begun in the background. Adapters that are fused now are noted with their weights,
    because once they are unloaded nothing knows them any more. With settings, the weights are compared with the files
    that they were loaded from, in the background, too. Never raises.
    """
    parts = _parts(pipe)
    for name, part in parts.items():
        if name in DENOISERS and isinstance(part, torch.nn.Module):
            digest_of_module(part)
            if settings is not None:
                files_of_part(name, part, _digests_kept(settings.home))
    remember_fused(parts)


def prompt_of(context: GenerationContext, image_number: int) -> str | None:
    """The prompt that an image of a run was made from; None where the run had none, or it is not known which.

    Images come in the order of the prompts, each `images_per_prompt` times.

    Args:
        context: the run.
        image_number: the image's place in the output, from 0.
    """
    prompt = context.prompts.get("prompt")
    if prompt is None or isinstance(prompt, str):
        return prompt
    at = image_number // max(1, context.images_per_prompt or 1)
    return prompt[at] if 0 <= at < len(prompt) else None


def _identity(pipe: Any, settings: Settings) -> dict[str, Any]:
    """Whether the weights that ran are those in the model's files, and what its signature is worth."""
    parts = {name: part for name, part in _parts(pipe).items() if name in DENOISERS}
    kept = _digests_kept(settings.home)
    found = [files_of_part(name, part, kept) for name, part in parts.items() if isinstance(part, torch.nn.Module)]
    if settings.model.signature is None:
        return {"model_files": files_of([found_so_far(one) for one in found])}
    waited = [found_at_last(one) for one in found]
    return {"model_files": files_of(waited), "model_signature": signature_of(waited, settings.model)}


@cache
def _digests_kept(home: Path) -> KeptDigests:
    return KeptDigests(home / _DIGESTS_FILE)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_digests_kept.cache_clear)  # its lock may be held by a thread that is gone


def _late_digests(context: GenerationContext, pipe: Any) -> dict[str, Any]:
    """Digests that were still being made when the run began, and `unread` without those that are there now."""
    parts, unread = _parts(pipe), list[str]()
    weights = context.weights_sha256 or _weights_digest(parts, unread)
    again = read_adapters(pipe, parts, {}, _all_texts(context.prompts), unread)
    digests = {(one.name, one.component): one.sha256 for one in again}
    adapters = tuple(
        one if one.sha256 else one.model_copy(update={"sha256": digests.get((one.name, one.component))})
        for one in context.adapters
    )
    waiting = {line for line in unread if line.endswith(STILL_BEING_MADE)}
    kept = tuple(line for line in context.unread if not line.endswith(STILL_BEING_MADE) or line in waiting)
    return {"weights_sha256": weights, "adapters": adapters, "unread": kept}


def _config(pipe: Any) -> Mapping[str, Any]:
    config = getattr(pipe, "config", None)
    return config if isinstance(config, Mapping) else {}


def _parts(pipe: Any) -> dict[str, Any]:
    """A pipeline's components by name; of an object that has no list of them, the models among its attributes."""
    names = [name for name in _config(pipe) if not name.startswith("_")]
    if not names and isinstance(components := getattr(pipe, "components", None), Mapping):
        return dict(components)
    own = getattr(pipe, "__dict__", {})  # an object with slots has none; and configs are attributes of pipelines, too
    held = names or [name for name, value in own.items() if isinstance(value, torch.nn.Module)]
    return {name: part for name in held if (part := own.get(name)) is not None}


def _revision(config: Mapping[str, Any], parts: Mapping[str, Any]) -> str | None:
    """The commit that a model was loaded from, where it came from the hub's cache."""
    places = [config.get("_name_or_path"), *(_config(part).get("_name_or_path") for part in parts.values())]
    found = {match.group(1) for place in places if place and (match := _SNAPSHOT.search(str(place)))}
    return found.pop() if len(found) == 1 else None


def _config_digest(scheduler: Any) -> str | None:
    """Digest of a scheduler's settings, without those that say where they came from."""
    config = {name: value for name, value in _config(scheduler).items() if not name.startswith("_")}
    if not config:
        return None
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()


def _weights_digest(parts: Mapping[str, Any], unread: list[str]) -> str | None:
    """Digest over the denoisers' own weights, without adapters; kept until a weight changes."""
    modules = {name: part for name, part in parts.items() if isinstance(part, torch.nn.Module)}
    denoisers = {name: modules[name] for name in DENOISERS if name in modules} or modules
    if not denoisers:
        unread.append("weights: the pipeline has no part that holds any")
        return None
    made = {name: digest_of_module(module) for name, module in denoisers.items()}
    missing = [f"weights: those of {name}: {why}" for name, one in made.items() if (why := _why_missing(one))]
    unread.extend(missing)
    if missing:
        return None
    if len(made) == 1:
        return next(iter(made.values())).result()
    return hashlib.sha256("".join(f"{name}:{one.result()}\n" for name, one in made.items()).encode()).hexdigest()


def _why_missing(digest: Future[str]) -> str:
    if not digest.done():
        return f"their digest is {STILL_BEING_MADE}"
    return str(error) if (error := digest.exception()) is not None else ""


def _texts(value: Any) -> str | tuple[str, ...]:
    return tuple(str(text) for text in value) if isinstance(value, list | tuple) else str(value)


def _all_texts(prompts: Mapping[str, str | tuple[str, ...]]) -> str:
    return "\n".join(text for one in prompts.values() for text in ([one] if isinstance(one, str) else one))


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _strength(said: Mapping[str, Any], unread: list[str]) -> float | None:
    if said.get("denoising_start") is not None:  # as in SDXL: the strength that was given, or its default, is ignored
        unread.append("strength: denoising_start takes its place")
        return None
    strength = _number(said.get("strength"))
    if strength is None and said.get("strength") is not None:
        unread.append(f"strength: a {type(said['strength']).__name__}")
    return strength


@cache
def _versions() -> tuple[tuple[str, str], ...]:
    return tuple((name, found) for name in _LIBRARIES if (found := _version(name)))


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None
