"""What `guardrail audit` does: joins a pipeline, its pictures, guardrail's own look and the parts of the study."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from guardrail.desk.audit_claim import keep_claim_audit
from guardrail.desk.audit_look import open_look
from guardrail.desk.audit_parts import Given, further_parts, parts_left_out
from guardrail.desk.audit_pictures import Listed, Square, kept_pictures, list_pictures
from guardrail.desk.audit_subject import load_pipeline, model_digest, read_output, versions, weights_digest
from guardrail.errors import AuditImpossible
from guardrail.fingerprint import resolve_device
from guardrail.records import AuditReport
from guardrail.settings import Settings
from guardrail.study.audit import (
    Audit,
    AuditPart,
    Budget,
    Extraction,
    Generations,
    Keeping,
    Maker,
    PictureSet,
    Plan,
    Repetition,
    Subject,
    access_to,
    asked_with,
    ordered_captions,
    ordered_labels,
    run_audit,
    side_of,
)
from guardrail.study.audit.wording import counted

__all__ = ["PARTS", "Asked", "Audited", "audit_model"]

_MOST_SIDE_PX = 256  # generations and training pictures are kept at this side at most: 200 kB each
_FEWEST_SIDE_PX = 8
ProgressOf = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
PARTS = ("extraction", "repetition")
"""The parts that need nothing but generations and training pictures, in the order they are asked."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person asked for.

    Attributes:
        model: a folder, or `module:function`.
        training: where the training pictures are from; see `list_pictures`.
        captions: a table of captions for them.
        held_out: where pictures are from that the model was not trained on.
        work: the folder of everything that is kept.
        generations: how many are made.
        seeds_each: how many in a row with one prompt or label, before the next one's turn.
        minutes: after which no further call starts; None: no such limit.
        seed: of the first generation.
        call: keyword arguments of every call of the pipeline.
        batch: pictures a call.
        side_px: of the pictures the model makes; 0: as it says itself.
        square: how its trainer made pictures square.
        fingerprints: whether guardrail's own look is asked for.
        further: parts that are asked beside those of `PARTS`.
    """

    model: str
    training: Path
    captions: Path | None = None
    held_out: Path | None = None
    work: Path = Path("audit")
    generations: int = 256
    seeds_each: int = 1
    minutes: float | None = None
    seed: int = 0
    call: Mapping[str, Any] = field(default_factory=dict)
    batch: int = 8
    side_px: int = 0
    square: Square = "crop"
    fingerprints: bool = True
    further: Given = field(default_factory=Given)


@dataclass(frozen=True, slots=True)
class Audited:
    """An audit that was carried out, with what a report shows beside its figures."""

    report: AuditReport
    subject: Subject


def audit_model(asked: Asked, settings: Settings, progress_of: ProgressOf) -> Audited:
    """Carry out what a person asked for.

    Raises:
        AuditImpossible: there is no such pipeline, it cannot be called, or there are no pictures.
    """
    ends_at = None if asked.minutes is None else time.monotonic() + 60 * asked.minutes
    device = resolve_device(settings.device)
    training_list = list_pictures(asked.training, asked.captions, asked.square)
    held_out_list = list_pictures(asked.held_out, None, asked.square) if asked.held_out else None
    pipeline = load_pipeline(asked.model, device)
    side = min(_MOST_SIDE_PX, max(_FEWEST_SIDE_PX, asked.side_px or side_of(pipeline)))
    training, warnings = _kept(training_list, "training", asked, settings, side, progress_of)
    held_out, more = _kept(held_out_list, "held-out", asked, settings, side, progress_of)
    weights = weights_digest(pipeline)
    plan = _plan(asked, pipeline, side, model_digest(pipeline, weights), training)
    keeping = Keeping(asked.work, plan)
    subject = _subject(asked, pipeline, plan, training, held_out, str(device))
    further = further_parts(asked.further, subject)
    report = run_audit(
        Audit(
            subject=subject,
            maker=Maker(pipeline, read_output, dict(plan.call)),
            keeping=keeping,
            parts=(*_first_parts(asked, training_list, training, settings, progress_of), *further),
            batch=asked.batch,
            budget=Budget(ends_at=ends_at),
            training=str(asked.training),
            weights_sha256=weights,
            warnings=(*warnings, *more),
            left_out=parts_left_out(asked.further, subject, further),
            versions=versions(),
        ),
        progress_of,
    )
    report = keep_claim_audit(asked.model, asked.further.claim, report)
    return Audited(report, replace(subject, generated=keeping.generations()))


def _subject(
    asked: Asked, pipeline: Any, plan: Plan, training: PictureSet, held_out: PictureSet, device: str
) -> Subject:
    """What is audited, before anything was generated."""
    side = plan.side_px
    return Subject(
        pipeline=pipeline,
        name=asked.model,
        training=training,
        held_out=held_out,
        generated=Generations(np.zeros((0, side, side, 3), np.uint8), (), (), (), ()),
        side_px=side,
        seed=asked.seed,
        device=device,
        denoiser=access_to(pipeline, device),
        call=dict(plan.call),
    )


def _kept(
    listed: Listed | None, role: str, asked: Asked, settings: Settings, side: int, progress_of: ProgressOf
) -> tuple[PictureSet, tuple[str, ...]]:
    """The pictures of a role, and a warning where some could not be read."""
    if listed is None:
        return PictureSet((), (), lambda row, side_px: np.zeros((side_px, side_px, 3), np.uint8)), ()
    with progress_of(f"reading {role} pictures") as progress:
        pictures, unread = kept_pictures(listed, asked.work / role, side, settings.largest_image_px, progress)
    if not len(pictures):
        raise AuditImpossible(listed.said, "no picture that can be read", "at least one", "name other pictures")
    if not unread:
        return pictures, ()
    return pictures, (f"{counted(len(unread), f'{role} picture')} could not be read, such as {unread[0]}",)


def _plan(asked: Asked, pipeline: Any, side: int, model_sha256: str, training: PictureSet) -> Plan:
    kind = asked_with(pipeline)
    prompts = ordered_captions(training.captions, asked.seed) if kind == "prompt" else ()
    labels = ordered_labels(training.labels) if kind == "class_labels" else ()
    if kind == "prompt" and not prompts:
        raise AuditImpossible(
            asked.model,
            "a pipeline that takes prompts, and no caption",
            "the captions that the model was trained with",
            "name a table with --captions",
        )
    if kind == "class_labels" and not labels:
        raise AuditImpossible(
            asked.model,
            "a pipeline that takes class labels, and no label",
            "the class labels that the model was trained with",
            "name a .csv with the columns file and label, as --training or with --captions",
        )
    return Plan(
        count=asked.generations,
        seed=asked.seed,
        prompts=prompts,
        labels=labels,
        each=asked.seeds_each,
        call=dict(asked.call),
        side_px=side,
        model_sha256=model_sha256,
        training_sha256=_digest(training) if prompts or labels else "",
    )


def _digest(training: PictureSet) -> str:
    """Of what decides the prompts: which captions and labels there are."""
    return hashlib.sha256(repr((training.names, training.captions, training.labels)).encode()).hexdigest()


def _first_parts(
    asked: Asked, listed: Listed, training: PictureSet, settings: Settings, progress_of: ProgressOf
) -> tuple[AuditPart, ...]:
    if not asked.fingerprints:
        return Extraction(), Repetition()
    with progress_of("fingerprinting training pictures") as progress:
        look = open_look(listed, training.names, asked.work, settings, progress)
    return Extraction(recognise=look), Repetition()
