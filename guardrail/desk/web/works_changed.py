"""What was done to works that protect, as a page tells it: who, what, why, and whether it can be taken back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guardrail.desk.web.changing_works import why_not_back
from guardrail.records import Work

if TYPE_CHECKING:
    from guardrail.desk.web.desk import Desk
    from guardrail.memory import ChangeShown
    from guardrail.records import Actor

__all__ = ["WorkChange", "changes_of_works"]

_SHOWN = 200  # changes, the latest
_MEANS = {"protect": "protected", "credit": "licensed, credited", "ignore": "generic"}
_DONE = {"withdrawn": "was withdrawn", "replaced": "got another picture", "lowered": "protects less"}


@dataclass(frozen=True, slots=True)
class WorkChange:
    """One change of a work.

    Attributes:
        change: as the ledger has it.
        who: name of the person, and that a token of theirs did it.
        named: `bank/work_id`.
        done: what became of the work, in words.
        was: what was said of the work before; empty where nothing was known.
        now: what is said of it since; empty where it was withdrawn.
        reason: as it was stated.
        also: other works that show the very picture and are protected, or were.
        not_back: why it cannot be taken back; empty where it can.
    """

    change: ChangeShown
    who: str
    named: str
    done: str
    was: str
    now: str
    reason: str
    also: tuple[str, ...]
    not_back: str


def changes_of_works(desk: Desk, actor: Actor) -> tuple[WorkChange, ...]:
    """The latest changes by which works of the actor's organisation were less protected, newest first.

    Raises:
        MemoryUnwritable: they cannot be read.
    """
    index = desk.guard_for(actor.organisation).index
    names = desk.memory.accounts.names(actor.organisation)
    found = desk.memory.changes.page(actor, "lowered", "replaced", "withdrawn")[:_SHOWN]
    return tuple(_told(index, one, names.get(one.account_id, "somebody")) for one in found)


def _told(index: object, change: ChangeShown, who: str) -> WorkChange:
    facts = change.facts
    done = _DONE[change.kind]
    if change.undoes:
        done = "is as it was before" + (f" ({facts['reason']})" if "reason" in facts else "")
    elif facts["before"] is None:
        done = "was added"
    return WorkChange(
        change=change,
        who=who,
        named=f"{facts['bank']}/{facts['work_id']}",
        done=done,
        was=_said(facts.get("before") or facts.get("former")),
        now=_said(facts.get("after")),
        reason=facts.get("stated_reason", ""),
        also=tuple(facts.get("same_picture", ())),
        not_back="" if change.undoes or change.undone else why_not_back(index, change),
    )


def _said(document: dict[str, Any] | None) -> str:
    """What a match with a work means, with its dates, in a few words."""
    if document is None:
        return ""
    work = Work.model_validate(document)
    dates = [f"opted out {work.opted_out_at.date()}"] if work.opted_out_at else []
    dates += [f"expires {work.expires_at.date()}"] if work.expires_at else []
    return ", ".join([_MEANS[work.disposition], *dates])
