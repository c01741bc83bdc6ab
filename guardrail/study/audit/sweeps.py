"""Sweeps: at which strength a picture stops coming back, and from which weight on an adapter gives its works back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import fisher_exact

from guardrail.records import AuditFinding, AuditOutcome, Measured
from guardrail.study.audit.asks import Budget, Cost, DenoiserAccess, PictureSet, Subject
from guardrail.study.audit.attacks import (
    BY_CHANCE,
    GIVEN_BACK_ABOVE,
    Read,
    correlations,
    first_picture,
    noise_levels,
    takes,
)
from guardrail.study.audit.candidates import Asked, batches, cannot_tell, drawn, split, too_few
from guardrail.study.audit.coverage import works_asked
from guardrail.study.audit.intervals import measured_share
from guardrail.study.audit.likeness import compared_side, likeness, resized
from guardrail.study.audit.making import Maker, asked_with
from guardrail.study.audit.plan import Plan, ordered_captions, ordered_labels
from guardrail.study.audit.telling import LEAST_EACH, leaks, tell

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["AdapterSweep", "StrengthSweep", "adapter_weights", "has_adapter", "noised_and_back"]

_STRENGTHS = (0.2, 0.4, 0.6, 0.8, 0.9, 1.0)  # shares of the schedule that a picture is noised by
_STEPS = 20  # of sampling at strength 1
_STRENGTH_MOST_EACH = 64  # members, and held-out pictures
_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)  # of an adapter; 1 is what it was trained at
_GENERATIONS_A_WEIGHT = 32
_MAKING_AT_ONCE = 8  # pictures a call

Pixels = NDArray[np.uint8]
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class StrengthSweep:
    """Noises members and held-out pictures more and more, and looks at which strength they stop coming back.

    At a low strength any model returns what it was given. One that memorised returns its members from strengths at
    which nothing of them is left to see.

    Attributes:
        read: finds the pictures in what the pipeline returns, see `Maker`; None: pipelines are not called, the network
            is asked.
        strengths: rising, in 0..1.
        most_each: members, and held-out pictures, that are asked about at most.
        steps: of sampling at strength 1.
    """

    read: Read | None = None
    strengths: tuple[float, ...] = _STRENGTHS
    most_each: int = _STRENGTH_MOST_EACH
    steps: int = _STEPS

    @property
    def name(self) -> str:
        """`strength`."""
        return "strength"

    def cost(self, subject: Subject) -> Cost:
        """Generations of an image-to-image pipeline, else evaluations."""
        count = sum(min(self.most_each, len(one)) for one in (subject.training, subject.held_out))
        if self._calls(subject):
            return Cost(generations=count * len(self.strengths))
        return Cost(evaluations=count * self._evaluations())

    def run(self, subject: Subject, budget: Budget, progress: Callable[[int, int], None]) -> AuditFinding:
        """See `AuditPart.run`; memorised where members come back from more than held-out pictures do."""
        if not self._calls(subject) and subject.denoiser is None:
            return cannot_tell(
                self.name, "this pipeline takes no image, and has no denoiser that can be asked directly"
            )
        if reason := too_few(subject):
            return cannot_tell(self.name, reason)
        calls = self._calls(subject)
        each = budget.generations // len(self.strengths) if calls else budget.evaluations // self._evaluations()
        candidates = drawn(subject, min(self.most_each, each // 2))
        found: list[Values] = []
        for asked in batches(subject, candidates):
            if budget.is_over():
                break
            curves = [correlations(self._returned(subject, asked, one), asked.pixels) for one in self.strengths]
            found.extend(np.stack(curves, axis=1))
            progress(len(found), len(candidates))
        members, held_out = split(candidates, np.array(found).reshape(len(found), len(self.strengths)))
        if min(len(members), len(held_out)) < LEAST_EACH:
            return cannot_tell(self.name, f"{len(found)} pictures were asked about, too few to tell anything")
        return self._finding(subject, members, held_out)

    def _finding(self, subject: Subject, members: Values, held_out: Values) -> AuditFinding:
        told = tell({"likeness": members.mean(axis=1)}, {"likeness": held_out.mean(axis=1)}, subject.seed)
        ours, theirs = (members > GIVEN_BACK_ABOVE).sum(axis=0), (held_out > GIVEN_BACK_ABOVE).sum(axis=0)
        more = [
            _is_more(int(our), len(members), int(their), len(held_out), looks=len(self.strengths))
            for our, their in zip(ours, theirs, strict=True)
        ]
        figures: list[Measured] = []
        for strength, our, their in zip(self.strengths, ours, theirs, strict=True):
            figures.append(measured_share(f"members that come back at strength {strength:g}", int(our), len(members)))
            named = f"held-out pictures that come back at strength {strength:g}"
            figures.append(measured_share(named, int(their), len(held_out)))
        stops, others = self._stops(ours, len(members)), self._stops(theirs, len(held_out))
        reason = (
            f"half of the members stop coming back at {stops}, of the held-out pictures at {others}; "
            f"a member comes back nearer in {told.area:.0%} of pairs ({told.area_low:.0%} to {told.area_high:.0%})"
        )
        return AuditFinding(
            part=self.name,
            outcome=AuditOutcome.MEMORISED if any(more) else leaks(told),
            reason=reason,
            measured=(*figures, *told.measured()),
            source="Meng et al. 2022",
        )

    def _stops(self, back: NDArray[np.int64], of: int) -> str:
        """The lowest strength at which fewer than half come back."""
        for strength, count in zip(self.strengths, back, strict=True):
            if 2 * count < of:
                return f"strength {strength:g}"
        return "no strength"

    def _calls(self, subject: Subject) -> bool:
        pipeline = subject.pipeline
        return (
            self.read is not None
            and takes(pipeline, "image", "strength", "generator")
            and not takes(pipeline, "mask_image")
        )

    def _evaluations(self) -> int:
        return sum(max(1, round(self.steps * strength)) for strength in self.strengths)

    def _returned(self, subject: Subject, asked: Asked, strength: float) -> Pixels:
        """What comes back of each picture: uint8 (B, S, S, 3)."""
        if not self._calls(subject):
            assert subject.denoiser is not None, "one of both ways was found"
            clean = subject.denoiser.encode(asked.pixels)
            back = noised_and_back(subject.denoiser, clean, asked, strength, subject.seed, self.steps)
            return resized(subject.denoiser.decode(back), subject.side_px)
        assert self.read is not None, "calls need a reader"
        made = []
        for picture, caption in zip(asked.pixels, asked.captions, strict=True):
            said: dict[str, Any] = dict(subject.call) | {"generator": torch.Generator().manual_seed(subject.seed)}
            said |= {"image": Image.fromarray(picture), "strength": strength}
            if takes(subject.pipeline, "prompt"):
                said["prompt"] = caption or ""
            made.append(first_picture(self.read(subject.pipeline(**said)), subject.side_px))
        return np.stack(made)


@torch.inference_mode()
def noised_and_back(
    denoiser: DenoiserAccess, clean: Tensor, asked: Asked, strength: float, seed: int, steps: int = _STEPS
) -> Tensor:
    """Pictures noised by a share of the schedule, and denoised again.

    Args:
        denoiser: the network.
        clean: float32 (B, C, H, W), encoded pictures.
        asked: what they were made from.
        strength: 0..1, the share of the schedule; at 1 hardly anything of a picture is left.
        seed: of the noise, the same for all pictures. Deterministic for it.
        steps: of sampling at strength 1; a lower strength takes its share of them.

    Returns:
        float32 (B, C, H, W), encoded.

    Source: Meng et al., "SDEdit: guided image synthesis and editing with stochastic differential equations", ICLR 2022,
    algorithm 1; we differ in stepping by deterministic DDIM, as image-to-image pipelines do.
    """
    alphas = denoiser.alphas
    top = noise_levels(alphas, steps)[0]
    start = float(alphas[round(top * strength)])
    path = noise_levels(alphas, max(1, round(steps * strength)), start)
    noise = torch.randn(clean.shape[1:], generator=torch.Generator().manual_seed(seed)).to(clean).expand_as(clean)
    now = float(alphas[path[0]])
    noisy = now**0.5 * clean + (1 - now) ** 0.5 * noise
    for at, to in zip(path, [*path[1:], -1], strict=True):
        now, then = float(alphas[at]), float(alphas[to]) if to >= 0 else 1.0
        seen = denoiser.predict_noise(noisy, at, asked.captions, asked.labels)
        whole = (noisy - (1 - now) ** 0.5 * seen) / now**0.5
        noisy = then**0.5 * whole + (1 - then) ** 0.5 * seen
    return torch.as_tensor(noisy)


@dataclass(frozen=True, slots=True)
class AdapterSweep:
    """Generates with an adapter at rising weights, and looks at which one its training works begin to come back.

    Attributes:
        read: finds the pictures in what the pipeline returns, see `Maker`.
        works: the pictures that the adapter was trained on, with their captions; None: the subject's training pictures.
        weights: rising, the first 0: what comes back without the adapter is not its doing.
        generations: pictures at each weight, from the same seeds.
        adapter: which of several; None: all that are there, together.
    """

    read: Read
    works: PictureSet | None = None
    weights: tuple[float, ...] = _WEIGHTS
    generations: int = _GENERATIONS_A_WEIGHT
    adapter: str | None = None

    @property
    def name(self) -> str:
        """`adapter`."""
        return "adapter"

    def cost(self, subject: Subject) -> Cost:
        """Generations of all weights; the same for every subject."""
        return Cost(generations=self.generations * len(self.weights))

    def run(self, subject: Subject, budget: Budget, progress: Callable[[int, int], None]) -> AuditFinding:
        """See `AuditPart.run`; memorised where a weight gives works back that weight 0 does not."""
        if not has_adapter(subject.pipeline, self.adapter):
            named = "" if self.adapter is None else f" named {self.adapter!r}"
            return cannot_tell(self.name, f"found no adapter{named} in the pipeline; load it before the audit")
        known = subject.training if self.works is None else self.works
        if not len(known) or not self.weights or self.weights[0] != 0:
            return cannot_tell(self.name, "expected the adapter's training pictures, and weights that begin at 0")
        each = min(self.generations, budget.generations // len(self.weights))
        if each < LEAST_EACH:
            return cannot_tell(self.name, f"the budget gives {each} generations a weight, expected {LEAST_EACH}")
        plan = _plan(subject, known, each)
        if plan is None:
            return cannot_tell(self.name, "expected captions or labels of the adapter's training pictures, found none")
        side = compared_side(subject.side_px)
        works = known.pixels(side)
        maker = Maker(subject.pipeline, self.read, subject.call)
        nearest: list[Values] = []
        for weight in self.weights:
            if budget.is_over():
                break
            with adapter_weights(subject.pipeline, weight, self.adapter):
                made = _made(maker, plan, side)
            nearest.append(likeness(made, works).correlation.max(axis=1).astype(np.float64))
            progress(len(nearest) * each, len(self.weights) * each)
        return _unless_unasked(self._finding(nearest, each), plan, known)

    def _finding(self, nearest: list[Values], each: int) -> AuditFinding:
        hits = [int((near > GIVEN_BACK_ABOVE).sum()) for near in nearest]
        tried = self.weights[: len(hits)]
        figures = tuple(
            measured_share(f"generations that give a work back at weight {weight:g}", hit, each)
            for weight, hit in zip(tried, hits, strict=True)
        )
        starts = [
            weight
            for weight, hit in zip(tried, hits, strict=True)
            if _is_more(hit, each, hits[0], each, looks=max(len(self.weights) - 1, 1))
        ]
        source = "the measure is ours: mean-removed correlation above 0.9, over seeds that all weights share"
        if starts:
            reason = f"from weight {starts[0]:g} on the adapter gives works of its training back"
            return AuditFinding(
                part=self.name, outcome=AuditOutcome.MEMORISED, reason=reason, measured=figures, source=source
            )
        if len(hits) < len(self.weights):
            return cannot_tell(self.name, f"time was up after {len(hits)} of {len(self.weights)} weights", figures)
        most = f"{hits[0]} of {each}; at most {max(hits)}"
        reason = f"no weight up to {tried[-1]:g} gives more works back than weight 0 does ({most})"
        outcome = AuditOutcome.COULD_NOT_TELL if any(hits) else AuditOutcome.CLEAN  # a few are few, and not none
        return AuditFinding(part=self.name, outcome=outcome, reason=reason, measured=figures, source=source)


def has_adapter(pipeline: object, adapter: str | None = None) -> bool:
    """Whether a pipeline's components hold PEFT layers of an adapter; None: of any."""
    return any(True for _ in _layers(pipeline, adapter))


@contextmanager
def adapter_weights(pipeline: object, weight: float, adapter: str | None = None) -> Iterator[int]:
    """Give adapters a weight for a while; afterwards each layer's scaling is what it was.

    Args:
        pipeline: a pipeline whose components may hold PEFT layers.
        weight: 1 is what the adapter was trained at, 0 is without.
        adapter: which of several; None: all.

    Yields:
        How many layers were set.
    """
    before = [(layer, dict(layer.scaling)) for layer, _ in _layers(pipeline, adapter)]
    try:
        for layer, names in _layers(pipeline, adapter):
            for name in names:
                layer.set_scale(name, weight)
        yield len(before)
    finally:
        for layer, scaling in before:
            layer.scaling.update(scaling)


def _layers(pipeline: Any, adapter: str | None) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """PEFT's layers in a pipeline's components, with the adapters to set on each; looked at, not imported."""
    for component in pipeline.components.values():
        if isinstance(component, torch.nn.Module):
            for module in component.modules():
                scaling = getattr(module, "scaling", None)
                if isinstance(scaling, dict) and hasattr(module, "set_scale"):
                    names = tuple(name for name in scaling if adapter in (None, name))
                    if names:
                        yield module, names


def _plan(subject: Subject, works: PictureSet, count: int) -> Plan | None:
    """What is generated at each weight; None where the pipeline takes prompts or labels, and no work has one."""
    kind = asked_with(subject.pipeline)
    prompts = ordered_captions(works.captions, subject.seed) if kind == "prompt" else ()
    labels = ordered_labels(works.labels) if kind == "class_labels" else ()
    if kind != "batch_size" and not prompts and not labels:
        return None
    return Plan(count, subject.seed, prompts=prompts, labels=labels)


def _unless_unasked(finding: AuditFinding, plan: Plan, works: PictureSet) -> AuditFinding:
    """A finding that is clean only where every work was asked for."""
    asks = plan.asks()
    asked = works_asked(works, [ask.prompt for ask in asks], [ask.label for ask in asks])
    if finding.outcome is not AuditOutcome.CLEAN or asked == len(works):
        return finding
    reason = f"{finding.reason}; but only {asked} of {len(works)} works were asked for"
    return finding.model_copy(update={"outcome": AuditOutcome.COULD_NOT_TELL, "reason": reason})


def _made(maker: Maker, plan: Plan, side_px: int) -> Pixels:
    """All pictures of a plan, uint8 (N, side_px, side_px, 3)."""
    asks = plan.asks()
    found: list[Pixels] = []
    for start in range(0, len(asks), _MAKING_AT_ONCE):
        found.extend(first_picture([one], side_px) for one in maker.make(asks[start : start + _MAKING_AT_ONCE]))
    return np.stack(found)


def _is_more(reached: int, of: int, otherwise: int, otherwise_of: int, *, looks: int) -> bool:
    """Whether more reached it than otherwise, by Fisher's exact test, given that it is one of several looks."""
    table = [[reached, of - reached], [otherwise, otherwise_of - otherwise]]
    return float(fisher_exact(table, alternative="greater").pvalue) < BY_CHANCE / looks
