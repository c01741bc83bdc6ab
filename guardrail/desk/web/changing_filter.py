"""A lead changes the filter: a bank's limit, a work or picture that is generic; recorded, live, and taken back alike.

What flags less is recorded before it holds, what flags more holds before it is recorded: whatever ends between the two
leaves a filter that flags as much as the ledger says, or more.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from guardrail.desk.changing import update_works
from guardrail.desk.learning import proposals
from guardrail.desk.web.adding_works import add_work, alone, remove_work
from guardrail.desk.web.changing_works import Asker, reason_of, recorded, restore_work
from guardrail.desk.web.protecting import weakens
from guardrail.errors import GuardrailError, IndexMissing
from guardrail.index import FolderIndex
from guardrail.index.bank_limits import read_bank_limits, write_bank_limits
from guardrail.protocols import WritableIndex
from guardrail.records import BankLimit, Disposition, Signal, Work
from guardrail.review_errors import CaseMissing, ChangeRefused, NotAllowed

if TYPE_CHECKING:
    from guardrail.desk.web.desk import Desk
    from guardrail.memory import ChangeShown
    from guardrail.records import Actor
    from guardrail.study.proposals import Proposal

__all__ = ["GENERIC_BANK", "apply_limit", "mark_picture", "mark_work", "require_lead", "take_back"]

GENERIC_BANK = "generic"  # where generated pictures go that a lead calls generic
_WAIT_S = 10.0  # for another writer of the index
_NOTHING_CHANGED = "nothing was changed"


def require_lead(actor: Actor) -> None:
    """Require a lead (or an admin) who signed in.

    Raises:
        NotAllowed: it is somebody else.
    """
    if actor.role not in ("lead", "admin") or actor.token_id is not None:
        raise NotAllowed("changing the filter", "a lead who signed in")


def apply_limit(desk: Desk, actor: Actor, bank: str, signal: Signal, limit: float, address: str = "") -> str:
    """Put a proposed limit in force, as decisions speak for it now; the next check of every process obeys.

    Args:
        desk: whose organisation's index is limited.
        actor: a lead.
        bank: of the works.
        signal: which is limited.
        limit: the proposed one, as it was shown.
        address: where the request came from.

    Returns:
        The id of the change.

    Raises:
        NotAllowed: the actor may not.
        ChangeRefused: this is proposed no more, or too little is known for it.
        IndexMissing: the index keeps no limits of banks.
        IndexLocked, IndexUnwritable, MemoryUnwritable: nothing holds that did not before.
    """
    require_lead(actor)
    index = _folder_index(desk, actor)
    found, _ = proposals(desk.memory.reviews.decided_pairs(actor.organisation), desk.guard_for(actor.organisation))
    proposal = next((one for one in found if (one.bank, one.signal) == (bank, signal)), None)
    if proposal is None or proposal.limit != limit:
        shown = "none" if proposal is None else f"{proposal.limit:g}"
        raise _refused(f"{bank}, {signal}", f"{shown} as the proposal now", f"{limit:g}: load the page again")
    if proposal.reason_against:
        raise _refused(f"{bank}, {signal}", proposal.reason_against, "more second looks")
    _require_no_override(desk, actor, proposal.bank_limit(""))
    before = _in_force(index, bank, signal)
    facts = _said_of(proposal) | {"before": before.model_dump(mode="json") if before else None}
    with index.writing(_WAIT_S):
        change_id = desk.memory.changes.record(actor, "limit", facts, address=address)
        with_it = _with(index, proposal.bank_limit(change_id))
        _or_take_back(desk, actor, change_id, address, lambda: _write(index, with_it))
    return change_id


def _said_of(proposal: Proposal) -> dict[str, Any]:
    """What the ledger keeps of a proposal: all of it but what is drawn."""
    drawn = ("curve", "placed")
    said = {name: getattr(proposal, name) for name in type(proposal).__dataclass_fields__ if name not in drawn}
    return said | {"signal": str(proposal.signal), "spared_share": proposal.spared / proposal.reviewed}


def _require_no_override(desk: Desk, actor: Actor, limit: BankLimit) -> None:
    said = desk.settings_of(actor.organisation).limits
    if said is not None and limit.field in said.model_fields_set:
        found = f"a limit on {limit.signal} in the settings, which counts more"
        raise _refused(f"{limit.bank}, {limit.signal}", found, "none there")


def mark_work(desk: Desk, asker: Asker, bank: str, work_id: str, case_id: int | None = None) -> None:
    """Call a work generic: it is not protected any more, and explains what comes as near to other works.

    Args:
        desk: whose organisation's index holds it.
        asker: a lead, with a reason.
        bank: of the work.
        work_id: which work.
        case_id: the case that led to it.

    Raises:
        NotAllowed, CaseMissing: the actor may not; there is no such work.
        ChangeRefused: no reason is stated; it is generic already, or its maker opted out, so that it stays protected.
        IndexMissing, IndexLocked, IndexUnwritable, MemoryUnwritable: nothing was changed.
    """
    require_lead(asker.actor)
    index = _writable(desk, asker.actor)
    work = _work(index, bank, work_id)
    if work.disposition is Disposition.IGNORE:
        raise _refused(f"{bank}/{work_id}", "a work that is generic already", "one that is protected or credited")
    if work.opted_out_at is not None:
        raise _refused(f"{bank}/{work_id}", "an opt-out of its maker, which protects it always", "none")
    facts = {"what": "work", "bank": bank, "work_id": work_id, "before": str(work.disposition), "case_id": case_id}
    facts["stated_reason"] = reason_of(asker, f"{bank}/{work_id}", "a work that is called generic")
    said = f"disposition={Disposition.IGNORE}"
    recorded(desk, asker, "generic", facts, lambda: update_works(index, [(bank, work_id)], [said]))


def mark_picture(desk: Desk, asker: Asker, case_id: int) -> None:
    """Call a generated picture generic: it goes to the bank `generic`, and explains what comes as near to works.

    Raises:
        NotAllowed, CaseMissing, PictureMissing: the actor may not; there is no such case, or no picture of it.
        ChangeRefused: no reason is stated, or it is there already.
        IndexMissing, IndexLocked, IndexUnwritable, MemoryUnwritable: nothing was changed.
    """
    actor = asker.actor
    require_lead(actor)
    png = desk.memory.reviews.picture(actor, case_id)
    work = Work(
        work_id=f"case-{case_id}",
        bank=GENERIC_BANK,
        title=f"generic imagery of case {case_id}",
        disposition=Disposition.IGNORE,
    )
    index = _writable(desk, actor)
    if len(index.kept([(work.bank, work.work_id)])):
        raise _refused(f"case {case_id}", "a picture that is generic already", "one that is not")
    facts = {"what": "picture", "bank": work.bank, "work_id": work.work_id, "before": None, "case_id": case_id}
    facts["stated_reason"] = reason_of(asker, f"case {case_id}", "a picture that is called generic")
    recorded(desk, asker, "generic", facts, lambda: add_work(desk, actor.organisation, work, png))


def take_back(desk: Desk, actor: Actor, change_id: str, address: str = "") -> ChangeShown:
    """Take a change back: what was in force before it holds again.

    Returns:
        The change that was taken back.

    Raises:
        NotAllowed, CaseMissing: the actor may not; there is no such change.
        ChangeRefused: it was taken back already, or a later change stands on it.
        IndexMissing, IndexLocked, IndexUnwritable, MemoryUnwritable: the filter flags as much as it did, or more.
    """
    require_lead(actor)
    change = next((one for one in desk.memory.changes.page(actor) if one.change_id == change_id), None)
    if change is None:
        raise CaseMissing(f"change {change_id}")
    if change.undone or change.undoes:
        raise _refused(change_id[:8], "a change that was taken back, or takes one back", "one that stands")
    if change.kind in ("lowered", "replaced", "withdrawn"):
        restore_work(desk, Asker(actor, address=address), change)
        return change
    if change.kind == "limit":
        _restore_limit(desk, actor, change)
    else:
        _restore_generic(desk, actor, change)
    facts = {name: change.facts.get(name) for name in ("bank", "signal", "limit", "work_id", "what")}
    desk.memory.changes.record(actor, change.kind, facts, undoes=change_id, address=address)
    return change


def _restore_generic(desk: Desk, actor: Actor, change: ChangeShown) -> None:
    """Have a work mean what it did before it was called generic; a picture that was, is taken out.

    Raises:
        ChangeRefused: it protects more by now than it would then: that is not what was changed.
    """
    index, before = _writable(desk, actor), change.facts["before"]
    bank, work_id = key = change.facts["bank"], change.facts["work_id"]
    with alone(index):
        for work in index.kept([key]).works:
            after = None if before is None else work.model_copy(update={"disposition": Disposition(before)})
            if weakens(work, after, datetime.now(UTC)):
                found = "a work of which other things are said since"
                raise _refused(f"{bank}/{work_id}", found, "one that is generic; withdraw or replace it by its name")
        if before is None:
            remove_work(desk, actor.organisation, bank, work_id)
        else:
            update_works(index, [key], [f"disposition={before}"])


def _restore_limit(desk: Desk, actor: Actor, change: ChangeShown) -> None:
    index = _folder_index(desk, actor)
    bank, signal = change.facts["bank"], Signal(change.facts["signal"])
    with index.writing(_WAIT_S):
        now = _in_force(index, bank, signal)
        if now is not None and now.change_id != change.change_id:
            raise _refused(
                change.change_id[:8], f"a later change ({now.change_id[:8]}) in force", "that taken back first"
            )
        rest = [one for one in _banks(index) if (one.bank, one.signal) != (bank, signal)]
        if change.facts["before"] is not None:
            rest.append(BankLimit.model_validate(change.facts["before"]))
        _write(index, rest)


def _or_take_back(desk: Desk, actor: Actor, change_id: str, address: str, change: Callable[[], object]) -> None:
    """Do what was recorded of a limit; where it cannot be done, record that it was not."""
    try:
        change()
    except GuardrailError as error:
        facts = {"reason": f"{type(error).__name__}: {_NOTHING_CHANGED}"}
        desk.memory.changes.record(actor, "limit", facts, undoes=change_id, address=address)
        raise


def _in_force(index: FolderIndex, bank: str, signal: Signal) -> BankLimit | None:
    return next((one for one in _banks(index) if (one.bank, one.signal) == (bank, signal)), None)


def _banks(index: FolderIndex) -> tuple[BankLimit, ...]:
    return read_bank_limits(index.folder, index.header)


def _with(index: FolderIndex, limit: BankLimit) -> list[BankLimit]:
    rest = [one for one in _banks(index) if (one.bank, one.signal) != (limit.bank, limit.signal)]
    return [*rest, limit]


def _write(index: FolderIndex, banks: list[BankLimit]) -> None:
    write_bank_limits(index.folder, index.header, sorted(banks, key=lambda one: (one.bank, one.signal)))


def _folder_index(desk: Desk, actor: Actor) -> FolderIndex:
    index = desk.guard_for(actor.organisation).index
    if not isinstance(index, FolderIndex):
        raise IndexMissing(desk.settings_of(actor.organisation).index, "an index that keeps no limits of banks")
    return index


def _writable(desk: Desk, actor: Actor) -> WritableIndex:
    index = desk.guard_for(actor.organisation).index
    if not isinstance(index, WritableIndex):
        raise IndexMissing(desk.settings_of(actor.organisation).index, "an index that cannot be changed")
    return index


def _work(index: WritableIndex, bank: str, work_id: str) -> Work:
    kept = index.kept([(bank, work_id)])
    if not len(kept):
        raise CaseMissing(f"work {bank}/{work_id}")
    return kept.works[0]


def _refused(what: str, found: str, expected: str) -> ChangeRefused:
    return ChangeRefused(what, found, expected)
