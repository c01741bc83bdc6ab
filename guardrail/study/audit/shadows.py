"""Likelihood-ratio membership inference (LiRA): what other models, trained with and without a picture, say of its loss.

A picture that is easy has a low loss in every model. Shadow models take that out: of each picture it is asked whether
its loss looks like that of models which were trained on it, or like that of models which were not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from guardrail.errors import AuditImpossible
from guardrail.records import AuditFinding, Measured
from guardrail.study.audit.asks import Budget, Cost, DenoiserAccess, Subject
from guardrail.study.audit.candidates import (
    Asked,
    Candidate,
    batches,
    cannot_tell,
    drawn,
    nearest_timesteps,
    split,
    too_few,
)
from guardrail.study.audit.membership import DRAWS, LEAST_LOSS, LOSS_KEPT, MOST_EACH, denoising_losses
from guardrail.study.audit.telling import LEAST_EACH, area_under, leaks, tell

__all__ = ["MEMBERS_FILE", "Shadow", "ShadowModels", "likelihood_ratios", "read_shadow"]

MEMBERS_FILE = "members.txt"  # in a shadow's folder: names of the pictures it was trained on, one a line
_OWN_SPREAD_FROM = (
    64  # shadows: Carlini et al. 2022, section VI-C, fit a spread a picture from there on, one for all below
)
_LEAST_OUT = 2  # shadows that were not trained on a picture; of one there is no spread
_LEAST_SPREAD = 1e-3  # of the logarithm of a loss: floating point and noise alone vary it by as much

Traits = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shadow:
    """A model of the same kind, and the names of the audited model's pictures that it was trained on."""

    denoiser: DenoiserAccess = field(repr=False)
    members: frozenset[str] = field(repr=False)


class _Ratios(NamedTuple):
    ratios: Traits
    online: bool


@dataclass(frozen=True, slots=True)
class ShadowModels:
    """Tells members from held-out pictures by what shadow models say of each.

    Attributes:
        shadows: three or more models; best each trained on a random half of training and held-out pictures.
        most_each: members, and held-out pictures, that are asked about at most.
    """

    shadows: tuple[Shadow, ...]
    most_each: int = MOST_EACH

    @property
    def name(self) -> str:
        """`shadows`."""
        return "shadows"

    def cost(self, subject: Subject) -> Cost:
        """One evaluation a timestep, draw, model and picture."""
        counts = (min(self.most_each, len(subject.training)), min(self.most_each, len(subject.held_out)))
        return Cost(evaluations=self._each() * sum(counts))

    def run(self, subject: Subject, budget: Budget, progress: Callable[[int, int], None]) -> AuditFinding:
        """See `AuditPart.run`; held-out pictures may be in shadows, only the audited model must not know them."""
        if subject.denoiser is None:
            return cannot_tell(self.name, "this kind of pipeline has no denoiser that can be asked directly")
        if len(self.shadows) <= _LEAST_OUT:
            return cannot_tell(self.name, f"found {len(self.shadows)} shadow models, expected {_LEAST_OUT + 1} or more")
        if reason := too_few(subject):
            return cannot_tell(self.name, reason)
        candidates = self._usable(subject, drawn(subject, min(self.most_each, budget.evaluations // self._each() // 2)))
        models = (subject.denoiser, *(shadow.denoiser for shadow in self.shadows))
        found: list[Traits] = []
        for asked in batches(subject, candidates):
            if budget.is_over():
                break
            found.extend(np.stack([_log_losses(model, asked, subject.seed) for model in models], axis=1))
            progress(len(found), len(candidates))
        asked_about = candidates[: len(found)]
        if min(np.bincount([one.is_member for one in asked_about], minlength=2)) < LEAST_EACH:
            return cannot_tell(self.name, f"{len(found)} pictures could be asked about, too few to tell anything")
        return self._finding(subject, asked_about, np.array(found))

    def _finding(self, subject: Subject, candidates: list[Candidate], losses: Traits) -> AuditFinding:
        ratios, online = likelihood_ratios(losses[:, 0], losses[:, 1:], self._known(subject, candidates))
        members, held_out = split(candidates, ratios)
        told = tell({"likelihood ratio": members}, {"likelihood ratio": held_out}, subject.seed)
        own = area_under(*split(candidates, -losses[:, 0]))
        plain = Measured(name="area, loss alone", value=own, over=len(candidates))
        how = "trained with and without each picture" if online else "trained without each picture"
        reason = (
            f"{len(self.shadows)} models {how} tell a training picture from a held-out one in {told.area:.0%} of pairs "
            f"({told.area_low:.0%} to {told.area_high:.0%}; the loss alone: {own:.0%})"
        )
        return AuditFinding(
            part=self.name,
            outcome=leaks(told),
            reason=reason,
            measured=(*told.measured(), plain),
            source="Carlini et al. 2022",
        )

    def _each(self) -> int:
        return len(LOSS_KEPT) * DRAWS * (1 + len(self.shadows))

    def _usable(self, subject: Subject, candidates: list[Candidate]) -> list[Candidate]:
        """Those that enough shadows were not trained on."""
        without = (~self._known(subject, candidates)).sum(axis=1)
        return [one for one, count in zip(candidates, without, strict=True) if count >= _LEAST_OUT]

    def _known(self, subject: Subject, candidates: list[Candidate]) -> NDArray[np.bool_]:
        """Which shadow was trained on which candidate: bool (N, K)."""
        names = [(subject.training if one.is_member else subject.held_out).names[one.row] for one in candidates]
        known = [[name in shadow.members for shadow in self.shadows] for name in names]
        return np.array(known, bool).reshape(len(names), len(self.shadows))


def likelihood_ratios(losses: Traits, shadows: Traits, known: NDArray[np.bool_]) -> _Ratios:
    """How much likelier each picture's loss is of a model trained on it than of one that was not.

    Args:
        losses: float64 (N,), logarithm of each picture's loss in the audited model.
        shadows: float64 (N, K), likewise in each shadow.
        known: bool (N, K), whether that shadow was trained on that picture; two or more were not, each.

    Returns:
        `ratios`, float64 (N,), the logarithm of the ratio, higher is more like a member; and `online`, whether every
        picture had shadows that were trained on it. Where one had none, ratios are one-sided: how far below the losses
        of models without it, in standard deviations.

    Source: Carlini, Chien, Nasr, Song, Terzis and Tramer, "Membership inference attacks from first principles", 2022,
    algorithm 1 (online) and section VI-A (offline); we differ in taking the logarithm of a diffusion loss, where theirs
    is the logit of a classifier's confidence, because it is as nearly normal.
    """
    out_mean, out_spread = _fitted(shadows, ~known)
    if not known.any(axis=1).all():
        return _Ratios((out_mean - losses) / out_spread, False)
    in_mean, in_spread = _fitted(shadows, known)
    within = norm.logpdf(losses, in_mean, in_spread)
    return _Ratios(np.asarray(within - norm.logpdf(losses, out_mean, out_spread), np.float64), True)


def read_shadow(folder: Path, load: Callable[[Path], DenoiserAccess]) -> Shadow:
    """A shadow from its folder: a saved pipeline, and beside it `MEMBERS_FILE`.

    Args:
        folder: where it lies.
        load: loads the pipeline in a folder and gives access to its denoiser.

    Raises:
        AuditImpossible: the folder has no list of members, or an empty one.
    """
    listed = folder / MEMBERS_FILE
    try:
        names = frozenset(line for line in listed.read_text(encoding="utf-8").splitlines() if line)
    except OSError as error:
        raise _unlisted(folder, f"no {MEMBERS_FILE} ({error.strerror})") from error
    if not names:
        raise _unlisted(folder, f"a {MEMBERS_FILE} that names no picture")
    return Shadow(load(folder), names)


def _unlisted(folder: Path, found: str) -> AuditImpossible:
    wanted = "the names of the training pictures that this shadow model was trained on, one a line"
    return AuditImpossible(str(folder), found, wanted, f"write {MEMBERS_FILE} beside its model_index.json")


def _log_losses(model: DenoiserAccess, asked: Asked, seed: int) -> Traits:
    """The mean logarithm of the loss over timesteps: float64 (B,)."""
    timesteps: Sequence[int] = nearest_timesteps(model.alphas, LOSS_KEPT)
    losses = denoising_losses(model, model.encode(asked.pixels), asked, timesteps, seed)
    return np.asarray(np.log(losses + LEAST_LOSS).mean(axis=1), np.float64)


def _fitted(shadows: Traits, which: NDArray[np.bool_]) -> tuple[Traits, Traits]:
    """Mean and standard deviation of each row's chosen values: float64 (N,) each."""
    counts = which.sum(axis=1)
    means = (shadows * which).sum(axis=1) / np.maximum(counts, 1)
    squares = ((shadows - means[:, None]) ** 2 * which).sum(axis=1)
    if shadows.shape[1] < _OWN_SPREAD_FROM:
        degrees = max(int(np.maximum(counts - 1, 0).sum()), 1)
        spread = np.full(len(shadows), np.sqrt(squares.sum() / degrees))
    else:
        spread = np.sqrt(squares / np.maximum(counts - 1, 1))
    return means, np.maximum(spread, _LEAST_SPREAD)
