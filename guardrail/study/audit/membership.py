"""Membership inference: does the network know a picture it was trained on from one of the same kind that it never saw?

Three attacks that ask the denoiser directly. None generates a picture, so a model that never gives a work back may
still be found to know it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from guardrail.records import AuditFinding, Measured
from guardrail.study.audit.asks import Budget, Cost, DenoiserAccess, Subject
from guardrail.study.audit.candidates import (
    Asked,
    batches,
    cannot_tell,
    drawn,
    nearest_timesteps,
    split,
    too_few,
)
from guardrail.study.audit.telling import LEAST_EACH, area_under, leaks, tell

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "ATTACKS",
    "DRAWS",
    "EVALUATIONS",
    "LEAST_LOSS",
    "LOSS_KEPT",
    "MOST_EACH",
    "Membership",
    "denoising_losses",
    "inversion_errors",
    "membership_traits",
    "proximal_errors",
]

ATTACKS = ("loss", "proximal", "proximal normalised", "inversion")  # by name, in this order everywhere
LOSS_KEPT = (0.9, 0.66, 0.27)  # shares of the signal: timesteps 100, 200 and 350 of DDPM's linear 1,000
DRAWS = 3  # noises a timestep: the mean of a few tells better than one (Carlini et al. 2023, section 5.2.2)
_PROXIMAL_KEPT = 0.66  # Kong et al. 2024, section 4.1: timestep 200
_PROXIMAL_POWER = 4  # ibid.: the l4 norm
_INVERSION_KEPT = 0.9  # Duan et al. 2023, section 4.1: timestep 100
_INVERSION_STEPS = 10  # ibid.: an interval of 10 timesteps
_GAUSSIAN_MODULUS = float(np.sqrt(2 / np.pi))  # mean of |z| for standard normal z
LEAST_LOSS = 1e-12  # mean square below which float32 knows no difference; under the logarithm
MOST_EACH = 512  # members, and held-out pictures: the area is then known to about 0.035 either way
EVALUATIONS = len(LOSS_KEPT) * DRAWS + 3 + _INVERSION_STEPS + 2  # a picture

Traits = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Membership:
    """Tells members from held-out pictures by denoising loss, proximal initialisation and inversion error.

    Attributes:
        most_each: members, and held-out pictures, that are asked about at most.
    """

    most_each: int = MOST_EACH

    @property
    def name(self) -> str:
        """`membership`."""
        return "membership"

    def cost(self, subject: Subject) -> Cost:
        """`EVALUATIONS` a picture."""
        return Cost(evaluations=EVALUATIONS * sum(self._counts(subject, self.most_each)))

    def run(self, subject: Subject, budget: Budget, progress: Callable[[int, int], None]) -> AuditFinding:
        """See `AuditPart.run`; memorised where the cross-fitted area or the share of certain hits says so."""
        if subject.denoiser is None:
            return cannot_tell(self.name, "this kind of pipeline has no denoiser that can be asked directly")
        if reason := too_few(subject):
            return cannot_tell(self.name, reason)
        candidates = drawn(subject, min(self.most_each, budget.evaluations // EVALUATIONS // 2))
        found: list[Traits] = []
        for asked in batches(subject, candidates):
            if budget.is_over():
                break
            traits = membership_traits(subject.denoiser, asked, subject.seed)
            found.extend(np.stack(list(traits.values()), axis=1))
            progress(len(found), len(candidates))
        members, held_out = split(candidates, np.array(found).reshape(len(found), len(ATTACKS)))
        if min(len(members), len(held_out)) < LEAST_EACH:
            return cannot_tell(self.name, f"the budget ended after {len(found)} pictures, too few to tell anything")
        return self._finding(subject, members, held_out)

    def _finding(self, subject: Subject, members: Traits, held_out: Traits) -> AuditFinding:
        ours = dict(zip(ATTACKS, members.T, strict=True))
        theirs = dict(zip(ATTACKS, held_out.T, strict=True))
        told = tell(ours, theirs, subject.seed)
        raw = [
            Measured(
                name=f"area, {name}", value=area_under(ours[name], theirs[name]), over=told.members + told.held_out
            )
            for name in ATTACKS
        ]
        reason = (
            f"a training picture is told from a held-out one in {told.area:.0%} of pairs "
            f"({told.area_low:.0%} to {told.area_high:.0%}; a coin: 50%), by {' and '.join(dict.fromkeys(told.chosen))}"
        )
        return AuditFinding(
            part=self.name,
            outcome=leaks(told),
            reason=reason,
            measured=(*told.measured(), *raw),
            source="Carlini et al. 2023; Matsumoto et al. 2023; Kong et al. 2024; Duan et al. 2023",
        )

    @staticmethod
    def _counts(subject: Subject, most_each: int) -> tuple[int, int]:
        return min(most_each, len(subject.training)), min(most_each, len(subject.held_out))


def membership_traits(denoiser: DenoiserAccess, asked: Asked, seed: int) -> dict[str, Traits]:
    """Every attack on a batch of B pictures: by the names of `ATTACKS`, float64 (B,), higher is more like a member.

    Args:
        denoiser: the network.
        asked: the pictures with their captions and labels.
        seed: of the noise; deterministic for it, and the same noise for all pictures.
    """
    clean = denoiser.encode(asked.pixels)
    timesteps = nearest_timesteps(denoiser.alphas, LOSS_KEPT)
    losses = denoising_losses(denoiser, clean, asked, timesteps, seed)
    (proximal_at,) = nearest_timesteps(denoiser.alphas, (_PROXIMAL_KEPT,))
    (inverted_to,) = nearest_timesteps(denoiser.alphas, (_INVERSION_KEPT,))
    traits = (
        -np.log(losses + LEAST_LOSS).mean(axis=1),
        -proximal_errors(denoiser, clean, asked, proximal_at, normalised=False),
        -proximal_errors(denoiser, clean, asked, proximal_at, normalised=True),
        -np.log(inversion_errors(denoiser, clean, asked, inverted_to) + LEAST_LOSS),
    )
    return dict(zip(ATTACKS, traits, strict=True))


@torch.inference_mode()
def denoising_losses(
    denoiser: DenoiserAccess, clean: Tensor, asked: Asked, timesteps: Sequence[int], seed: int, draws: int = DRAWS
) -> Traits:
    """How badly the network sees the noise in each picture, at each timestep.

    Args:
        denoiser: the network.
        clean: float32 (B, C, H, W), encoded pictures.
        asked: what they were made from.
        timesteps: K of them, 0..T-1.
        seed: of the noise, which is the same for all pictures and batches, so that its chance cancels between them.
        draws: noises a timestep, over which the mean is taken.

    Returns:
        float64 (B, K), mean square error of the predicted noise, >= 0; 1 is what predicting none gives.

    Source: Matsumoto, Miura and Yanai, "Membership inference attacks against diffusion models", 2023, section 4;
    Carlini et al. 2023, section 5.2.2. We differ in choosing timesteps by the share of the signal they keep, because
    schedules differ, and in using one noise for all pictures, because that takes its chance out of the comparison.
    """
    found = np.zeros((len(clean), len(timesteps)))
    generator = torch.Generator().manual_seed(seed)
    for column, at in enumerate(timesteps):
        kept = float(denoiser.alphas[at])
        for _ in range(draws):
            noise = torch.randn(clean.shape[1:], generator=generator).to(clean).expand_as(clean)
            predicted = denoiser.predict_noise(_noised(clean, noise, kept), at, asked.captions, asked.labels)
            found[:, column] += _mean_square(predicted - noise) / draws
    return found


@torch.inference_mode()
def proximal_errors(
    denoiser: DenoiserAccess, clean: Tensor, asked: Asked, timestep: int, *, normalised: bool
) -> Traits:
    """How far the noise that the network sees in the clean picture is from what it sees once that noise was added.

    Args:
        denoiser: the network.
        clean: float32 (B, C, H, W), encoded pictures.
        asked: what they were made from.
        timestep: 0..T-1, at which the second look is taken.
        normalised: whether the first noise is scaled to the mean modulus of normal noise (PIAN) or taken as it is
            (PIA).

    Returns:
        float64 (B,), the l4 norm of the difference, >= 0; of a model that is not overfitted lower for members.

    Source: Kong et al., "An efficient membership inference attack for the diffusion model by proximal initialization",
    ICLR 2024, equations 9 and 10; we differ in scaling to sqrt(2 / pi), the mean modulus of a standard normal number,
    where they print its inverse, because only then has the noised picture the variance that the network was trained on.
    """
    noise = denoiser.predict_noise(clean, 0, asked.captions, asked.labels)
    if normalised:
        modulus = noise.abs().flatten(1).mean(1).clamp_min(torch.finfo(noise.dtype).tiny)
        noise = noise * (_GAUSSIAN_MODULUS / modulus)[:, None, None, None]
    kept = float(denoiser.alphas[timestep])
    predicted = denoiser.predict_noise(_noised(clean, noise, kept), timestep, asked.captions, asked.labels)
    norms = (predicted - noise).double().flatten(1).norm(p=_PROXIMAL_POWER, dim=1)
    return np.asarray(norms.cpu().numpy(), np.float64)


@torch.inference_mode()
def inversion_errors(
    denoiser: DenoiserAccess, clean: Tensor, asked: Asked, timestep: int, steps: int = _INVERSION_STEPS
) -> Traits:
    """How badly a picture that was led up to a timestep comes back from one step farther.

    Args:
        denoiser: the network.
        clean: float32 (B, C, H, W), encoded pictures.
        asked: what they were made from.
        timestep: 1..T-1, how far up the picture is led, without noise, by deterministic DDIM steps.
        steps: in how many steps.

    Returns:
        float64 (B,), mean square difference between where the picture was and where it came back to, >= 0.

    Source: Duan et al., "Are diffusion models vulnerable to membership inference attacks?", ICML 2023, equation 9
    (SecMI's t-error); we differ in dividing by the number of values, because pictures differ in size.
    """
    path = [round(float(at)) for at in np.linspace(0, timestep, steps + 1)]
    up = min(path[-1] + max(path[-1] - path[-2], 1), len(denoiser.alphas) - 1)
    at_end = clean
    for at, to in pairwise(path):
        at_end = _led(denoiser, at_end, at, to, asked)
    back = _led(denoiser, _led(denoiser, at_end, path[-1], up, asked), up, path[-1], asked)
    return _mean_square(back - at_end)


def _noised(clean: Tensor, noise: Tensor, kept: float) -> Tensor:
    return float(np.sqrt(kept)) * clean + float(np.sqrt(1 - kept)) * noise


def _led(denoiser: DenoiserAccess, noisy: Tensor, at: int, to: int, asked: Asked) -> Tensor:
    """One deterministic DDIM step from timestep `at` to timestep `to`, up or down."""
    noise = denoiser.predict_noise(noisy, at, asked.captions, asked.labels)
    now, then = (float(denoiser.alphas[step]) for step in (at, to))
    clean = (noisy - float(np.sqrt(1 - now)) * noise) / float(np.sqrt(now))
    return _noised(clean, noise, then)


def _mean_square(difference: Tensor) -> Traits:
    return np.asarray(difference.double().pow(2).flatten(1).mean(1).cpu().numpy(), np.float64)
