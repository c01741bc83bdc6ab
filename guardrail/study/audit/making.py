"""A pipeline is called as its kind is called, with a generator of its own for every picture."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from guardrail.errors import AuditImpossible, GuardrailError
from guardrail.study.audit.asks import Budget
from guardrail.study.audit.keeping import Keeping
from guardrail.study.audit.likeness import resized
from guardrail.study.audit.plan import Ask

__all__ = ["Maker", "asked_with", "generate"]

Read = Callable[[Any], "Sequence[NDArray[np.uint8] | str]"]


class Maker:
    """Makes the pictures that a plan asks for; its generators are on the CPU, so that a seed gives one noise anywhere.

    Args:
        pipeline: a diffusers pipeline that makes pictures from nothing, from prompts or from class labels.
        read: finds the pictures in what it returns, in order: uint8 (H, W, 3), RGB, or why one cannot be looked at.
        call: keyword arguments that go to every call.

    Raises:
        AuditImpossible: it takes none of `batch_size`, `prompt` and `class_labels`, or no generator.
    """

    def __init__(self, pipeline: Any, read: Read, call: dict[str, Any]) -> None:
        self._pipeline, self._read, self._call = pipeline, read, call
        self._kind = asked_with(pipeline)

    def make(self, asks: Sequence[Ask]) -> list[NDArray[np.uint8] | str]:
        """One picture for each ask, uint8 (H, W, 3), or why there is none; all in one call.

        Of several frames for one ask the middle one is taken.

        Raises:
            AuditImpossible: it did not return as many pictures as it was asked for.
        """
        generators = [torch.Generator().manual_seed(ask.seed) for ask in asks]
        said: dict[str, Any] = dict(self._call) | {"generator": generators if len(asks) > 1 else generators[0]}
        if self._kind == "prompt":
            said["prompt"] = [ask.prompt or "" for ask in asks]
        elif self._kind == "class_labels":
            said["class_labels"] = [ask.label or 0 for ask in asks]
        else:
            said["batch_size"] = len(asks)
        found = self._read(self._pipeline(**said))
        each, rest = divmod(len(found), len(asks))
        if each == 0 or rest:
            raise AuditImpossible(
                type(self._pipeline).__name__,
                f"{len(found)} pictures for {len(asks)} seeds",
                "as many for each seed",
                "audit with --batch 1, or give a pipeline that returns them",
            )
        return [found[at * each + each // 2] for at in range(len(asks))]


def asked_with(pipeline: Any) -> str:
    """How a pipeline is told what to make: `prompt`, `class_labels` or `batch_size`.

    Raises:
        AuditImpossible: with none of them, or it takes no generator, so that no picture could be made again.
    """
    taken = inspect.signature(type(pipeline).__call__).parameters
    for kind in ("prompt", "class_labels", "batch_size"):
        if kind in taken and "generator" in taken:
            return kind
    raise AuditImpossible(
        type(pipeline).__name__,
        f"a call that takes {', '.join(name for name in taken if name != 'self')}",
        "a generator, and one of prompt, class_labels and batch_size",
        "wrap it in a class whose call takes them",
    )


def generate(
    maker: Maker, keeping: Keeping, batch: int, budget: Budget, progress: Callable[[int, int], None]
) -> str | None:
    """Make what is missing of a plan, and keep each picture as it comes.

    Args:
        maker: calls the pipeline.
        keeping: the folder; what it has is not made again.
        batch: pictures a call, >= 1.
        budget: no call starts once it is over.
        progress: called with (done, total) of the whole plan.

    Returns:
        None where the plan is done, else why it is not.
    """
    missing = keeping.missing()
    total = keeping.plan.count
    progress(total - len(missing), total)
    for start in range(0, len(missing), batch):
        if budget.is_over():
            return f"time was up after {total - len(missing) + start} of {total} generations"
        asks = missing[start : start + batch]
        for ask, pixels in zip(asks, _made(maker, asks), strict=True):
            if isinstance(pixels, str):
                keeping.keep_failure(ask, pixels)
            else:
                keeping.keep(ask, resized(pixels[None], keeping.plan.side_px)[0])
        progress(total - len(missing) + start + len(asks), total)
    return None


def _made(maker: Maker, asks: Sequence[Ask]) -> Sequence[NDArray[np.uint8] | str]:
    try:
        return maker.make(asks)
    except GuardrailError:
        raise
    except Exception as error:  # pipelines raise anything; whatever it was, nothing was looked at
        raise AuditImpossible(
            "the pipeline",
            f"{type(error).__name__} when it was called ({error})",
            "pictures",
            "try a call with the same options by hand",
        ) from error
