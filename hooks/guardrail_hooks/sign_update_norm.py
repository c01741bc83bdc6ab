"""A sign of memorisation that needs nothing but latents: how far a step moves them."""

import torch

from guardrail.carriers import Sign, SignReading, Step
from guardrail.hookspecs import hookimpl
from guardrail.records import SignUnavailable
from guardrail.settings import Settings

_NAME = "update_norm"
_EMBEDDING_AXES = 2  # (B, D): what a prior denoises is no picture


@hookimpl
def before_generation(settings: Settings) -> list[Sign]:
    """Announce the sign where the settings name it."""
    return [Sign(_NAME, "root mean square change of the latents in a step")] if _NAME in settings.signs else []


@hookimpl
def during_generation(step: Step) -> SignReading | SignUnavailable | None:
    """Measure the root mean square change of each image's latents in this step.

    Our own definition, for models whose predictions come without a pair; docs/signs.md has what it is worth.
    """
    if step.latents.ndim <= _EMBEDDING_AXES:
        return None
    if step.latents.shape != step.after.shape or not step.after.is_floating_point():
        return SignUnavailable(sign=_NAME, reason="the latents are no numbers, or change their shape")
    moved = (step.after.float() - step.latents.float()).flatten(1)
    return SignReading(_NAME, torch.linalg.vector_norm(moved, dim=1) / moved.shape[1] ** 0.5)
