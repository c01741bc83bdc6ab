"""A trained model, its works and queries in; how much each work is estimated to matter, by several methods, out."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
import torch
from diffusers import UNet2DModel
from numpy.typing import NDArray

from guardrail.study.attribution.draws import drawn_for
from guardrail.study.attribution.functions import Function, noising_of
from guardrail.study.attribution.gradients import Sketching, chosen_parameters
from guardrail.study.attribution.sketch import CountSketch
from guardrail.study.attribution.solving import DualSolver
from guardrail.study.attribution_bench.tasks import BenchTask, schedule
from guardrail.study.attribution_bench.training import as_given

__all__ = ["Gradients", "Way", "gradients_of", "influences_of", "neighbours_of"]

_QUERY_ROWS = 1_000_000  # queries draw other noise than works


class Way(NamedTuple):
    """How gradients are taken: whose, at how many draws (K), and in how many counters (k); 0 counters: unsketched."""

    function: Function
    draws: int
    counters: int

    @property
    def name(self) -> str:
        """As tables call it."""
        return f"{self.function} K={self.draws} " + (f"k={self.counters}" if self.counters else "exact")


class Gradients(NamedTuple):
    """Gradients of works float32 (W, k) and of queries float32 (Q, k), and the processor's seconds they took."""

    works: NDArray[np.float32]
    queries: NDArray[np.float32]
    cpu_s: float

    @property
    def bytes_a_work(self) -> int:
        """What is kept of a work, in fp16 as `guardrail attribute fit` keeps it."""
        return 2 * int(self.works.shape[1])


def gradients_of(
    task: BenchTask, network: UNet2DModel, works: NDArray[np.uint8], queries: NDArray[np.uint8], way: Way
) -> Gradients:
    """One gradient for each work and query.

    Args:
        task: whose pictures they are.
        network: trained on the works.
        works: uint8 (W, S, S, 3), each once.
        queries: uint8 (Q, S, S, 3).
        way: how.

    Deterministic on a CPU with one thread.
    """
    begun = time.process_time()
    parameters = chosen_parameters(network)
    sizes = [parameter.numel() for parameter in parameters.values()]
    sketch = CountSketch(sizes, way.counters or 1, task.seed)
    sketching = Sketching(network, parameters, noising_of(schedule()), sketch, way.function)

    def rows(pixels: NDArray[np.uint8], first: int) -> NDArray[np.float32]:
        found = []
        for at, clean in enumerate(as_given(pixels, task.patch_px)):
            draws = drawn_for(first + at, task.shape, way.draws, task.seed)
            if way.counters:
                found.append(sketching(clean, draws))
                continue
            parts = zip(sketching.gradient(clean, draws), sizes, strict=True)
            found.append(torch.cat([torch.zeros(size) if part is None else part.flatten() for part, size in parts]))
        return np.asarray(torch.stack(found).numpy(), np.float32)

    made = rows(works, 0), rows(queries, _QUERY_ROWS)
    return Gradients(*made, time.process_time() - begun)


def influences_of(gradients: Gradients, damping: float | None = None) -> NDArray[np.float64]:
    """The influence of every work on every query, float64 (Q, W), by the dual solve; default: the safe damping."""
    return DualSolver.of(gradients.works).scores(gradients.queries, damping)


def neighbours_of(works: NDArray[np.floating], queries: NDArray[np.floating]) -> NDArray[np.float64]:
    """Cosines of mean-free descriptors (or pixels) of works (W, d) and queries (Q, d), float64 (Q, W)."""
    rows, asked = np.asarray(works, np.float64), np.asarray(queries, np.float64)
    mean = rows.mean(axis=0)
    rows, asked = rows - mean, asked - mean
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    asked /= np.maximum(np.linalg.norm(asked, axis=1, keepdims=True), 1e-12)
    return np.asarray(asked @ rows.T)
