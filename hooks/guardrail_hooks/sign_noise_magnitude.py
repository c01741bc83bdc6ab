"""A sign of memorisation: how much the prompt changes what the denoiser predicts."""

from guardrail.carriers import Sign, SignReading, Step, Unread
from guardrail.hookspecs import hookimpl
from guardrail.records import SignUnavailable
from guardrail.settings import Settings

_NAME = "noise_magnitude"
_EMBEDDING_AXES = 2  # (B, D): what a prior denoises is no picture


@hookimpl
def before_generation(settings: Settings) -> list[Sign]:
    """Announce the sign where the settings name it."""
    return [Sign(_NAME, "length of the text-conditional noise prediction")] if _NAME in settings.signs else []


@hookimpl
def during_generation(step: Step) -> SignReading | SignUnavailable | None:
    """Measure the length of the difference between the conditional and the unconditional prediction.

    Source: Wen, Liu, Chen and Lyu, "Detecting, explaining, and mitigating memorization in diffusion models", 2024,
    section 3: the mean over all steps, or over the first few. They report an AUC of .96 with one seed at the first
    step and up to .999 over all of them and several seeds, on Stable Diffusion 1.4.
    """
    if step.latents.ndim <= _EMBEDDING_AXES:
        return None
    if isinstance(step.gap, Unread):
        return SignUnavailable(sign=_NAME, reason=step.gap.reason)
    return SignReading(_NAME, step.gap)
