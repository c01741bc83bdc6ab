"""Which attacks apply to a subject: those that could never answer are left out, so that an audit can still be clean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrail.records import PrivacyClaim
from guardrail.study.audit.asks import AuditPart, PictureSet, Subject
from guardrail.study.audit.attacks import Inpainting, takes
from guardrail.study.audit.membership import Membership
from guardrail.study.audit.privacy import PrivacyBound
from guardrail.study.audit.shadows import Shadow, ShadowModels
from guardrail.study.audit.sweeps import AdapterSweep, StrengthSweep

__all__ = ["Attacks", "attacks_on"]


@dataclass(frozen=True, slots=True)
class Attacks:
    """What attacks are given beside the subject.

    Attributes:
        read: finds the pictures in what the pipeline returns, see `Maker`.
        shadows: models that were trained with and without its pictures; empty where there are none.
        claim: of differential privacy, to be put to the test; None where nothing is claimed.
        adapter_works: what the pipeline's adapter was trained on; None where it has none.
        adapter: which of several; None: all together.
    """

    read: Callable[[Any], Sequence[NDArray[np.uint8] | str]] | None = None
    shadows: tuple[Shadow, ...] = ()
    claim: PrivacyClaim | None = None
    adapter_works: PictureSet | None = None
    adapter: str | None = None


def attacks_on(subject: Subject, given: Attacks) -> tuple[AuditPart, ...]:
    """The attacks that apply, cheapest first.

    Left out is what this kind of pipeline cannot be asked; what was asked for, such as a claim, is never left out.

    Args:
        subject: the model; without held-out pictures only what was asked for stays, for there is nothing to compare.
        given: what there is beside it.
    """
    parts: list[AuditPart] = []
    if len(subject.held_out):
        asks = subject.denoiser is not None
        calls = given.read is not None
        if asks:
            parts.append(Membership())
        if asks or (calls and takes(subject.pipeline, "image", "mask_image")):
            parts.append(Inpainting(given.read))
        if asks or (calls and takes(subject.pipeline, "image", "strength")):
            parts.append(StrengthSweep(given.read))
    if given.shadows:
        parts.append(ShadowModels(given.shadows))
    if given.claim is not None:
        parts.append(PrivacyBound(given.claim))
    if given.adapter_works is not None and given.read is not None:
        parts.append(AdapterSweep(given.read, given.adapter_works, adapter=given.adapter))
    return tuple(parts)
