"""Add the pictures of a source to an index that is there: fingerprint them in shards, then put them batch by batch."""

import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from guardrail.carriers import IndexRows
from guardrail.errors import IndexMismatch
from guardrail.index.build import Builder, unwritable
from guardrail.index.chunks import fingerprint_source
from guardrail.index.recipe import Recipe
from guardrail.index.rows import Titled
from guardrail.index.store.writing import picked
from guardrail.index.works import WorkRow, unnamed_work
from guardrail.protocols import Source, WritableIndex
from guardrail.records import IndexChange, IndexHeader

__all__ = ["AddReport", "ToAdd", "add_to_index", "require_specification"]

_HOW_TO_NAME = "give it a work_id in a works table, or say --replace"


@dataclass(frozen=True, slots=True)
class AddReport:
    """What adding did: the change, each file that could not be added with the reason, and faint ones.

    See `BuildReport` for what a faint work is, and for `left_out`.
    """

    change: IndexChange
    unreadable: tuple[tuple[str, str], ...]
    faint: tuple[str, ...]
    left_out: int


def require_specification(place: str, header: IndexHeader, builder: Builder) -> None:
    """Require that a builder makes fingerprints like those of an index.

    Raises:
        IndexMismatch: they are of another embedder, weights, preprocessing, hash version or sampling.
    """
    for built, made in (
        (header.embedders, dict(builder.embedders)),
        (header.hashes, dict(builder.hashes)),
        (header.sampling, builder.sampling),
    ):
        if built != made:
            raise IndexMismatch(place, _said(built), _said(made))


def _said(what: object) -> str:
    return ", ".join(f"{key}: {value}" for key, value in what.items()) if isinstance(what, dict) else str(what)


@dataclass(frozen=True, slots=True)
class ToAdd:
    """What is added.

    Attributes:
        source: lists the pictures.
        recipe: bank and disposition of works that nothing is said of.
        works: who made which file.
        unfinished: folder for fingerprints until all are in, so that the same command goes on after an interruption.
        replace_unnamed: whether another picture may take the place of a work that was given no id: such a work is
            called by its path below its source, and two folders have an IMG_0001.jpg each.
    """

    source: Source
    recipe: Recipe
    works: Sequence[WorkRow]
    unfinished: Path
    replace_unnamed: bool = False


def add_to_index(
    asked: ToAdd,
    index: WritableIndex,
    builder: Builder,
    alone: Callable[[], AbstractContextManager[None]] = nullcontext,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> AddReport:
    """Add every picture of a source. Those of a work that is there take its place; the same ones change nothing.

    Args:
        asked: see there.
        index: takes them.
        builder: fingerprints them, to the index's specification.
        alone: what is held while a batch is put.
        progress: called with (done, total).

    Raises:
        IndexMismatch: the builder makes other fingerprints than the index holds.
        IndexLocked, IndexUnwritable: the index, or the folder for unfinished work, cannot be written.
    """
    source, recipe, unfinished = asked.source, asked.recipe, asked.unfinished
    require_specification(source.location, index.header, builder)
    table = {row.file: row.work for row in asked.works}
    try:
        shards = fingerprint_source(builder.asked(source, table, recipe, progress), unfinished)
        titled = Titled(shards, table, recipe, builder.sampling)
        try:
            found = titled.survey(builder.limits.pdq_quality_at_least)
            change = IndexChange(snapshot=index.header.snapshot, works=index.header.works)
            refused: list[tuple[str, str]] = []
            for batch in titled.batches():
                with alone():
                    taken = batch if asked.replace_unnamed else _without_others(batch, index, refused)
                    change = _sum(change, index.put(taken))
        finally:
            shards.clear_up()
        shutil.rmtree(unfinished)
    except OSError as error:
        raise unwritable(unfinished, error) from error
    return AddReport(change, (*found.unreadable, *refused), tuple(found.faint), shards.left_out)


def _without_others(batch: IndexRows, index: WritableIndex, refused: list[tuple[str, str]]) -> IndexRows:
    """A batch without works that have no id of their own and would take the place of another picture."""
    unnamed = {
        (work.bank, work.work_id): at
        for at, (work, file) in enumerate(zip(batch.works, batch.files, strict=True))
        if work.work_id == unnamed_work(file)
    }
    there = index.kept(list(unnamed))
    others = set()
    for work, pixels in zip(there.works, there.pixels_sha256, strict=True):
        at = unnamed[work.bank, work.work_id]
        if pixels != batch.pixels_sha256[at]:
            others.add(at)
            refused.append((batch.files[at], f"another picture is {work.bank}/{work.work_id}: {_HOW_TO_NAME}"))
    return picked(batch, [at for at in range(len(batch)) if at not in others])


def _sum(one: IndexChange, other: IndexChange) -> IndexChange:
    counts = {name: getattr(one, name) + getattr(other, name) for name in ("added", "replaced", "unchanged")}
    return other.model_copy(update=counts)
