"""Where fingerprints are computed, to what precision, and the one way back to host memory."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from numpy.typing import NDArray

from guardrail.errors import SettingsInvalid

__all__ = ["exact_arithmetic", "resolve_device", "to_host"]

# Every switch by which torch may trade float32 for TF32 or bfloat16, on NVIDIA and Intel.
_backends: Any = torch.backends
_FAST_MATHS = (_backends.cuda.matmul, _backends.cudnn.conv, _backends.mkldnn.matmul, _backends.mkldnn.conv)
_lock = threading.Lock()
_inside = 0
_before: tuple[str, ...] = ()


def resolve_device(name: str) -> str:
    """The name of the torch device that a setting means: `auto` takes CUDA, then MPS, then the CPU.

    Raises:
        SettingsInvalid: torch does not know the name, or this machine has no such device.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(0, device=torch.device(name))
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch raises all three for absent devices
        reason = str(error).splitlines()[0].split(". ")[0]
        raise SettingsInvalid(f"device = {name!r}", f"torch cannot use it ({reason}); expected auto or cpu") from error
    return name


@contextmanager
def exact_arithmetic(device: torch.device) -> Iterator[None]:
    """Full float32 on `device`, without gradients and whatever the caller has set: no TF32, bfloat16 or autocast.

    The caller's precision settings come back when the last thread is out.
    """
    _enter()
    try:
        with torch.inference_mode(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        _leave()


def to_host(tensor: torch.Tensor) -> NDArray[Any]:
    """The only transfer from a device to host memory: the same values, shape and dtype as NumPy."""
    return tensor.detach().cpu().contiguous().numpy()


def _enter() -> None:
    global _inside, _before
    with _lock:
        if _inside == 0:
            _before = tuple(backend.fp32_precision for backend in _FAST_MATHS)
            _switch(("ieee",) * len(_FAST_MATHS))
        _inside += 1


def _leave() -> None:
    global _inside
    with _lock:
        _inside -= 1
        if _inside == 0:
            _switch(_before)


def _switch(precisions: tuple[str, ...]) -> None:
    for backend, precision in zip(_FAST_MATHS, precisions, strict=True):
        backend.fp32_precision = precision


def _compute_alone() -> None:
    """A forked process has none of its parent's threads; OpenMP would wait for them for ever."""
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_compute_alone)
