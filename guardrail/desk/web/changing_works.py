"""Works come and go at the desk; where less is protected then, by a lead, for a reason, and in the ledger first.

A work that protects is withdrawn, gets another picture, or is lowered; and a work that comes in as generic or licensed
explains away what comes near to others. All of these are changes of the filter, whoever asks, by page or by token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from guardrail.desk.web.adding_works import alone, prints_of, rows_of, writable
from guardrail.desk.web.protecting import explains, protects, weakens
from guardrail.errors import GuardrailError, PictureNotKept
from guardrail.index import FolderIndex
from guardrail.records import Signal, Work
from guardrail.review_errors import ChangeRefused

if TYPE_CHECKING:
    from guardrail.carriers import IndexRows
    from guardrail.desk.web.desk import Desk
    from guardrail.guard import Guard
    from guardrail.memory import ChangeKind, ChangeShown
    from guardrail.protocols import WritableIndex
    from guardrail.records import Actor, IndexChange

__all__ = ["Asker", "put_work", "reason_of", "recorded", "restore_work", "why_not_back", "withdraw_work"]

_REASON_LETTERS = (3, 1000)  # of what is stated: enough to say something, and no file
_NEAREST = 1  # works that a search gives besides those of the very same picture, which it gives all
_NOTHING_CHANGED = "nothing was changed"
_PURGED = "an index that keeps no picture of it any more"
_Done = TypeVar("_Done")
_NOT_THERE: dict[str, Any] = {"before": None, "pixels_before": None, "row": None}  # of a work, before a change
_GONE: dict[str, Any] = {"after": None, "pixels_after": None}  # the same after one

_IS = {
    "withdrawn": "the withdrawal of a work that protects",
    "replaced": "another picture in the place of this one",
    "lowered": "a work that protects less than before, or explains likenesses to others",
}


@dataclass(frozen=True, slots=True)
class Asker:
    """Who wants a change of the filter, why, and from where.

    Attributes:
        actor: a lead, or a token of theirs that may write works.
        reason: as it was stated; empty where none was.
        address: where the request came from.
    """

    actor: Actor
    reason: str = ""
    address: str = ""


def reason_of(asker: Asker, named: str, wanted: str) -> str:
    """The reason that somebody states, with single blanks.

    Args:
        asker: states it.
        named: what is changed.
        wanted: the change, in words.

    Raises:
        ChangeRefused: there is none of 3 to 1,000 characters that can be printed.
    """
    reason = " ".join(asker.reason.split())
    least, most = _REASON_LETTERS
    if not least <= len(reason) <= most or not reason.isprintable():
        found = f"{wanted} with a reason of {len(reason):,} characters" if reason else f"{wanted} without a reason"
        raise ChangeRefused(named, found, f"a reason of {least} to {most:,} characters, which the ledger keeps")
    return reason


def put_work(desk: Desk, asker: Asker, work: Work, content: bytes) -> IndexChange:
    """Put a work into the organisation's index, in the place of one of the same bank and id; live when it returns.

    Args:
        desk: whose guard, and embedders, are used.
        asker: a reason counts only where less is protected afterwards.
        work: whose it is, and what a match with it means.
        content: an image file.

    Raises:
        ImageUnreadable: it is no picture, or has no fingerprint.
        ChangeRefused: less would be protected and no reason is stated; or it shows what its maker opted out.
        NotAllowed, MemoryUnwritable: less would be protected, and that cannot be recorded; nothing was changed.
        IndexLocked, IndexUnwritable, IndexMismatch, IndexMissing: nothing was changed.
    """
    guard = desk.guard_for(asker.actor.organisation)
    index = writable(guard)
    rows = rows_of(guard, work, content)
    with alone(index):
        key, (pixels,) = (work.bank, work.work_id), rows.pixels_sha256
        kept, stood = index.kept([key]), desk.memory.changes.of_work(asker.actor.organisation, *key, pixels)
        rows = _as_often(rows, kept, stood)
        kind, facts = _change(index, kept, rows) if len(kept) else _arrival(rows, stood)
        if explains(work, datetime.now(UTC)):
            facts["same_picture"] = _same_picture(desk, guard, work, content, stood)
        if kind is None:
            return index.put(rows)
        facts["stated_reason"] = reason_of(asker, f"{work.bank}/{work.work_id}", _IS[kind])
        return recorded(desk, asker, kind, facts, lambda: index.put(rows))


def withdraw_work(desk: Desk, asker: Asker, bank: str, work_id: str) -> IndexChange:
    """Take a work out of the organisation's index; `unknown` names it where it is not there.

    Raises:
        ChangeRefused: it protects, and no reason is stated.
        NotAllowed, MemoryUnwritable: it protects, and the withdrawal cannot be recorded; nothing was changed.
        IndexLocked, IndexUnwritable, IndexMissing: nothing was changed.
    """
    index, key = writable(desk.guard_for(asker.actor.organisation)), (bank, work_id)
    with alone(index):
        kept = index.kept([key])
        if not len(kept) or not weakens(kept.works[0], None, datetime.now(UTC)):
            return index.withdraw([key])
        facts = _before(index, kept) | {"stated_reason": reason_of(asker, f"{bank}/{work_id}", _IS["withdrawn"])}
        return recorded(desk, asker, "withdrawn", facts, lambda: index.withdraw([key]))


def recorded(
    desk: Desk,
    asker: Asker,
    kind: ChangeKind,
    facts: Mapping[str, Any],
    change: Callable[[], _Done],
    undoes: str | None = None,
) -> _Done:
    """Record a change, then make it; where it cannot be made, record that it was not.

    Raises:
        NotAllowed, MemoryUnwritable: it was not recorded, and not made.
        GuardrailError: what `change` raised.
    """
    changes = desk.memory.changes
    change_id = changes.record(asker.actor, kind, facts, undoes=undoes, address=asker.address)
    try:
        return change()
    except GuardrailError as error:
        not_made = {name: facts[name] for name in ("bank", "work_id") if name in facts}
        not_made["reason"] = f"{type(error).__name__}: {_NOTHING_CHANGED}"
        changes.record(asker.actor, kind, not_made, undoes=change_id, address=asker.address)
        raise


# --- what protects less ---------------------------------------------------------------------------------------


def _as_often(rows: IndexRows, kept: IndexRows, stood: Sequence[ChangeShown]) -> IndexRows:
    """A work with the multiplicity that the same picture had under its id: forms do not say it, and policies ask it."""
    (work,) = rows.works
    known = [work.multiplicity]
    if len(kept) and _same_pixels(kept, rows):
        known.append(kept.works[0].multiplicity)
    for one in stood:
        before = one.facts["before"] if one.facts["pixels_before"] == rows.pixels_sha256[0] else None
        if not len(kept) and before and _key_of(one) == (work.bank, work.work_id):
            known.append(Work.model_validate(before).multiplicity)
    return replace(rows, works=(work.model_copy(update={"multiplicity": max(known)}),))


def _change(index: WritableIndex, kept: IndexRows, rows: IndexRows) -> tuple[ChangeKind | None, dict[str, Any]]:
    """What putting a work in the place of one that is there means: which kind of change, and what it was and is.

    Returns:
        The kind, None where as much is protected as before, or more; and the facts for the ledger.
    """
    now, facts = datetime.now(UTC), _before(index, kept) | _after(rows)
    if not _same_pixels(kept, rows):
        less = weakens(kept.works[0], None, now) or weakens(None, rows.works[0], now)
        return "replaced" if less else None, facts
    return "lowered" if weakens(kept.works[0], rows.works[0], now) else None, facts


def _arrival(rows: IndexRows, stood: Sequence[ChangeShown]) -> tuple[ChangeKind | None, dict[str, Any]]:
    """What putting a work that is not there means; one that was withdrawn is held against what it was.

    Args:
        rows: the work.
        stood: changes of works that stand.
    """
    (work,), now = rows.works, datetime.now(UTC)
    latest = next((one for one in stood if _key_of(one) == (work.bank, work.work_id)), None)
    said = latest and (latest.facts["after"] or latest.facts["before"])
    former = Work.model_validate(said) if said else None
    facts = _NOT_THERE | _after(rows) | {"former": said or None}
    return "lowered" if weakens(former, work, now) or weakens(None, work, now) else None, facts


def _same_picture(
    desk: Desk, guard: Guard, work: Work, content: bytes, stood: Sequence[ChangeShown]
) -> tuple[str, ...]:
    """The other works, `bank/work_id`, that show this very picture and protect it, or did until a change that stands.

    Raises:
        ChangeRefused: the maker of one that is there opted out.
    """
    now, own = datetime.now(UTC), (work.bank, work.work_id)
    (near,) = guard.index.search(prints_of(guard, work.work_id, content), _NEAREST)
    there = {one.work for one in near if one.signal in (Signal.BYTES, Signal.PIXELS)}
    others = [one for one in there if (one.bank, one.work_id) != own and protects(one, now)]
    for one in others:
        if one.opted_out_at is not None:
            found = f"the picture of {one.bank}/{one.work_id}, whose maker opted out"
            raise ChangeRefused(f"{work.bank}/{work.work_id}", found, "another picture, for this one stays protected")
    gone = {"/".join(_key_of(one)) for one in stood if _key_of(one) != own and one.kind in ("withdrawn", "replaced")}
    return tuple(sorted(gone | {f"{one.bank}/{one.work_id}" for one in others}))


def _before(index: WritableIndex, kept: IndexRows) -> dict[str, Any]:
    """What a work is before a change, and its row: an index in a folder gives it back until that is purged."""
    work = kept.works[0]
    row = index.pinned().state.find_key(work.bank, work.work_id) if isinstance(index, FolderIndex) else None
    said = {"bank": work.bank, "work_id": work.work_id, "before": work.model_dump(mode="json")}
    return said | {"pixels_before": kept.pixels_sha256[0], "row": row} | _GONE


def _after(rows: IndexRows) -> dict[str, Any]:
    """What a work is after a change."""
    work = rows.works[0]
    said = {"bank": work.bank, "work_id": work.work_id, "after": work.model_dump(mode="json")}
    return said | {"pixels_after": rows.pixels_sha256[0]}


def _key_of(change: ChangeShown) -> tuple[str, str]:
    return change.facts["bank"], change.facts["work_id"]


def _same_pixels(kept: IndexRows, rows: IndexRows) -> bool:
    """Whether both show one picture to the pixel; of works from hash lists nobody knows."""
    return kept.pixels_sha256[0] is not None and kept.pixels_sha256 == rows.pixels_sha256


# --- taking back ----------------------------------------------------------------------------------------------


def why_not_back(index: object, change: ChangeShown) -> str:
    """Why the index cannot give back what a work was before a change; empty where it can."""
    needs_no_row = change.kind == "lowered" or change.facts["before"] is None
    return "" if needs_no_row or _row_before(index, change) is not None else _PURGED


def _row_before(index: object, change: ChangeShown) -> IndexRows | None:
    """The row that a work had before a change; None where the index has purged it, or gives none back."""
    facts = change.facts
    if facts["row"] is None or not isinstance(index, FolderIndex):
        return None
    try:
        (rows,) = index.pinned().export_batches([facts["row"]])
    except PictureNotKept:
        return None
    was = Work.model_validate(facts["before"]), facts["pixels_before"]
    return rows if (rows.works[0], rows.pixels_sha256[0]) == was else None


def restore_work(desk: Desk, asker: Asker, change: ChangeShown) -> None:
    """Take a change of a work back: it is as it was before, or not there where it was not.

    What lets less pass holds before it is recorded; what lets more pass, as when another picture is taken out again, is
    recorded first.

    Raises:
        ChangeRefused: the work is another one by now, or the index has purged what it was.
        NotAllowed, MemoryUnwritable, IndexLocked, IndexUnwritable: as much is protected as before, or more.
    """
    index, key = writable(desk.guard_for(asker.actor.organisation)), _key_of(change)
    back = {"bank": key[0], "work_id": key[1]}
    with alone(index):
        kept = index.kept([key])
        rows = _rows_before(index, change, kept)

        def restored() -> None:
            index.put(rows) if rows is not None else index.withdraw([key])

        if _lets_more_pass(kept, rows):
            recorded(desk, asker, change.kind, back, restored, change.change_id)
            return
        restored()
        desk.memory.changes.record(asker.actor, change.kind, back, undoes=change.change_id, address=asker.address)


def _rows_before(index: WritableIndex, change: ChangeShown, kept: IndexRows) -> IndexRows | None:
    """What is put back; None where the work was not there before.

    Raises:
        ChangeRefused: the work is not as the change left it, or what it was is purged.
    """
    facts, named = change.facts, "/".join(_key_of(change))
    left = (Work.model_validate(facts["after"]), facts["pixels_after"]) if facts["after"] else None
    if left != ((kept.works[0], kept.pixels_sha256[0]) if len(kept) else None):
        raise ChangeRefused(named, "a work that is not as this change left it", "later changes taken back first")
    if facts["before"] is None:
        return None
    if change.kind == "lowered":
        return replace(kept, works=(Work.model_validate(facts["before"]),))
    rows = _row_before(index, change)
    if rows is None:
        raise ChangeRefused(named, _PURGED, "one that it keeps; add the work anew")
    return rows


def _lets_more_pass(kept: IndexRows, rows: IndexRows | None) -> bool:
    """Whether what was before a change, None where nothing was, lets more pass than what is kept now."""
    now = datetime.now(UTC)
    is_now = kept.works[0] if len(kept) else None
    before = rows.works[0] if rows is not None else None
    if len(kept) and rows is not None and not _same_pixels(kept, rows):
        return weakens(is_now, None, now) or weakens(None, before, now)
    return weakens(is_now, before, now)
