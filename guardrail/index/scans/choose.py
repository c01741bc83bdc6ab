"""Which structure searches how many vectors, and the making of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from guardrail.index.scans.base import HashScan, VectorBlocks, VectorScan
from guardrail.index.scans.flat import FlatScan
from guardrail.index.scans.hashes import FlatHashScan
from guardrail.index.scans.ivf import IvfScan, lists_for

__all__ = ["EXACT_UP_TO", "StructureName", "choose", "device_bytes", "make_hash_scan", "make_vector_scan", "said_of"]

StructureName = Literal["flat", "ivf_rabitq", "torch", "faiss_gpu", "cuvs"]

EXACT_UP_TO = 200_000
"""Vectors that are compared one and all on a CPU: 8 ms of CPU a query at 512 dimensions, and no picture is missed."""

_DEVICE_SHARE = 0.7  # of a device's memory that vectors may take; the rest is for the guard's embedders and the search
_FLOAT16_BYTES = 2
_PIECE_ROWS = 65_536
_PQ_BYTES_UP_TO = 96 + 8  # of one vector in inverted lists of product codes, with its id


def device_bytes(device: str) -> int:
    """Memory of a CUDA device in bytes; 0 for the host and for devices that torch cannot say it of."""
    if not device.startswith("cuda"):
        return 0
    import torch

    return int(torch.cuda.get_device_properties(torch.device(device)).total_memory)


def choose(count: int, dimensions: int, device: str = "cpu", memory_bytes: int | None = None) -> StructureName:
    """The name of the structure for some vectors: a function of its arguments alone.

    Args:
        count: how many vectors.
        dimensions: D.
        device: `cpu`, or a CUDA device that search may use.
        memory_bytes: of that device, in place of what it says.

    Returns:
        On the CPU `flat`, which is exact, up to `EXACT_UP_TO` vectors, then `ivf_rabitq`. On CUDA `torch`, which is
        exact, while the vectors fit; then `faiss_gpu`, whose codes fit longer; then `ivf_rabitq` in host memory.
        `cuvs` is never chosen: it is asked for by name.
    """
    if not device.startswith("cuda"):
        return "flat" if count <= EXACT_UP_TO else "ivf_rabitq"
    room = (device_bytes(device) if memory_bytes is None else memory_bytes) * _DEVICE_SHARE
    if count * dimensions * _FLOAT16_BYTES <= room:
        return "torch"
    return "faiss_gpu" if count * _PQ_BYTES_UP_TO <= room else "ivf_rabitq"


def make_vector_scan(
    name: StructureName,
    vectors: VectorBlocks,
    device: str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> VectorScan:
    """The structure of that name over some vectors.

    Raises:
        ExtraMissing: `cuvs` is asked for and is not installed.
    """
    if name == "flat":
        pieces = list(vectors.blocks(_PIECE_ROWS))
        ids = [some for some, _ in pieces] or [np.empty(0, np.int64)]
        held = [piece for _, piece in pieces] or [np.empty((0, vectors.dimensions), np.float16)]
        return FlatScan(np.concatenate(ids), np.concatenate(held))
    if name == "ivf_rabitq":
        return IvfScan.trained(vectors, progress=progress)
    if name == "torch":
        from guardrail.index.scans.torch_scan import TorchScan

        return TorchScan(vectors, device)
    if name == "faiss_gpu":
        from guardrail.index.scans.faiss_gpu import GpuIvfScan

        return GpuIvfScan.trained(vectors, device, progress=progress)
    from guardrail.index.scans.cuvs import CagraScan

    return CagraScan.built(vectors, device)


def make_hash_scan(ids: NDArray[np.int64], codes: NDArray[np.uint8], device: str = "cpu") -> HashScan:
    """The structure over some hashes, exact wherever it is: on a CUDA device, or on the CPU without a copy of them.

    Args:
        ids: int64 (n,), ascending.
        codes: uint8 (n, B).
        device: `cpu`, or a CUDA device that search may use.
    """
    if not device.startswith("cuda"):
        return FlatHashScan(ids, codes)
    from guardrail.index.scans.torch_scan import TorchHashScan

    return TorchHashScan(ids, codes, device)


def said_of(name: StructureName, count: int, dimensions: int) -> str:
    """A sentence that says what was chosen for some vectors, for people."""
    held = f"{count:,} vectors of {dimensions} dimensions"
    return {
        "flat": f"exact: {held}, each compared on the CPU (approximate from {EXACT_UP_TO:,} on)",
        "ivf_rabitq": f"approximate, compared again with what is stored: {held} as bits in {lists_for(count):,} lists",
        "torch": f"exact: {held}, each compared on the GPU",
        "faiss_gpu": f"approximate, compared again with what is stored: {held} as product codes on the GPU",
        "cuvs": f"approximate, compared again with what is stored: {held} in a graph on the GPU",
    }[name]
