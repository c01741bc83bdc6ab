"""A sign of memorisation: the picture the model is heading for is near a protected work before it is finished."""

from collections.abc import Sequence
from datetime import UTC, datetime

import torch

from guardrail.carriers import Sign, SignReading, Step, Unread
from guardrail.hookspecs import hookimpl
from guardrail.records import Disposition, Neighbour, Signal, SignUnavailable, Work
from guardrail.settings import Settings

_NAME = "early_match"


@hookimpl
def before_generation(settings: Settings) -> list[Sign]:
    """Announce the sign where the settings name it."""
    unit = "copy similarity of the predicted picture to the nearest protected work"
    return [Sign(_NAME, unit, over="max", scale="cosine")] if _NAME in settings.signs else []


@hookimpl
def during_generation(step: Step, settings: Settings) -> SignReading | SignUnavailable | None:
    """Look the predicted picture up, at every so many steps."""
    if step.embedding is not None or (step.number + 1) % settings.signs[_NAME].every:
        return None
    near = step.look()
    if isinstance(near, Unread):
        return SignUnavailable(sign=_NAME, reason=near.reason)
    best = [_nearest(some) for some in near]
    if not any(best):
        return SignUnavailable(sign=_NAME, reason="the index holds no protected work with a copy descriptor")
    similarities = torch.tensor([found.similarity if found else torch.nan for found in best])
    works: tuple[Work | None, ...] = tuple(found.work if found else None for found in best)
    return SignReading(_NAME, similarities, works)


def _nearest(near: Sequence[Neighbour]) -> Neighbour | None:
    """The protected work that is nearest by the copy descriptor of the whole or of a tile; None where there is none."""
    now = datetime.now(UTC)
    counted = [
        one
        for one in near
        if one.signal in (Signal.COPY, Signal.TILE) and one.work.standing(now) is Disposition.PROTECT
    ]
    return max(counted, key=lambda one: one.similarity or -1.0, default=None)
