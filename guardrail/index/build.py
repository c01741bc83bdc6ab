"""Build an index: fingerprint a source in shards that survive an interruption, or take shards; then stream them in."""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrail.carriers import Fingerprints, ImageBatch, Picture
from guardrail.errors import IndexExists, IndexUnwritable, NothingToIndex
from guardrail.index.chunks import Asked, Shards, fingerprint_source, read_shards
from guardrail.index.layout import MANIFEST
from guardrail.index.recipe import Recipe
from guardrail.index.rows import Survey, Titled
from guardrail.index.shard_list import ShardList
from guardrail.index.store.create import create_store
from guardrail.index.taking import Taken, take
from guardrail.index.works import WorkRow
from guardrail.protocols import Source
from guardrail.records import EmbedderSpec, IndexHeader, Limits, Normalisation, Sampling, Work

__all__ = ["BuildReport", "Builder", "build_from_shards", "build_index", "unwritable"]


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build did: counts, each file that could not be indexed with the reason, and `faint` ones.

    Every file of the source is among the works, the unreadable or those left out. A faint work has too little in it to
    be told from others by its hash: a blank page, a thin line. `hidden` counts the pictures that were left out of the
    background because they are works, or nearly.
    """

    works: int
    resumed: int
    unreadable: tuple[tuple[str, str], ...]
    faint: tuple[str, ...]
    left_out: int
    snapshot: str
    hidden: int = 0


@dataclass(frozen=True, slots=True)
class Builder:
    """What a build is given from other rooms.

    Attributes:
        read: opens what a source's `open` gave as a `Picture`; one that cannot be read comes back with a failure.
        fingerprint: the fingerprinter, made to `embedders` and `hashes`, with the looks that `sampling` gives works.
        embedders: the specification of the vectors.
        hashes: the versions of the hashes.
        limits: the limits that hold before calibration.
        sampling: where the copy descriptor looks.
        normalisation: how similarities are normalised, or None for not at all.
        background: float32 (B, D), unit length copy descriptors of the background, with `normalisation`.
        background_below: a background picture as near as this to a work, by cosine, would hide copies: it is left out.
        spread: does one thing to many, like `map`: one answer each, in order. May use other processes.
    """

    read: Callable[[Any], Picture]
    fingerprint: Callable[[ImageBatch], Fingerprints]
    embedders: Mapping[str, EmbedderSpec]
    hashes: Mapping[str, str]
    limits: Limits
    sampling: Sampling = field(default_factory=Sampling)
    normalisation: Normalisation | None = None
    background: NDArray[np.float32] | None = None
    background_below: float = 1.0
    spread: Callable[[Callable[[Any], Taken], Iterable[Any]], Iterator[Taken]] = map

    def apart_from(self, works: Iterable[NDArray[Any]]) -> tuple["Builder", int]:
        """This builder with the background that is no work, and how many of its pictures were left out.

        Args:
            works: copy descriptors (n, D) of all works, some at a time.

        Raises:
            NothingToIndex: none are left.
        """
        if self.background is None or self.normalisation is None:
            return self, 0
        nearest = np.full(len(self.background), -1, np.float32)
        for some in works:
            nearest = np.maximum(nearest, (self.background @ some.astype(np.float32).T).max(1, initial=-1))
        kept = self.background[nearest < self.background_below]
        if not len(kept):
            raise NothingToIndex("background", "all of its pictures are as near to a work as copies are")
        how = Normalisation(background=len(kept), nearest=min(self.normalisation.nearest, len(kept)))
        return replace(self, background=kept, normalisation=how), len(self.background) - len(kept)

    @property
    def specification(self) -> dict[str, Any]:
        """What fingerprints must have in common to lie in one index."""
        specs = {name: spec.model_dump(mode="json") for name, spec in self.embedders.items()}
        return {"embedders": specs, "hashes": dict(self.hashes), "sampling": self.sampling.model_dump(mode="json")}

    @property
    def header(self) -> IndexHeader:
        """The header of an index without works."""
        return IndexHeader(
            snapshot="0" * 64,
            works=0,
            banks={},
            embedders=dict(self.embedders),
            hashes=dict(self.hashes),
            sampling=self.sampling,
            normalisation=self.normalisation,
            limits=self.limits,
            built_at=datetime.now(UTC),
            unreadable=0,
        )

    def asked(
        self, source: Source, table: Mapping[str, Work], recipe: Recipe, progress: Callable[[int, int], None]
    ) -> Asked:
        """What is to be fingerprinted: the pictures of a source, or those of them that a table lists."""
        return Asked(
            source,
            table,
            recipe.unlisted == "skip",
            self.specification,
            lambda places: self.spread(partial(take, self.read), places),
            self.fingerprint,
            progress,
        )


def build_index(
    source: Source,
    target: Path,
    builder: Builder,
    recipe: Recipe,
    works: Sequence[WorkRow] = (),
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> BuildReport:
    """Build the index of a source of images.

    Fingerprints are kept in `.NAME.partial` beside the target until the index is complete, so that the same command
    goes on after an interruption. The target appears whole or not at all. Memory does not grow with the source.

    Raises:
        IndexExists: something is at the target and `overwrite` is not set.
        NothingToIndex: no image could be read.
        IndexUnwritable: the target's folder cannot be written or is full.
    """
    _require_free(source.location, target, overwrite=overwrite)
    table = {row.file: row.work for row in works}
    unfinished = target.parent / f".{target.name}.partial"
    asked = builder.asked(source, table, recipe, progress)
    try:
        shards = fingerprint_source(asked, unfinished)
        titled = Titled(shards, table, recipe, builder.sampling)
        try:
            return _assembled(target, source.location, titled, builder, overwrite=overwrite)
        finally:
            shards.clear_up()
    except OSError as error:
        raise unwritable(target, error) from error


def build_from_shards(
    shards: ShardList,
    target: Path,
    builder: Builder,
    recipe: Recipe,
    works: Sequence[WorkRow] = (),
    *,
    overwrite: bool = False,
) -> BuildReport:
    """Build an index of fingerprints that were made elsewhere; nothing is fingerprinted here.

    Raises:
        IndexExists, NothingToIndex, IndexUnwritable: see `build_index`.
        IndexDamaged: a shard is missing, cut or edited.
        IndexMismatch: the shards were made to another specification than the recipe's.
    """
    _require_free(shards.location, target, overwrite=overwrite)
    table = {row.file: row.work for row in works}
    unfinished = target.parent / f".{target.name}.partial"
    try:
        unfinished.mkdir(parents=True, exist_ok=True)
        read = read_shards(shards, builder.specification, unfinished / "done.db")
        try:
            _fit_to_table(read, table, recipe)
            titled = Titled(read, table, recipe, builder.sampling)
            return _assembled(target, shards.location, titled, builder, overwrite=overwrite)
        finally:
            read.clear_up()
    except OSError as error:
        raise unwritable(target, error) from error


def _fit_to_table(shards: Shards, table: Mapping[str, Any], recipe: Recipe) -> None:
    """Leave out what the table does not name, where the recipe says so, and miss what it names and is not there."""
    if recipe.unlisted == "skip":
        for columns in shards.rows(("file",)):
            for file in columns["file"]:
                if file not in table:
                    shards.done.leave_out(file)
                    shards.left_out += 1
    failed = {file for file, _ in shards.faults}
    missing = [name for name in table if name not in failed and not shards.done.is_listed(name)]
    shards.faults += [(name, "it is in the works table, and nowhere in the shards") for name in missing]


def _assembled(target: Path, location: str, titled: Titled, builder: Builder, *, overwrite: bool) -> BuildReport:
    """Stream the shards into a new index, and remove the unfinished work."""
    shards = titled.shards
    found: Survey = titled.survey(builder.limits.pdq_quality_at_least)
    unfinished = target.parent / f".{target.name}.partial"
    if not found.works:
        shards.clear_up()
        shutil.rmtree(unfinished)
        raise NothingToIndex(location, f"{len(found.unreadable)} unreadable files")
    builder, hidden = builder.apart_from(titled.copy_vectors())
    snapshot = create_store(
        target,
        builder.header,
        titled.batches(),
        background=builder.background,
        unreadable=found.unreadable,
        overwrite=overwrite,
    )
    shards.clear_up()
    shutil.rmtree(unfinished)
    unreadable, faint = tuple(found.unreadable), tuple(found.faint)
    return BuildReport(found.works, shards.resumed, unreadable, faint, shards.left_out, snapshot, hidden)


def unwritable(target: Path, error: OSError) -> OSError:
    """An error of the disk as one of an index; errors that know better what is wrong stay as they are."""
    ours = type(error).__module__ == IndexUnwritable.__module__
    return error if ours else IndexUnwritable(str(target), str(error))


def _require_free(location: str, target: Path, *, overwrite: bool) -> None:
    """Refuse to write over anything but an index, and asked to."""
    here, there = Path(location).resolve(), target.resolve()
    if here == there or here.is_relative_to(there):
        raise IndexUnwritable(str(target), "the images lie there")
    if target.exists() and not (overwrite and (target / MANIFEST).is_file()):
        raise IndexExists(str(target))
