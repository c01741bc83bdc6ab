"""What `guardrail attribute fit` and `add` do: join a pipeline, its training pictures, and a folder of gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from guardrail.attribution_errors import AttributionImpossible
from guardrail.desk.attribute_model import AskedModel, attribution_errors, open_model
from guardrail.desk.audit_pictures import Listed, Square, SquareReader, list_pictures
from guardrail.index import FolderIndex
from guardrail.index.works import unnamed_work
from guardrail.settings import Settings
from guardrail.study.attribution.fitting import FitChoices, Fitted, Picture, fit, manifest_of, opened_model
from guardrail.study.attribution.keeping import GradientRows, KeptRow

__all__ = ["AskedFit", "FitReport", "fit_gradients"]

ProgressOf = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]


@dataclass(frozen=True, slots=True)
class AskedFit:
    """What a person asked for.

    Attributes:
        model: to be asked.
        out: the folder of gradients.
        training: where the training pictures are from; see `list_pictures`. None: none.
        captions: a table of captions for them.
        decoys: where pictures are from that the model was not trained on. None: none.
        index: folder of an index that names works by their files; None: as `guardrail index build` names them.
        square: how its trainer made pictures square.
        choices: how gradients are made; None: as those that are in the folder.
        at_once: draws in one pass; None: all.
    """

    model: AskedModel
    out: Path
    training: Path | None
    captions: Path | None = None
    decoys: Path | None = None
    index: Path | None = None
    square: Square = "crop"
    choices: FitChoices | None = None
    at_once: int | None = None


@dataclass(frozen=True, slots=True)
class FitReport:
    """What was done, and what the folder holds now."""

    fitted: Fitted
    images: int
    decoys: int
    parameters: int


def fit_gradients(asked: AskedFit, settings: Settings, progress_of: ProgressOf) -> FitReport:
    """Make the gradients of pictures that are not in a folder yet.

    Raises:
        AttributionImpossible: there is no such pipeline, or there are no pictures.
        GradientsMissing: gradients were to be added to a folder that has none.
        GradientsMismatch: the folder has those of another model, or made otherwise.
    """
    kept = GradientRows(asked.out).manifest if asked.choices is None else None
    with attribution_errors():
        pictures = tuple(_pictures(asked, settings))
    if not pictures:
        raise AttributionImpossible(str(asked.out), "no picture to fit", "some", "name a folder, a table or an index")
    opened = open_model(asked.model)
    manifest = kept or manifest_of(
        opened.access, asked.choices or FitChoices(), Path(asked.model.pipeline).name, opened.adapters
    )
    rows = GradientRows(asked.out, manifest)
    with (
        opened_model(opened.access, manifest, asked.out, asked.at_once) as gradients,
        progress_of("making gradients") as progress,
    ):
        fitted = fit(gradients, pictures, rows, progress)
    decoys = sum(row.decoy for row in rows.rows)
    return FitReport(fitted, len(rows.rows) - decoys, decoys, manifest.parameters)


def _pictures(asked: AskedFit, settings: Settings) -> Iterator[Picture]:
    named = _named_by(asked.index) if asked.index else {}
    if asked.training is not None:
        listed = list_pictures(asked.training, asked.captions, asked.square)
        yield from _listed_pictures(listed, named, settings, decoy=False)
    if asked.decoys is not None:
        listed = list_pictures(asked.decoys, None, asked.square)
        yield from _listed_pictures(listed, {}, settings, decoy=True)


def _listed_pictures(
    listed: Listed, named: Mapping[str, tuple[str, str]], settings: Settings, *, decoy: bool
) -> Iterator[Picture]:
    reader = SquareReader(listed, settings.largest_image_px)
    works = FolderIndex(listed.index).pinned() if listed.index else None
    for at, name in enumerate(listed.names):
        if works is not None:
            work = works.work(listed.rows[at])
            bank, work_id = work.bank, work.work_id
        else:
            bank, work_id = named.get(name, ("default", unnamed_work(name)))
        label = listed.labels[at] if listed.labels else None
        row = KeptRow(work_id=work_id, bank=bank, file=name, label=label, decoy=decoy)
        yield Picture(row, partial(reader.square, at), listed.captions[at])


def _named_by(index: Path) -> dict[str, tuple[str, str]]:
    """Bank and id of the works of an index, by the file that each was read from."""
    pinned = FolderIndex(index).pinned()
    return {file: (work.bank, work.work_id) for file, work in zip(pinned.files, pinned.works, strict=True)}
