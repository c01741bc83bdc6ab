"""Tensors in, their sha256 out: made once, in the background where it takes long, and kept while they are unchanged."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import groupby
from operator import is_
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

__all__ = [
    "DENOISERS",
    "KeptWeights",
    "adapter_file_digest",
    "digest_of_adapter",
    "digest_of_module",
    "forget_adapters",
    "has_changed_since_first",
    "kept_weights",
    "named_digest",
    "own_tensors",
    "unnamed_digest",
]

log = logging.getLogger("guardrail.intake")

DENOISERS = (
    "unet",
    "transformer",
    "transformer_2",
    "prior",
    "decoder",
    "image_unet",
    "super_res_first",
    "super_res_last",
)
"""The parts of diffusers' pipelines that make pictures out of noise: the weights that a run is known by."""

_AT_ONCE_BYTES = 2**26  # more (40 ms of sha256 and up) is digested in the background, not in a call's way
_CHUNK_BYTES = 2**26  # copied to the host at a time
_SAMPLED_TENSORS = 64  # of a module, looked at before each call
_SAMPLED_VALUES = 4  # of each of them
_LOOKED_AT = 512  # tensors of which versions are compared at a call: a fifth of a millisecond
_ADAPTER_AT_ONCE_BYTES = 2**29  # a third of a second, once: what an adapter is should be known before its first image


_Places = tuple[tuple[dict[str, Any], ...], tuple[str, ...], tuple[Any, ...]]


@dataclass(eq=False, slots=True)
class KeptWeights:
    """What is kept of some tensors, to notice without reading them all that they were changed.

    In-place changes are noticed by torch's own version counts, changes behind its back (`tensor.data`, as PEFT fuses
    adapters) by values sampled from 64 tensors. To cost the same for models of any size, of more than 512 tensors or
    places the next 512 are looked at each time: a change to all of a model is seen at once, one to a few tensors of a
    large model some calls later, and one to a few tensors behind torch's back perhaps never.

    Attributes:
        tensors: by name, as in a state dict.
        places: where modules and tensors hang, in three columns: dictionary, key, what was there. Another thing there
            is a change.
        source: what tensors were read from that hang nowhere; another object is a change.
        digest: of the values, or the reason why there is none; running where it is still being made.
        first_sample: the sampled values as they were when the model was first looked at.
        last_sample: those that `digest` belongs to.
    """

    tensors: tuple[tuple[str, torch.Tensor], ...]
    places: _Places = ((), (), ())
    source: tuple[Any, ...] = ()
    digest: Future[str] | None = None
    first_sample: bytes = b""
    last_sample: bytes = b""
    lock: threading.Lock = field(default_factory=threading.Lock)
    _versions: list[int] = field(default_factory=list)
    _views: tuple[torch.Tensor, ...] = ()
    _pointers: tuple[int, ...] = ()
    _turn: int = 0

    def is_in_place(self) -> bool:
        """Whether the modules and tensors still hang where they hung."""
        theirs, keys, kept = (self._next_of(column) for column in self.places)
        return all(map(is_, map(dict.get, theirs, keys), kept))

    def is_unchanged(self) -> bool:
        """Whether the tensors hold what they held when the digest was begun."""
        self._turn += 1
        known = not self._versions or _versions_of(self._next_of(self.tensors)) == self._next_of(self._versions)
        return known and self.sample() == self.last_sample

    def begin(self) -> Future[str]:
        """Note how the tensors are now, for a digest that the caller makes."""
        self._versions, self.last_sample = _versions_of(self.tensors), self.sample()
        self.digest = Future()
        return self.digest

    def taken_over(self, earlier: KeptWeights) -> None:
        """Go on from what was kept of the same model before."""
        self.first_sample = earlier.first_sample
        if _same_tensors(self.tensors, earlier.tensors):
            self.digest, self.last_sample, self._versions = earlier.digest, earlier.last_sample, earlier._versions

    def sample(self) -> bytes:
        """Some values, as bytes in host memory; none of weights on the meta device, or in a form of their own."""
        chosen = self.tensors[:: max(1, len(self.tensors) // _SAMPLED_TENSORS)]
        pointers = tuple([tensor.data_ptr() for _, tensor in chosen])
        if pointers != self._pointers:  # they were moved
            self._pointers = pointers
            views = [_spread(tensor) for _, tensor in chosen if tensor.numel() and not tensor.is_meta]
            self._views = tuple(sorted(views, key=lambda view: (str(view.device), str(view.dtype))))
        alike = groupby(self._views, key=lambda view: (view.device, view.dtype))
        try:
            return b"".join(torch.cat(list(some)).cpu().view(torch.uint8).numpy().tobytes() for _, some in alike)
        except (RuntimeError, TypeError, ValueError, NotImplementedError):  # quantised tensors of other libraries
            return b""

    def _next_of(self, column: Any) -> Any:
        """The part of a column whose turn it is; all of a short one."""
        if len(column) <= _LOOKED_AT:
            return column
        start = self._turn % -(-len(column) // _LOOKED_AT) * _LOOKED_AT
        return column[start : start + _LOOKED_AT]


_kept: weakref.WeakKeyDictionary[torch.nn.Module, dict[str, KeptWeights]] = weakref.WeakKeyDictionary()
_kept_lock = threading.Lock()


def _forget_unfinished() -> None:
    """In a forked process: threads are gone, so what they were making is made again, and nobody holds a lock."""
    global _kept_lock
    _kept_lock = threading.Lock()
    for kept in [one for mine in _kept.values() for one in mine.values()]:
        kept.lock = threading.Lock()
        if kept.digest is not None and not kept.digest.done():
            kept.digest = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_unfinished)


def own_tensors(module: torch.nn.Module) -> tuple[tuple[tuple[str, torch.Tensor], ...], _Places]:
    """A model's own weights by name, and where they hang; those of adapters that lie over it are left out.

    Names are those of the model without adapters, so that loading one changes nothing. Weights that were offloaded
    to where a hook keeps them are taken from there.
    """
    tensors: list[tuple[str, torch.Tensor]] = []
    places: list[tuple[dict[str, Any], str, Any]] = []

    def walk(part: Any, prefix: str) -> None:
        if "IPAdapter" in type(part).__name__:
            return
        if hasattr(part, "base_layer") and hasattr(part, "adapter_layer_names"):
            places.append((part._modules, "base_layer", part.base_layer))
            walk(part.base_layer, prefix)
            return
        offloaded: Any = getattr(getattr(part, "_hf_hook", None), "weights_map", None)
        for there in (part._parameters, part._buffers):
            for name, tensor in there.items():
                if tensor is None or name in part._non_persistent_buffers_set:
                    continue
                places.append((there, name, tensor))
                is_away = tensor.is_meta and offloaded is not None
                tensors.append((prefix + name, offloaded[name] if is_away else tensor))
        for name, child in part._modules.items():
            if child is not None:
                places.append((part._modules, name, child))
                walk(child, prefix if name == "_orig_mod" else f"{prefix}{name}.")  # torch.compile's wrapping

    walk(module, "")
    theirs, keys, kept = zip(*places, strict=True) if places else ((), (), ())
    return tuple(sorted(tensors, key=lambda one: one[0])), (theirs, keys, kept)


def digest_of_module(module: torch.nn.Module) -> Future[str]:
    """The sha256 over names, types, shapes and bytes of a model's own weights.

    Returns:
        The digest, or the error that says why there is none. Above 64 MiB it is made in the background: not done yet
        at the first call of a large model, and known from then on until the weights change.
    """
    return _digest_of(lambda: kept_weights(module), named_digest, _AT_ONCE_BYTES)


def has_changed_since_first(module: torch.nn.Module) -> bool:
    """Whether a model's own weights were others, when they were last digested, than when they were first looked at."""
    kept = _kept.get(module, {}).get("")
    return kept is not None and kept.digest is not None and kept.last_sample != kept.first_sample


def kept_weights(module: torch.nn.Module) -> KeptWeights:
    """What is kept of a model's own weights: as they hang now, with the digest if they are those of before."""
    with _kept_lock:
        mine = _kept.setdefault(module, {})
        kept = mine.get("")
        if kept is not None and kept.is_in_place():
            return kept
        fresh = KeptWeights(*own_tensors(module))
        if kept is None:
            fresh.first_sample = fresh.sample()
        else:
            fresh.taken_over(kept)
        mine[""] = fresh
        return fresh


def forget_adapters(module: torch.nn.Module, kind: str, but: Collection[str]) -> None:
    """Drop what is kept of a model's adapters of one kind that are there no more: it would keep their weights alive.

    Args:
        module: the model they lay over.
        kind: what the names given to `digest_of_adapter` begin with.
        but: the names that stay.
    """
    mine = _kept.get(module, {})
    for name in [name for name in mine if name.startswith(kind) and name not in but]:
        del mine[name]


def digest_of_adapter(
    module: torch.nn.Module, name: str, source: tuple[Any, ...], tensors: Callable[[], Iterable[torch.Tensor]]
) -> Future[str]:
    """The sha256 of an adapter's own weights, the same whatever they are called: see `unnamed_digest`.

    Args:
        module: the model it lies over; the digest is forgotten with it.
        name: the adapter's, beginning with its kind: a model may have two of one name.
        source: what the tensors are read from; they are read again when one of these is another object.
        tensors: gives all its weights, in any order.
    """

    def kept_adapter() -> KeptWeights:
        with _kept_lock:
            mine = _kept.setdefault(module, {})
            kept = mine.get(name)
            if kept is None or len(kept.source) != len(source) or not all(map(is_, kept.source, source)):
                kept = mine[name] = KeptWeights(tuple(("", tensor) for tensor in tensors()), source=source)
            return kept

    return _digest_of(kept_adapter, lambda some: unnamed_digest(tensor for _, tensor in some), _ADAPTER_AT_ONCE_BYTES)


def unnamed_digest(tensors: Iterable[torch.Tensor]) -> str:
    """The sha256 of a set of tensors whatever their names, order and float type.

    Each counts by its shape and its values as float32, so that float16 weights give the same digest when they were
    loaded as float32. Tensors without axes (such as an adapter's alpha) are left out: they scale, and are not trained.
    """
    digests = sorted(
        hashlib.sha256(f"{tuple(tensor.shape)}:".encode() + _bytes_of(tensor.detach().to(torch.float32))).hexdigest()
        for tensor in tensors
        if tensor.ndim
    )
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def adapter_file_digest(path: str | Path) -> str:
    """The sha256 that a run reports of an adapter that was loaded from this safetensors file, as hex.

    It is for the settings (`[adapters.NAME] sha256 = ...`). It holds as long as loading keeps the values: for a float32
    file in a float16 pipeline, or a file whose matrices diffusers splits, take the digest from a run's context instead.

    Raises:
        OSError, safetensors.SafetensorError: the file cannot be read.
    """
    with safe_open(path, framework="pt", device="cpu") as opened:
        return unnamed_digest(opened.get_tensor(name) for name in opened.keys())  # noqa: SIM118 - it is no mapping


def _digest_of(
    keep: Callable[[], KeptWeights], digest: Callable[[Iterable[tuple[str, torch.Tensor]]], str], at_once_bytes: int
) -> Future[str]:
    """The digest that is kept, if the weights are still those it was made of; else a new one."""
    try:
        kept = keep()
        with kept.lock:
            if kept.digest is not None and kept.is_unchanged():
                return kept.digest
            made = kept.begin()
    except Exception as error:  # noqa: BLE001 - weights that cannot be read have no digest, whatever the reason
        made = Future()
        made.set_exception(error)
        return made
    if any(tensor.is_meta for _, tensor in kept.tensors):
        made.set_exception(ValueError("offloaded to where they cannot be read"))
    elif sum(tensor.numel() * tensor.element_size() for _, tensor in kept.tensors) <= at_once_bytes:
        _fulfil(made, digest, kept.tensors)
    else:
        threading.Thread(
            target=_fulfil, args=(made, digest, kept.tensors), name="guardrail-weights-digest", daemon=True
        ).start()
    return made


def _fulfil(made: Future[str], digest: Callable[[Any], str], tensors: tuple[tuple[str, torch.Tensor], ...]) -> None:
    try:
        made.set_result(digest(tensors))
    except Exception as error:  # noqa: BLE001 - as above
        made.set_exception(error)


def _versions_of(tensors: tuple[tuple[str, torch.Tensor], ...]) -> list[int]:
    """How often each was changed in place; none of those made in inference mode, of which torch keeps no count."""
    try:
        return [tensor._version for _, tensor in tensors]
    except RuntimeError:
        return []


def named_digest(tensors: Iterable[tuple[str, torch.Tensor]]) -> str:
    """The sha256 over names, types, shapes and bytes of tensors, as they come."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}:".encode())
        for chunk in _chunks(tensor):
            digest.update(_bytes_of(chunk))
    return digest.hexdigest()


def _chunks(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    flat = tensor.detach().reshape(-1)
    step = max(1, _CHUNK_BYTES // max(1, tensor.element_size()))
    return (flat[start : start + step] for start in range(0, flat.numel(), step))


def _bytes_of(tensor: torch.Tensor) -> bytes | memoryview:
    """The bytes of a tensor's values, row by row, in host memory."""
    if not tensor.numel():
        return b""
    return tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _spread(tensor: torch.Tensor) -> torch.Tensor:
    """A few values of a tensor, spread over its first axis, as a view of one axis whatever its memory layout."""
    view = tensor.detach()
    while view.ndim > 1:
        view = view.select(-1, view.shape[-1] // 2)
    return view[:: max(1, len(view) // _SAMPLED_VALUES)][:_SAMPLED_VALUES] if view.ndim else view[None]


def _same_tensors(some: Iterable[tuple[str, torch.Tensor]], others: Iterable[tuple[str, torch.Tensor]]) -> bool:
    """Whether both are the very same tensors under the same names, in the same order."""
    one, other = tuple(some), tuple(others)
    return len(one) == len(other) and all(
        ours[0] == theirs[0] and ours[1] is theirs[1] for ours, theirs in zip(one, other, strict=True)
    )
