"""A sign of memorisation: a prior's image embedding is near a protected work's, before there is any pixel."""

from datetime import UTC, datetime

import torch

from guardrail.carriers import Sign, SignReading, Step, Unread
from guardrail.hookspecs import hookimpl
from guardrail.records import Disposition, Signal, SignUnavailable
from guardrail.settings import Settings

_NAME = "embedding_match"


@hookimpl
def before_generation(settings: Settings) -> list[Sign | SignUnavailable]:
    """Announce the sign, where somebody says that index and pipeline use one and the same CLIP model."""
    if _NAME not in settings.signs:
        return []
    if not settings.signs[_NAME].embedder:
        reason = "nobody said that the index's CLIP embedder is the model of the pipeline's prior; set its `embedder`"
        return [SignUnavailable(sign=_NAME, reason=reason)]
    return [Sign(_NAME, "cosine of the image embedding to the nearest protected work's", over="max", scale="cosine")]


@hookimpl
def during_generation(step: Step, settings: Settings) -> SignReading | SignUnavailable | None:
    """Look a finished embedding up among the index's CLIP vectors (unCLIP, the Kandinsky priors, Stable unCLIP)."""
    if step.embedding is None:
        return None
    said = settings.signs[_NAME].embedder
    if said != step.embedder:
        reason = f"the index's CLIP embedder is {step.embedder!r}, the settings say that the prior's is {said!r}"
        return SignUnavailable(sign=_NAME, reason=reason)
    near = step.look()
    if isinstance(near, Unread):
        return SignUnavailable(sign=_NAME, reason=near.reason)
    now = datetime.now(UTC)
    best = [
        max(
            (one for one in some if one.signal is Signal.CLIP and one.work.standing(now) is Disposition.PROTECT),
            key=lambda one: one.similarity or -1.0,
            default=None,
        )
        for some in near
    ]
    if not any(best):
        return SignUnavailable(sign=_NAME, reason="the index holds no protected work with a CLIP vector")
    cosines = torch.tensor([found.similarity if found else torch.nan for found in best])
    return SignReading(_NAME, cosines, tuple(found.work if found else None for found in best))
