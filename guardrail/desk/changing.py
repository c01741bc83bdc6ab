"""Join rooms to change an index: pictures are fingerprinted as it was built, works are described anew."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from guardrail.errors import IndexMissing, SettingsInvalid
from guardrail.index import FolderIndex, Recipe
from guardrail.index.adding import AddReport, ToAdd, add_to_index
from guardrail.index.store.lock import writer_lock
from guardrail.index.works import WorkRow, read_works
from guardrail.plugins import build_plugins, open_index
from guardrail.protocols import Source, WritableIndex
from guardrail.records import IndexChange, Work
from guardrail.settings import Settings

__all__ = ["add_source", "keys_from_file", "open_for_writing", "update_works"]

_FACTS = ("title", "creator", "rights_holder", "licence", "source", "disposition", "opted_out_at", "expires_at")
_WAIT_S = 60.0  # for another writer, between two batches of a long add
_ADDING_LOCK = ".adding.LOCK"  # in the index: one `index add` at a time; other writers do not wait for it
_MOMENTS = ("opted_out_at", "expires_at")


def open_for_writing(location: str) -> WritableIndex:
    """An index that takes works: a folder, or the URL of a backend.

    Raises:
        IndexMissing: there is none, or its backend takes no works.
    """
    index = open_index(build_plugins(()), location)
    if not isinstance(index, WritableIndex):
        raise IndexMissing(location, f"an index that cannot be changed ({type(index).__name__})")
    return index


def add_source(
    source: Source,
    location: str,
    settings: Settings,
    recipe: Recipe,
    table: Path | None,
    *,
    workers: int = 0,
    replace_unnamed: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
    extra_plugins: Iterable[object] = (),
) -> AddReport:
    """Fingerprint a source as an index was built, and add it; see `index.add_to_index`.

    Args:
        source: the pictures.
        location: the index.
        settings: device, batch, and the largest picture.
        recipe: bank, disposition, and what becomes of files that the table does not list; the rest is the index's.
        table: works table, or None.
        workers: processes that read pictures.
        replace_unnamed: see `index.ToAdd`.
        progress: called with (done, total).
        extra_plugins: objects with hook implementations, besides the installed ones.
    """
    from guardrail.desk.making import make_builder  # torch, which other changes do without

    index = open_for_writing(location)
    header = index.header
    like = {
        "embedder": header.embedders["copy"].name,
        "clip": header.embedders["clip"].name if "clip" in header.embedders else "",
        **header.sampling.model_dump(),
    }
    builder = make_builder(settings, recipe.model_copy(update=like), workers=workers, extra_plugins=extra_plugins)
    builder = replace(builder, limits=header.limits)
    rows = read_works(table) if table else ()
    folder = Path(location)
    name = folder.name if isinstance(index, FolderIndex) else "".join(s if s.isalnum() else "-" for s in location)
    unfinished = (folder.parent if isinstance(index, FolderIndex) else Path()) / f".{name}.adding"
    with writer_lock(folder, 0, _ADDING_LOCK) if isinstance(index, FolderIndex) else nullcontext():
        asked = ToAdd(source, recipe, rows, unfinished, replace_unnamed=replace_unnamed)
        report = add_to_index(asked, index, builder, lambda: _alone(index), progress=progress)
    if isinstance(index, FolderIndex):
        index.prepare(progress)
    return report


def keys_from_file(path: Path, bank: str) -> list[tuple[str, str]]:
    """(bank, work_id) of each line of a text file, or of each row of a CSV with a column `work_id` (and `bank`).

    Raises:
        SettingsInvalid: it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsInvalid(str(path), str(error)) from error
    lines = text.splitlines()
    if lines and "work_id" in next(csv.reader(lines[:1])):
        rows = csv.DictReader(lines)
        return [(row.get("bank") or bank, row["work_id"]) for row in rows if row["work_id"]]
    return [(bank, line.strip()) for line in lines if line.strip()]


def update_works(
    index: WritableIndex, keys: Sequence[tuple[str, str]], said: Sequence[str], rows: Sequence[WorkRow] = ()
) -> IndexChange:
    """Say other things of works that an index holds; their fingerprints stay.

    Args:
        index: holds them.
        keys: which works `said` is said of.
        said: `field=value`; an empty value takes it away, `now` is this moment.
        rows: works that are described whole.

    Returns:
        The change; `unknown` are works that are not there.

    Raises:
        SettingsInvalid: no such field, or a value that cannot be used.
    """
    facts = _facts(said)
    wanted: list[tuple[tuple[str, str], Callable[[Work], Work]]] = []
    wanted += [(key, lambda work: _described(work, facts)) for key in keys]
    wanted += [((row.work.bank, row.work.work_id), lambda _, new=row.work: new) for row in rows]  # type: ignore[misc]
    header = index.header
    change, unknown = IndexChange(snapshot=header.snapshot, works=header.works), []
    for key, describe in wanted:
        with _alone(index):  # nobody changes the work between reading and writing
            kept = index.kept([key])
            if not len(kept):
                unknown.append("/".join(key))
                continue
            done = index.put(replace(kept, works=(describe(kept.works[0]),)))
        change = done.model_copy(
            update={"replaced": change.replaced + done.replaced, "unchanged": change.unchanged + done.unchanged}
        )
    return change.model_copy(update={"unknown": tuple(unknown)})


def _alone(index: WritableIndex) -> AbstractContextManager[None]:
    """Be the only writer for a moment, where the index has such a lock."""
    return index.writing(_WAIT_S) if isinstance(index, FolderIndex) else nullcontext()


def _facts(said: Sequence[str]) -> dict[str, object]:
    facts: dict[str, object] = {}
    for one in said:
        name, equals, value = one.partition("=")
        if not equals or name not in _FACTS:
            raise SettingsInvalid(f"--set {one}", f"expected FIELD=VALUE with one of {', '.join(_FACTS)}")
        facts[name] = _moment(one, value) if name in _MOMENTS else value
    return facts


def _moment(said: str, value: str) -> datetime | None:
    if not value:
        return None
    if value == "now":
        return datetime.now(UTC)
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise SettingsInvalid(f"--set {said}", f"{error}; expected a date such as 2027-01-31, or now") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _described(work: Work, facts: dict[str, object]) -> Work:
    try:
        return Work.model_validate(work.model_dump() | facts)
    except ValidationError as error:
        raise SettingsInvalid(f"--set of {work.work_id!r}", str(error)) from error
