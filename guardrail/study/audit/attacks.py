"""Reconstruction: half of a picture is hidden, and the model asked for it; a member's own half comes back.

Inpainting pipelines are called as their users call them. Of any other the network is sampled with the visible half put
back at every step, so that models without an inpainting mode are attacked, too.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import fisher_exact

from guardrail.errors import AuditImpossible
from guardrail.records import AuditFinding, AuditOutcome
from guardrail.study.audit.asks import Budget, Cost, DenoiserAccess, Subject
from guardrail.study.audit.candidates import Asked, Candidate, batches, cannot_tell, drawn, split, too_few
from guardrail.study.audit.intervals import measured_share
from guardrail.study.audit.likeness import resized
from guardrail.study.audit.telling import LEAST_EACH, Told, leaks, tell

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "BY_CHANCE",
    "DRAWS",
    "GIVEN_BACK_ABOVE",
    "MOST_EACH",
    "Inpainting",
    "Read",
    "correlations",
    "distances",
    "first_picture",
    "given_back",
    "noise_levels",
    "takes",
    "with_hidden_half",
]

MOST_EACH = 64  # members, and held-out pictures: each costs ninety evaluations
_STEPS = 15  # of sampling
_REPEATS = 3  # of each step, so that both halves come to agree (Lugmayr et al. 2022, section 4.2)
DRAWS = 2  # reconstructions of each picture, of which the nearest counts
_LEAST_KEPT = 0.004  # share of the signal where sampling starts; with less, rounding errors are all there is
GIVEN_BACK_ABOVE = 0.9  # mean-removed correlation, -1..1; pixel proof's limit for a copy
_LEAST_CONTRAST = 0.05  # root mean square in 0..1: in a flatter half there is nothing to give back
BY_CHANCE = 0.01  # probability under which more halves given back are not put down to chance
_LEAST_NORM = 1e-6  # of mean-removed values in 0..1: below, a picture is one flat colour and correlates with nothing

Pixels = NDArray[np.uint8]
Values = NDArray[np.float64]
Read = Callable[[Any], "Sequence[Pixels | str]"]


@dataclass(frozen=True, slots=True)
class Inpainting:
    """Hides the right half of members and of held-out pictures, and compares what comes back with what was there.

    Attributes:
        read: finds the pictures in what the pipeline returns, see `Maker`; None: pipelines are not called, the network
            is asked.
        most_each: members, and held-out pictures, that are asked about at most.
        steps: of sampling.
        draws: reconstructions of each picture, of which the nearest counts.
    """

    read: Read | None = None
    most_each: int = MOST_EACH
    steps: int = _STEPS
    draws: int = DRAWS

    @property
    def name(self) -> str:
        """`inpainting`."""
        return "inpainting"

    def cost(self, subject: Subject) -> Cost:
        """Generations of an inpainting pipeline, else evaluations."""
        count = sum(min(self.most_each, len(one)) for one in (subject.training, subject.held_out)) * self.draws
        return Cost(generations=count) if self._calls(subject) else Cost(evaluations=count * self.steps * _REPEATS)

    def run(self, subject: Subject, budget: Budget, progress: Callable[[int, int], None]) -> AuditFinding:
        """See `AuditPart.run`; pictures whose hidden half is nearly one flat colour are not asked about."""
        if not self._calls(subject) and subject.denoiser is None:
            return cannot_tell(
                self.name, "this pipeline neither inpaints nor has a denoiser that can be asked directly"
            )
        if reason := too_few(subject):
            return cannot_tell(self.name, reason)
        candidates = drawn(subject, self._affordable(subject, budget))
        kept: list[Candidate] = []
        found: list[tuple[float, float]] = []
        seen = 0
        for asked in batches(subject, candidates):
            if budget.is_over():
                break
            rows = np.flatnonzero(_contrast(_right(asked.pixels)) >= _LEAST_CONTRAST)
            if len(rows):
                kept.extend(asked.candidates[row] for row in rows)
                found.extend(self._reconstructed(subject, _rows(asked, rows)))
            seen += len(asked.candidates)
            progress(seen, len(candidates))
        members, held_out = split(kept, np.array(found).reshape(-1, 2))
        if min(len(members), len(held_out)) < LEAST_EACH:
            return cannot_tell(self.name, f"{len(kept)} pictures with a half to give back were asked about, too few")
        told = tell({"nearness": -members[:, 0]}, {"nearness": -held_out[:, 0]}, subject.seed)
        return given_back(self.name, told, (members[:, 1], held_out[:, 1]), "Carlini et al. 2023; Lugmayr et al. 2022")

    def _affordable(self, subject: Subject, budget: Budget) -> int:
        if self._calls(subject):
            return min(self.most_each, budget.generations // self.draws // 2)
        return min(self.most_each, budget.evaluations // (self.draws * self.steps * _REPEATS) // 2)

    def _calls(self, subject: Subject) -> bool:
        return self.read is not None and takes(subject.pipeline, "image", "mask_image", "generator")

    def _reconstructed(self, subject: Subject, asked: Asked) -> list[tuple[float, float]]:
        """Distance and correlation of the nearest reconstruction's right half, for each picture."""
        hidden = _right(asked.pixels)
        tries = []
        for draw in range(self.draws):
            made = self._filled(subject, asked, subject.seed + draw)
            tries.append((distances(_right(made), hidden), correlations(_right(made), hidden)))
        apart, alike = np.stack([one[0] for one in tries]), np.stack([one[1] for one in tries])
        return list(zip(apart.min(axis=0).tolist(), alike.max(axis=0).tolist(), strict=True))

    def _filled(self, subject: Subject, asked: Asked, seed: int) -> Pixels:
        if not self._calls(subject):
            assert subject.denoiser is not None, "one of both ways was found"
            clean = with_hidden_half(subject.denoiser, subject.denoiser.encode(asked.pixels), asked, seed, self.steps)
            return resized(subject.denoiser.decode(clean), subject.side_px)
        assert self.read is not None, "calls need a reader"
        mask = np.zeros((subject.side_px, subject.side_px), np.uint8)
        mask[:, subject.side_px // 2 :] = 255
        made = []
        for picture, caption in zip(asked.pixels, asked.captions, strict=True):
            said: dict[str, Any] = dict(subject.call) | {"generator": torch.Generator().manual_seed(seed)}
            said |= {"image": Image.fromarray(picture), "mask_image": Image.fromarray(mask)}
            if takes(subject.pipeline, "prompt"):
                said["prompt"] = caption or ""
            made.append(first_picture(self.read(subject.pipeline(**said)), subject.side_px))
        return np.stack(made)


@torch.inference_mode()
def with_hidden_half(denoiser: DenoiserAccess, clean: Tensor, asked: Asked, seed: int, steps: int = _STEPS) -> Tensor:
    """Pictures whose right half the network makes up, given the left.

    Args:
        denoiser: the network.
        clean: float32 (B, C, H, W), encoded pictures; of their right halves nothing is used.
        asked: what they were made from.
        seed: of the noise. Deterministic for it.
        steps: of sampling, each taken three times.

    Returns:
        float32 (B, C, H, W), encoded.

    Source: Lugmayr et al., "RePaint: inpainting using denoising diffusion probabilistic models", CVPR 2022, algorithm
    1; we differ in stepping by deterministic DDIM, because that takes fifteen steps where they take 250. To hide parts
    of training pictures is the attack of Carlini et al. 2023, section 5.3.
    """
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.zeros(clean.shape[-2:], dtype=torch.bool, device=clean.device)
    hidden[:, clean.shape[-1] // 2 :] = True

    def noise() -> Tensor:
        return torch.randn(clean.shape[1:], generator=generator).to(clean).expand_as(clean)

    guessed = noise()
    path = [*noise_levels(denoiser.alphas, steps), -1]
    for at, to in pairwise(path):
        now = float(denoiser.alphas[at])
        then = float(denoiser.alphas[to]) if to >= 0 else 1.0
        for turn in range(_REPEATS):
            noisy = torch.where(hidden, guessed, now**0.5 * clean + (1 - now) ** 0.5 * noise())
            seen = denoiser.predict_noise(noisy, at, asked.captions, asked.labels)
            whole = (noisy - (1 - now) ** 0.5 * seen) / now**0.5
            guessed = then**0.5 * whole + (1 - then) ** 0.5 * seen
            if turn + 1 < _REPEATS:  # back up to this level, with fresh noise
                share = now / then
                guessed = share**0.5 * guessed + (1 - share) ** 0.5 * noise()
    return torch.as_tensor(torch.where(hidden, guessed, clean))


def noise_levels(alphas: Values, steps: int, start_kept: float = _LEAST_KEPT) -> tuple[int, ...]:
    """Timesteps, falling, evenly from where `start_kept` of the signal is kept down to the first one or near it.

    Args:
        alphas: float64 (T,), falling.
        steps: how many at most, >= 1.
        start_kept: 0..1.
    """
    start = max(int(np.count_nonzero(alphas >= start_kept)) - 1, 0)
    levels = np.linspace(start, start / steps, steps).round().astype(int)
    return tuple(sorted({int(level) for level in levels}, reverse=True))


def given_back(part: str, told: Told, alike: tuple[Values, Values], source: str) -> AuditFinding:
    """What reconstructions say: how well members are told, and how many came back where held-out ones did not.

    Args:
        part: its name.
        told: from how near the reconstructions come.
        alike: mean-removed correlations of the nearest reconstructions, float64 (M,) of members and (H,) of held-out
            pictures.
        source: the papers.

    Returns:
        Memorised where either says so; clean only where both do.
    """
    ours, theirs = ((values > GIVEN_BACK_ABOVE) for values in alike)
    table = [[int(ours.sum()), int((~ours).sum())], [int(theirs.sum()), int((~theirs).sum())]]
    more = float(fisher_exact(table, alternative="greater").pvalue) < BY_CHANCE
    outcome = AuditOutcome.MEMORISED if more else leaks(told)
    reason = (
        f"{ours.sum()} of {len(ours)} members were given back, and {theirs.sum()} of {len(theirs)} held-out pictures; "
        f"a member comes nearer than a held-out picture in {told.area:.0%} of pairs "
        f"({told.area_low:.0%} to {told.area_high:.0%})"
    )
    shares = (
        measured_share("members given back", int(ours.sum()), len(ours)),
        measured_share("held-out pictures given back", int(theirs.sum()), len(theirs)),
    )
    return AuditFinding(part=part, outcome=outcome, reason=reason, measured=(*shares, *told.measured()), source=source)


def distances(ones: Pixels, others: Pixels) -> Values:
    """How far each picture is from its own other: uint8 (N, H, W, 3) each; float64 (N,), root mean square in 0..1."""
    apart = (ones.astype(np.float64) - others) / 255
    return np.asarray(np.sqrt((apart**2).reshape(len(ones), -1).mean(axis=1)), np.float64)


def correlations(ones: Pixels, others: Pixels) -> Values:
    """How alike each picture is to its own other once each channel's mean is taken out: float64 (N,), -1..1.

    Args:
        ones: uint8 (N, H, W, 3).
        others: the same.

    Returns:
        0 where either is one flat colour.
    """
    left, right = _mean_removed(ones), _mean_removed(others)
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return np.asarray(np.where(norms > _LEAST_NORM, (left * right).sum(axis=1) / np.maximum(norms, _LEAST_NORM), 0.0))


def takes(pipeline: object, *names: str) -> bool:
    """Whether calls of a pipeline take all these arguments."""
    taken = inspect.signature(type(pipeline).__call__).parameters
    return all(name in taken for name in names)


def first_picture(found: Sequence[Pixels | str], side_px: int) -> Pixels:
    """The first picture of what a call returned, uint8 (side_px, side_px, 3).

    Raises:
        AuditImpossible: there is none, or it cannot be looked at; that nothing came back must not look like clean.
    """
    picture = found[0] if found else "no picture"
    if isinstance(picture, str):
        raise AuditImpossible("the pipeline", picture, "a picture", "try a call with the same options by hand")
    return np.asarray(resized(picture[None], side_px)[0], np.uint8)


def _right(pixels: Pixels) -> Pixels:
    return pixels[:, :, pixels.shape[2] // 2 :]


def _rows(asked: Asked, rows: NDArray[np.int64]) -> Asked:
    captions = tuple(asked.captions[row] for row in rows)
    labels = tuple(asked.labels[row] for row in rows) if asked.labels else ()
    return Asked(tuple(asked.candidates[row] for row in rows), asked.pixels[rows], captions, labels)


def _mean_removed(pixels: Pixels) -> Values:
    values = pixels.astype(np.float64) / 255
    return np.asarray((values - values.mean(axis=(1, 2), keepdims=True)).reshape(len(values), -1), np.float64)


def _contrast(pixels: Pixels) -> Values:
    return np.asarray(np.sqrt((_mean_removed(pixels) ** 2).mean(axis=1)), np.float64)
