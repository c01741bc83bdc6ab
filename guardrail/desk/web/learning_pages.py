"""Pages on what decisions teach: how well people agree, how right rules are, which limits are proposed and in force."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, Form, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from guardrail.desk.learning import current_limits, proposals, quality_of
from guardrail.desk.web.changing_filter import apply_limit, take_back
from guardrail.desk.web.deps import address_of, allowed, flash
from guardrail.desk.web.desk import Desk, desk_of
from guardrail.desk.web.learning_view import bars_of, kappa_bar, number, plot_of, said_of
from guardrail.memory import at_least
from guardrail.records import Actor, Signal
from guardrail.review_errors import ChangeRefused
from guardrail.study.proposals import CASES_LEAST, SECONDS_LEAST

if TYPE_CHECKING:
    from guardrail.memory import ChangeShown

__all__ = ["router"]

router = APIRouter()

_Desk = Annotated[Desk, Depends(desk_of)]
_Viewer = Annotated[Actor, Depends(allowed("viewer"))]
_Lead = Annotated[Actor, Depends(allowed("lead"))]


@router.get("/quality")
def quality(request: Request, desk: _Desk, actor: _Viewer) -> HTMLResponse:
    """How far reviewers agree who did not see each other, and how often each rule and bank was right."""
    desk.memory.audit.note(actor, "quality.seen", "", {}, address_of(request))
    found = quality_of(tuple(desk.memory.reviews.decided_pairs(actor.organisation)))
    return desk.page(
        request,
        "quality.html",
        here="quality",
        quality=found,
        kappa=kappa_bar(found.kappa),
        rules=bars_of(found.rules),
        banks=bars_of(found.banks),
    )


@router.get("/limits")
def limits(request: Request, desk: _Desk, actor: _Viewer) -> HTMLResponse:
    """The limits of single banks that are proposed, and those in force."""
    desk.memory.audit.note(actor, "limits.seen", "", {}, address_of(request))
    guard = desk.guard_for(actor.organisation)
    found, thin = proposals(desk.memory.reviews.decided_pairs(actor.organisation), guard)
    names = desk.memory.accounts.names(actor.organisation)
    changes = [
        (change, names.get(change.account_id, "somebody")) for change in desk.memory.changes.page(actor, "limit")
    ]
    return desk.page(
        request,
        "limits.html",
        here="limits",
        proposals=[(one, said_of(one), plot_of(one)) for one in found],
        thin=thin,
        in_force=current_limits(guard).banks,
        calibration=current_limits(guard).calibration,
        changes=changes,
        may_apply=at_least(actor.role, "lead"),
        least=(CASES_LEAST, SECONDS_LEAST),
        number=number,
    )


@router.post("/limits/apply")
def apply(
    request: Request,
    desk: _Desk,
    actor: _Lead,
    bank: Annotated[str, Form(max_length=512)],
    signal: Annotated[str, Form(max_length=16)],
    limit: Annotated[float, Form(allow_inf_nan=False)],
) -> Response:
    """Put a proposed limit in force."""
    if signal not in {str(one) for one in Signal}:
        raise ChangeRefused(f"signal {signal!r}", "none of that name", "one that is measured")
    apply_limit(desk, actor, bank, Signal(signal), limit, address_of(request))
    said = f"The limit of {signal} for bank {bank} is {number(limit)} now; the next check obeys it."
    return flash(RedirectResponse("/limits", 303), request, said)


@router.post("/changes/{change_id}/undo")
def undo(request: Request, desk: _Desk, actor: _Lead, change_id: str) -> Response:
    """Take a change of the filter back."""
    change = take_back(desk, actor, change_id, address_of(request))
    back = {"limit": "/limits", "generic": "/works?tab=generic"}.get(change.kind, "/works?tab=changes")
    return flash(RedirectResponse(back, 303), request, f"Taken back: {_what(change)} is as it was before.")


def _what(change: ChangeShown) -> str:
    """What a change was about, in words."""
    if change.kind == "limit":
        return f"the limit of {change.facts['signal']} for bank {change.facts['bank']}"
    return f"{change.facts['bank']}/{change.facts['work_id']}"
