"""A pipeline's parts in, the adapters that are on out: read from the layers, since pipelines' own lists forget some."""

from __future__ import annotations

import re
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch

from guardrail.intake.weights import (
    DENOISERS,
    digest_of_adapter,
    digest_of_module,
    forget_adapters,
    has_changed_since_first,
    kept_weights,
)
from guardrail.records import Adapter

__all__ = ["STILL_BEING_MADE", "read_adapters", "remember_fused"]

STILL_BEING_MADE = "still being made"  # what `unread` says of a digest that a later look may find
_SCALING_ARGUMENTS = ("cross_attention_kwargs", "joint_attention_kwargs", "attention_kwargs")
_CONTROLS = {"controlnet": "controlnet_conditioning_scale", "adapter": "adapter_conditioning_scale"}
_LOOKED_AT_LAYERS = 64  # adapter layers whose switches are compared at a call, twice: an eighth of a millisecond
_WEIGHT_DIGITS = 6  # of weights: scaling over (alpha / rank) has the rounding of two divisions


class _Laid(NamedTuple):
    """One adapter in the layers of one part: its weight (None: it differs), whether it is fused, and its tensors."""

    weight: float | None
    fused: bool


@dataclass(eq=False, slots=True)
class _Layers:
    """The adapter layers of a model, kept while its adapters are the same ones, and what was read of them last."""

    configs: tuple[tuple[str, weakref.ref[Any]], ...]
    layers: list[Any]
    state: list[tuple[Any, ...]] = field(default_factory=list)
    turn: int = 0
    laid: dict[str, _Laid] = field(default_factory=dict)
    tensors: dict[str, list[torch.Tensor]] = field(default_factory=dict)

    def looked_at(self) -> Iterator[int]:
        """Which layers to look at: some spread over the model, and those whose turn it is; all of a few."""
        count = len(self.layers)
        yield from range(0, count, max(1, count // _LOOKED_AT_LAYERS))
        if count > _LOOKED_AT_LAYERS:
            start = self.turn * _LOOKED_AT_LAYERS % count
            yield from range(start, min(count, start + _LOOKED_AT_LAYERS))


@dataclass(eq=False, slots=True)
class _Fused:
    """Adapters that were seen fused into a model, and the weights as they were then."""

    adapters: dict[str, Adapter]
    sample: bytes


_layers: weakref.WeakKeyDictionary[torch.nn.Module, _Layers] = weakref.WeakKeyDictionary()
_fused: weakref.WeakKeyDictionary[torch.nn.Module, _Fused] = weakref.WeakKeyDictionary()
_ip_layers: weakref.WeakKeyDictionary[torch.nn.Module, tuple[weakref.ref[Any], list[Any]]] = weakref.WeakKeyDictionary()


def read_adapters(
    pipe: Any, parts: Mapping[str, Any], said: Mapping[str, Any], texts: str, unread: list[str]
) -> tuple[Adapter, ...]:
    """The adapters that are on in a call: LoRAs (fused ones too), IP-Adapters, textual inversions and ControlNets.

    Args:
        pipe: the pipeline.
        parts: its components by name.
        said: the call's arguments by name; some scale adapters.
        texts: all prompts, in which tokens of textual inversions are looked for.
        unread: gets a line for whatever cannot be read.

    Returns:
        One for each adapter and part it lies over. Adapters that are disabled, or have weight 0, are not on.
    """
    modules = {name: part for name, part in parts.items() if isinstance(part, torch.nn.Module)}
    found = [
        *_loras(pipe, modules, _call_scale(said), unread),
        *_ip_adapters(modules, unread),
        *_controls(modules, said, unread),
        *_inversions(parts, texts, unread),
    ]
    return tuple(sorted(found, key=lambda one: (one.kind, one.name, one.component or "")))


def remember_fused(parts: Mapping[str, Any]) -> None:
    """Note which adapters are fused into the parts of a pipeline now: once unloaded, nothing else knows them."""
    modules = {name: part for name, part in parts.items() if isinstance(part, torch.nn.Module)}
    list(_loras(None, modules, 1.0, []))


# --- LoRA and its kin -------------------------------------------------------------------------------------------


def _loras(pipe: Any, modules: Mapping[str, torch.nn.Module], scale: float, unread: list[str]) -> Iterator[Adapter]:
    layers = {part: held for part, module in modules.items() if (held := _lora_layers(module)) is not None}
    digests = _lora_digests(modules, layers, unread)
    known = set()
    for part, module in modules.items():
        laid = layers[part].laid if part in layers else {}
        loaded = {name for name, _ in layers[part].configs} if part in layers else set()
        for adapter in _note_fused(part, module, laid, digests, loaded):
            known.add(adapter.name)
            yield adapter
        for name, one in laid.items():
            if not one.fused and one.weight != 0:
                if one.weight is None:
                    unread.append(f"adapter weights: those of {name!r} differ between the layers of {part}")
                weight = None if one.weight is None else round(one.weight * scale, _WEIGHT_DIGITS)
                yield Adapter(name=name, weight=weight, sha256=digests[name], component=part)
    yield from _forgotten(pipe, modules, known, unread)


def _lora_digests(
    modules: Mapping[str, torch.nn.Module], layers: Mapping[str, _Layers], unread: list[str]
) -> dict[str, str | None]:
    """The sha256 of each adapter that is on, over all parts of the pipeline that it was loaded into."""
    digests: dict[str, str | None] = {}
    for name in sorted({name for one in layers.values() for name in one.laid}):
        where = [part for part, one in layers.items() if one.tensors.get(name)]
        source = tuple(layers[part] for part in where)
        made = digest_of_adapter(modules[where[0]], f"lora {name}", source, partial(_over_all, source, name))
        digests[name] = _digest(f"adapter {name!r}", made, unread)
    return digests


def _over_all(layers: tuple[_Layers, ...], name: str) -> list[torch.Tensor]:
    return [tensor for one in layers for tensor in one.tensors[name]]


def _forgotten(
    pipe: Any, modules: Mapping[str, torch.nn.Module], known: set[str], unread: list[str]
) -> Iterator[Adapter]:
    """Fused adapters of which the pipeline kept the name alone; and weights that nothing with a name has changed."""
    names = sorted(set(getattr(pipe, "fused_loras", None) or ()) - known)
    for name in names:
        unread.append(f"fused adapters: weight and sha256 of {name!r}, which was unloaded before anybody looked")
        yield Adapter(name=name, fused=True)
    if names or known:
        return
    for part, module in modules.items():
        if part in DENOISERS and has_changed_since_first(module):
            unread.append(
                f"adapters: the weights of {part} changed since they were first seen, and nothing says by what"
            )


def _lora_layers(module: torch.nn.Module) -> _Layers | None:
    """What each adapter in a model's layers does, and its tensors; walked anew only when adapters come or go."""
    peft_config: Any = getattr(module, "peft_config", None)
    if not peft_config:
        _layers.pop(module, None)
        forget_adapters(module, "lora ", ())
        return None
    kept = _layers.get(module)
    same = kept is not None and [name for name, _ in kept.configs] == list(peft_config)
    if kept is None or not same or any(config() is not peft_config[name] for name, config in kept.configs):
        layers = [one for one in module.modules() if hasattr(one, "adapter_layer_names") and hasattr(one, "base_layer")]
        kept = _Layers(tuple((name, weakref.ref(config)) for name, config in peft_config.items()), layers)
        kept.tensors = {name: [tensor for one in layers for tensor in _tensors_of(one, name)] for name in peft_config}
        _layers[module] = kept
        forget_adapters(module, "lora ", {f"lora {name}" for name in peft_config})
    kept.turn += 1
    if not kept.state or any(_state_of(kept.layers[at]) != kept.state[at] for at in kept.looked_at()):
        kept.state, kept.laid = [_state_of(one) for one in kept.layers], _laid(kept.layers)
    return kept


def _state_of(layer: Any) -> tuple[Any, ...]:
    """All that says which adapters of a layer are on and how much."""
    scaling: Mapping[str, float] = getattr(layer, "scaling", {})
    return layer._disable_adapters, tuple(layer.active_adapters), tuple(layer.merged_adapters), tuple(scaling.items())


def _laid(layers: list[Any]) -> dict[str, _Laid]:
    weights: defaultdict[str, set[float | None]] = defaultdict(set)
    fused: set[str] = set()
    for layer in layers:
        if layer.disable_adapters:
            continue
        for name in {*layer.active_adapters, *layer.merged_adapters}:
            if any(True for _ in _tensors_of(layer, name)):
                weights[name].add(_weight_of(layer, name))
        fused.update(layer.merged_adapters)
    return {
        name: _Laid(next(iter(some)) if len(some) == 1 else None, name in fused)
        for name, some in sorted(weights.items())
    }


def _weight_of(layer: Any, name: str) -> float | None:
    """An adapter's weight in one layer: its scaling over the trained one (alpha / rank, or over its square root)."""
    rank, alpha = getattr(layer, "r", {}).get(name), getattr(layer, "lora_alpha", {}).get(name)
    scaling: float | None = getattr(layer, "scaling", {}).get(name)
    if not rank or not alpha or scaling is None:
        return None
    trained: float = alpha / rank**0.5 if getattr(layer, "use_rslora", {}).get(name) else alpha / rank
    return round(float(scaling) / trained, _WEIGHT_DIGITS)


def _tensors_of(layer: Any, name: str) -> Iterator[torch.Tensor]:
    """An adapter's own tensors in one layer."""
    for attribute in layer.adapter_layer_names:
        held = getattr(layer, attribute, None)
        if held is None or name not in held:
            continue
        one = held[name]
        yield from one.parameters() if isinstance(one, torch.nn.Module) else (one,)


def _note_fused(
    part: str, module: torch.nn.Module, laid: Mapping[str, _Laid], digests: Mapping[str, str | None], loaded: set[str]
) -> tuple[Adapter, ...]:
    """The adapters fused into a model: those seen now, and those seen before that nobody took out since."""
    now = {
        name: Adapter(name=name, weight=one.weight, sha256=digests.get(name), component=part, fused=True)
        for name, one in laid.items()
        if one.fused
    }
    before = _fused.get(module)
    if before is None and not now:
        return ()
    kept = kept_weights(module)
    sample = kept.sample()
    earlier = dict(before.adapters) if before else {}
    if before and before.sample != sample and not now:  # the weights are others: unfused, or loaded anew
        kept.first_sample = sample
        del _fused[module]
        return ()
    for name in set(earlier) & loaded - set(now):
        del earlier[name]
    for name, one in earlier.items():
        if name in now and now[name].sha256 is None:
            now[name] = now[name].model_copy(update={"sha256": one.sha256})
    _fused[module] = _Fused({**earlier, **now}, sample)
    return tuple(_fused[module].adapters.values())


def _call_scale(said: Mapping[str, Any]) -> float:
    """By what a call scales every LoRA: the `scale` that it passes on to attention layers."""
    for name in _SCALING_ARGUMENTS:
        passed = said.get(name)
        scale = passed.get("scale") if isinstance(passed, Mapping) else None
        if isinstance(scale, int | float):
            return float(scale)
    return 1.0


# --- IP-Adapters, ControlNets, textual inversions ---------------------------------------------------------------


def _ip_adapters(modules: Mapping[str, torch.nn.Module], unread: list[str]) -> Iterator[Adapter]:
    for part, module in modules.items():
        projection = getattr(module, "encoder_hid_proj", None) or getattr(module, "image_proj", None)
        if not isinstance(projection, torch.nn.Module):
            _ip_layers.pop(module, None)
            forget_adapters(module, "ip_adapter", ())
            continue
        projections = list(getattr(projection, "image_projection_layers", (projection,)))
        processors = _ip_processors(module, projection)
        if not processors:
            continue
        for at, one in enumerate(projections):
            scales = {_item(processor.scale, at) for processor in processors}
            if scales == {0}:
                continue
            name = f"ip_adapter[{at}]"
            made = digest_of_adapter(
                module,
                name,
                (one, *processors),
                partial(_ip_tensors, one, tuple(processors), at),
            )
            digest = _digest(f"adapter {name!r}", made, unread)
            weight = float(next(iter(scales))) if len(scales) == 1 else None
            yield Adapter(name=name, kind="ip_adapter", weight=weight, sha256=digest, component=part)


def _ip_processors(module: torch.nn.Module, projection: torch.nn.Module) -> list[Any]:
    """The attention processors of IP-Adapters in a model, found anew when its image projection is another."""
    kept = _ip_layers.get(module)
    if kept is None or kept[0]() is not projection:
        found = [one for one in module.modules() if "IPAdapter" in type(one).__name__ and hasattr(one, "to_k_ip")]
        kept = _ip_layers[module] = (weakref.ref(projection), found)
    return kept[1]


def _ip_tensors(projection: torch.nn.Module, processors: tuple[Any, ...], at: int) -> Iterator[torch.Tensor]:
    """The weights of one IP-Adapter: its image projection, and its keys and values in every attention layer."""
    yield from projection.parameters()
    for held in (held for one in processors for held in (one.to_k_ip, one.to_v_ip)):
        yield from (held[at] if isinstance(held, torch.nn.ModuleList) else held).parameters()


def _item(value: Any, at: int) -> Any:
    return value[at] if isinstance(value, list | tuple) else value


def _controls(modules: Mapping[str, torch.nn.Module], said: Mapping[str, Any], unread: list[str]) -> Iterator[Adapter]:
    for part, argument in _CONTROLS.items():
        module = modules.get(part)
        if module is None:
            continue
        nets = list(getattr(module, "nets", None) or getattr(module, "adapters", None) or (module,))
        for at, net in enumerate(nets):
            name = part if len(nets) == 1 else f"{part}[{at}]"
            weight = _item(said.get(argument), at) if said.get(argument) != [] else None
            digest = _digest(f"adapter {name!r}", digest_of_module(net), unread)
            number = float(weight) if isinstance(weight, int | float) else None
            yield Adapter(name=name, kind="controlnet", weight=number, sha256=digest, component=part)


def _inversions(parts: Mapping[str, Any], texts: str, unread: list[str]) -> Iterator[Adapter]:
    """Textual inversions whose tokens are in a prompt: tokens that were added to a tokenizer after it was made."""
    for name, tokenizer in parts.items():
        if not name.startswith("tokenizer") or not hasattr(tokenizer, "added_tokens_encoder"):
            continue
        encoder_name = name.replace("tokenizer", "text_encoder")
        encoder = parts.get(encoder_name)
        for token, rows in _added_tokens(tokenizer).items():
            if token not in texts or not isinstance(encoder, torch.nn.Module):
                continue
            table: Callable[[], Any] = getattr(encoder, "get_input_embeddings", lambda: None)
            embeddings = table()
            digest = None
            if embeddings is None:
                unread.append(f"adapter digests: the embedding of token {token!r} is in no table that is known")
            else:
                made = digest_of_adapter(encoder, f"token {token}", (object(),), partial(_rows, embeddings, rows))
                digest = _digest(f"token {token!r}", made, unread)
            yield Adapter(name=token, kind="textual_inversion", sha256=digest, component=encoder_name)


def _rows(embeddings: Any, rows: list[int]) -> list[torch.Tensor]:
    return [embeddings.weight[rows]]


def _added_tokens(tokenizer: Any) -> dict[str, list[int]]:
    """The tokens that were added after the tokenizer was loaded, with the rows of their vectors.

    `<cat>_1` and so on are further vectors of `<cat>`, as diffusers names them.
    """
    came_with = {str(token) for token in (tokenizer.init_kwargs.get("added_tokens_decoder") or {}).values()}
    skipped = came_with | set(tokenizer.all_special_tokens)
    added: dict[str, list[int]] = {}
    for token, row in sorted(tokenizer.added_tokens_encoder.items(), key=lambda one: one[1]):
        if token in skipped:
            continue
        base = re.sub(r"_\d+$", "", token)
        added.setdefault(base if base in added else token, []).append(row)
    return added


def _digest(what: str, made: Future[str], unread: list[str]) -> str | None:
    """A digest that is there; otherwise a line that says why not."""
    if not made.done():
        unread.append(f"adapter digests: that of {what} is {STILL_BEING_MADE}")
        return None
    if (error := made.exception()) is not None:
        unread.append(f"adapter digests: that of {what}: {error}")
        return None
    return made.result()
