"""What `guardrail attribute audit` does: joins a pipeline, its pictures and the study's two ways to test a group."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from guardrail.desk.attribute_audit_words import cautions, outcome_of, reason_of
from guardrail.desk.audit_pictures import Listed, Square, kept_pictures, list_pictures
from guardrail.desk.audit_subject import load_pipeline, model_digest, read_output, versions, weights_digest
from guardrail.errors import AuditImpossible
from guardrail.fingerprint import resolve_device
from guardrail.plugins import build_plugins, make_embedder
from guardrail.records import DisputeReport, DisputeTraining, GroupMove, UnlearnedImage
from guardrail.settings import Settings
from guardrail.study.attribution.access import PipelineAccess
from guardrail.study.attribution.draws import Draws, drawn_for
from guardrail.study.attribution.gradients import chosen_parameters
from guardrail.study.attribution.leaving_out import ALL, GROUP, Runs, Seen, Trial, leave_out, moves_of, plan_of
from guardrail.study.attribution.posterior import Retrieved, retrieve
from guardrail.study.attribution.retraining import Lessons, Recipe, denoising_loss, lora_on, retrained
from guardrail.study.attribution.unlearning import Disputed, loss_rises
from guardrail.study.audit import Maker, PictureSet
from guardrail.study.audit.likeness import resized
from guardrail.study.audit.plan import Ask

__all__ = ["Asked", "Audited", "audit_image"]

_DRAWS = 32  # (timestep, noise) pairs at which losses are taken: three digits of the mean
_COMPARED_PX = 32  # side at which patches are compared, at most; an index keeps its works at the same
_KEPT_PX = 256  # side at which training pictures are kept small, and described, at most
_EMBEDDED_AT_ONCE = 64  # pictures
_VECTORS, _RISES = "vectors.npy", "unlearned.json"

Progress = Callable[[int, int], None]
ProgressOf = Callable[[str], AbstractContextManager[Progress]]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person asked for.

    Attributes:
        model: a folder, or `module:function`.
        training: where the training pictures are from; see `list_pictures`.
        seed: that makes the disputed image.
        image: the disputed image; None: what the seed makes.
        prompt, label: what it is made with.
        call: further keyword arguments of the pipeline's call.
        captions: a table of captions for the training pictures.
        square: how its trainer made pictures square.
        group: names or patterns of the pictures that are left out; empty: the `top` of retrieval.
        top: how many of retrieval's likeliest are left out, where no group is named.
        random: groups of the same size to compare with, >= 9.
        recipe: how it is trained on.
        train: patterns of the weights that are trained and unlearned.
        lora: rank of a LoRA that is trained in their place; 0: none.
        unlearn: candidates whose losses are asked when the image is unlearned; 0: it is not.
        embedder: the copy descriptor.
        work: the folder of everything that is kept.
        minutes: after which no further training starts; None: no such limit.
    """

    model: str
    training: Path
    seed: int
    image: Path | None = None
    prompt: str | None = None
    label: int | None = None
    call: Mapping[str, Any] = field(default_factory=dict)
    captions: Path | None = None
    square: Square = "crop"
    group: tuple[str, ...] = ()
    top: int = 10
    random: int = 19
    recipe: Recipe = field(default_factory=Recipe)
    train: tuple[str, ...] = ("*",)
    lora: int = 0
    unlearn: int = 2000
    embedder: str = "mini"
    work: Path = Path("attribute-audit")
    minutes: float | None = None


class Audited(NamedTuple):
    """A finished audit, with what its page shows.

    Attributes:
        report: the record.
        disputed, made: uint8 (S, S, 3), the disputed image, and what the seed makes of the model as it is.
        after: by name of the training, what the seed makes then.
        training: the training pictures.
    """

    report: DisputeReport
    disputed: NDArray[np.uint8]
    made: NDArray[np.uint8]
    after: dict[str, NDArray[np.uint8]]
    training: PictureSet


class _Case(NamedTuple):
    """The model, the disputed image and the training pictures, ready to be asked."""

    pipeline: Any
    access: PipelineAccess
    weights_sha256: str
    training: PictureSet
    stamp: str
    disputed: NDArray[np.uint8]
    made: NDArray[np.uint8]
    warnings: tuple[str, ...]


def audit_image(asked: Asked, settings: Settings, progress_of: ProgressOf) -> Audited:
    """Carry out what a person asked for; what was done before is taken from the work folder.

    Raises:
        AuditImpossible: there is no such pipeline, image or group, or the model cannot be trained on.
        AttributionImpossible: its denoiser is of a kind that is not understood.
    """
    ends_at = None if asked.minutes is None else time.monotonic() + 60 * asked.minutes
    case = _opened(asked, settings, progress_of)
    describe = _describer(asked.embedder, settings)
    found = _retrieved(asked, case, describe, progress_of)
    group = _group(asked, case.training, found)
    said = _said(asked, case)
    runs = Runs(asked.work, _digest([*said, [case.training.names[at] for at in np.flatnonzero(group)]]))
    plan = plan_of(group, asked.random, asked.recipe.seed)
    with progress_of("preparing training pictures") as progress:
        lessons, image = _lessons(asked, case, progress)
    rises, own_loss = _unlearned(asked, case, (lessons, image), found, said, progress_of)
    with _trained_weights(asked, case.access) as parameters:
        trial = Trial(
            lambda left_out, progress: retrained(case.access, parameters, lessons, asked.recipe, left_out, progress),
            lambda: Seen(_render(asked, case.pipeline, case.access.side_px), denoising_loss(case.access, *image)),
            lambda: ends_at is not None and time.monotonic() >= ends_at,
        )
        with progress_of("training with and without the group") as progress:
            stopped = leave_out(plan, trial, runs, progress)
    moves = tuple(
        GroupMove(measure=one.measure, moved=one.moved, others=one.others, p_value=one.chance)
        for one in moves_of(runs, [*plan], describe)
    )
    images = _images(case.training, found, group, rises)
    report = _report(asked, case, group, moves, (stopped,) if stopped else ())
    drift = _apart(runs[ALL].pixels, case.made) if ALL in runs else None
    report = report.model_copy(update={"images": images, "own_loss": own_loss, "drift_pixels": drift})
    report = report.model_copy(update={"warnings": (*report.warnings, *cautions(report))})
    shown = [name for name in (ALL, GROUP, *plan) if name in runs]
    return Audited(report, case.disputed, case.made, {name: runs[name].pixels for name in shown}, case.training)


def _report(
    asked: Asked, case: _Case, group: NDArray[np.bool_], moves: tuple[GroupMove, ...], stopped: tuple[str, ...]
) -> DisputeReport:
    outcome = outcome_of(moves)
    return DisputeReport(
        outcome=outcome,
        reason=reason_of(outcome, moves, int(group.sum())),
        pipeline=asked.model,
        weights_sha256=case.weights_sha256,
        training=str(asked.training),
        training_pictures=len(case.training),
        image_sha256=hashlib.sha256(case.disputed.tobytes()).hexdigest(),
        seed=asked.seed,
        prompt=asked.prompt,
        class_label=asked.label,
        off_pixels=_apart(case.disputed, case.made),
        group=tuple(case.training.names[at] for at in np.flatnonzero(group)),
        chosen_by="name" if asked.group else "retrieval",
        how=DisputeTraining(
            steps=asked.recipe.steps,
            batch=asked.recipe.batch,
            rate=asked.recipe.rate,
            seed=asked.recipe.seed,
            trained=_trained(asked),
            fresh=asked.recipe.fresh,
        ),
        planned=asked.random,
        moves=moves,
        warnings=(*case.warnings, *stopped),
        versions=versions(),
    )


# --- the case ---------------------------------------------------------------------------------------------------------


def _opened(asked: Asked, settings: Settings, progress_of: ProgressOf) -> _Case:
    device = resolve_device(settings.device)
    listed = list_pictures(asked.training, asked.captions, asked.square)
    pipeline = load_pipeline(asked.model, device)
    access = PipelineAccess(pipeline, str(device))
    side, work = access.side_px, asked.work
    with progress_of("reading training pictures") as progress:
        small = min(_KEPT_PX, side)
        training, unread = kept_pictures(listed, work / "training", small, settings.largest_image_px, progress)
    if not len(training):
        raise AuditImpossible(listed.said, "no picture that can be read", "at least one", "name other pictures")
    warnings = (f"{len(unread)} training pictures could not be read, such as {unread[0]}",) if unread else ()
    made = _render(asked, pipeline, side)
    disputed = made if asked.image is None else _read(asked.image, asked, settings, side)
    return _Case(pipeline, access, weights_digest(pipeline), training, listed.stamp(), disputed, made, warnings)


def _read(path: Path, asked: Asked, settings: Settings, side_px: int) -> NDArray[np.uint8]:
    one = Listed(str(path), path.parent, (path.name,), (None,), square=asked.square)
    kept, _ = kept_pictures(one, asked.work / "image", side_px, settings.largest_image_px, lambda done, total: None)
    if not len(kept):
        raise AuditImpossible(str(path), "no picture that can be read", "the disputed image", "name its file")
    return kept.read(0, side_px)


def _render(asked: Asked, pipeline: Any, side_px: int) -> NDArray[np.uint8]:
    """What the seed makes now: uint8 (S, S, 3)."""
    made = Maker(pipeline, read_output, dict(asked.call)).make([Ask(0, asked.seed, asked.prompt, asked.label)])[0]
    if isinstance(made, str):
        raise AuditImpossible(f"seed {asked.seed}", made, "a picture", "give the options that made the image: --call")
    small: NDArray[np.uint8] = resized(made[None], side_px)[0]
    return small


def _describer(name: str, settings: Settings) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    embedder = make_embedder(build_plugins(), name, resolve_device(settings.device), settings.weights_dir)

    def describe(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        rows = [torch.from_numpy(np.ascontiguousarray(one)).permute(2, 0, 1).contiguous() for one in pixels]
        return embedder.embed(rows)

    return describe


def _retrieved(
    asked: Asked,
    case: _Case,
    describe: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    progress_of: ProgressOf,
) -> Retrieved:
    """The training pictures nearest to the disputed image, ranked by the patch posterior."""
    count, side = len(case.training), min(_KEPT_PX, case.access.side_px)
    path = asked.work / f"{_digest([case.stamp, asked.embedder, side])[:16]}-{_VECTORS}"
    if path.is_file():
        vectors = np.load(path)
    else:
        parts = []
        with progress_of("describing training pictures") as progress:
            for start in range(0, count, _EMBEDDED_AT_ONCE):
                rows = range(start, min(start + _EMBEDDED_AT_ONCE, count))
                parts.append(describe(case.training.pixels(side, rows)))
                progress(rows.stop, count)
        vectors = np.concatenate(parts)
        np.save(path, vectors)
    compared = min(_COMPARED_PX, side)
    disputed = resized(case.disputed[None], side)
    query, alike = resized(disputed, compared)[0], vectors @ describe(disputed)[0]
    return retrieve(alike, query, lambda rows: resized(case.training.pixels(side, rows.tolist()), compared))


def _group(asked: Asked, training: PictureSet, found: Retrieved) -> NDArray[np.bool_]:
    """Which pictures are left out: bool (N,)."""
    if not asked.group:
        return np.isin(np.arange(len(training)), found.rows[: asked.top])
    unknown = [said for said in asked.group if not any(_is_called(name, said) for name in training.names)]
    if unknown:
        raise AuditImpossible(
            "--group", f"no training picture like {unknown[0]!r}", f"names such as {training.names[0]!r}", "correct it"
        )
    return np.array([any(_is_called(name, said) for said in asked.group) for name in training.names])


def _is_called(name: str, said: str) -> bool:
    return name == said or fnmatchcase(name, said)


# --- the two tests ----------------------------------------------------------------------------------------------------


def _lessons(asked: Asked, case: _Case, progress: Progress) -> tuple[Lessons, Disputed]:
    """All training pictures and the disputed image, as the denoiser is given them."""
    access, training, clean = case.access, case.training, []
    for row in range(len(training)):
        clean.append(access.encode(training.read(row, access.side_px)).cpu())
        progress(row + 1, len(training))
    labels = training.labels or (None,) * len(training)
    kept: dict[tuple[str | None, int | None], Any] = {}
    for key in zip(training.captions, labels, strict=True):
        kept[key] = kept[key] if key in kept else access.conditions(*key)
    conditions = tuple(kept[key] for key in zip(training.captions, labels, strict=True))
    draws: Draws = drawn_for(0, access.shape, _DRAWS, asked.recipe.seed)
    image = Disputed(access.encode(case.disputed), draws, access.conditions(asked.prompt, asked.label))
    return Lessons(torch.stack(clean), conditions), image


@contextmanager
def _trained_weights(asked: Asked, access: PipelineAccess) -> Iterator[Mapping[str, torch.nn.Parameter]]:
    if asked.lora:
        with lora_on(access.network, asked.lora, asked.recipe.seed) as added:
            yield added
        return
    yield chosen_parameters(access.network, asked.train)


def _unlearned(
    asked: Asked,
    case: _Case,
    taught: tuple[Lessons, Disputed],
    found: Retrieved,
    said: list[Any],
    progress_of: ProgressOf,
) -> tuple[dict[int, float], tuple[float, ...]]:
    """By row, how far each candidate's loss rises as the image is unlearned; and the image's own, before and after."""
    rows = [int(row) for row in found.rows[: asked.unlearn]]
    if not rows:
        return {}, ()
    path, digest = asked.work / _RISES, _digest([said, rows])
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["sha256"] == digest:
            return dict(zip(rows, map(float, kept["rises"]), strict=True)), tuple(kept["own_loss"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # never done, or cut off: it is done now
    lessons, image = taught
    some = Lessons(lessons.clean[rows], tuple(lessons.conditions[row] for row in rows))
    with progress_of("unlearning the image") as progress:
        parameters = chosen_parameters(case.access.network, asked.train)
        rises, how = loss_rises(case.access, parameters, image, some, None, progress)
    own = (how.loss_before, how.loss_after)
    written = path.with_suffix(".part")
    written.write_text(json.dumps({"sha256": digest, "rises": rises.tolist(), "own_loss": own}), encoding="utf-8")
    written.replace(path)
    return dict(zip(rows, rises.tolist(), strict=True)), own


def _images(
    training: PictureSet, found: Retrieved, group: NDArray[np.bool_], rises: Mapping[int, float]
) -> tuple[UnlearnedImage, ...]:
    """The candidates, the most unlearned first; without unlearning, the likeliest first."""
    listed = [
        UnlearnedImage(
            image=training.names[row],
            in_group=bool(group[row]),
            loss_rise=rises.get(int(row)),
            similarity=float(np.clip(alike, -1, 1)),
            posterior=float(np.clip(weight, 0, 1)),
        )
        for row, alike, weight in zip(found.rows, found.similarities, found.posteriors, strict=True)
    ]
    return tuple(sorted(listed, key=lambda one: -np.inf if one.loss_rise is None else one.loss_rise, reverse=True))


def _said(asked: Asked, case: _Case) -> list[Any]:
    """All that decides what a training gives, but for the group."""
    model = model_digest(case.pipeline, case.weights_sha256)
    image = hashlib.sha256(case.disputed.tobytes()).hexdigest()
    made = [asked.seed, asked.prompt, asked.label, sorted(asked.call.items())]
    return [model, case.stamp, image, made, asdict(asked.recipe), _trained(asked), case.access.side_px, _DRAWS]


def _trained(asked: Asked) -> str:
    if asked.lora:
        return f"a LoRA of rank {asked.lora}"
    return "all" if asked.train == ("*",) else ", ".join(asked.train)


def _digest(said: list[Any]) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()


def _apart(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """The root of the mean squared difference of two pictures, 0..1."""
    return float(np.sqrt(((one / 255 - other / 255) ** 2).mean()))
