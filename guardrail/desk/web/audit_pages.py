"""The audit of an organisation, for leads and admins: filters, pages, and all of it as CSV."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from guardrail.desk.web.audit_said import words_of
from guardrail.desk.web.deps import address_of, allowed
from guardrail.desk.web.desk import Desk, desk_of
from guardrail.memory import AuditFilter
from guardrail.records import Actor

__all__ = [
    "export_audit",
    "router",
    "show_audit",
]

router = APIRouter()

_Desk = Annotated[Desk, Depends(desk_of)]
_Lead = Annotated[Actor, Depends(allowed("lead"))]
_Word = Annotated[str, Query(max_length=256)]
_Day = Annotated[str, Query(pattern=r"^(\d{4}-\d{2}-\d{2})?$")]
_EVENTS = 100  # on a page


def _filter(
    account: _Word = "", action: _Word = "", target: _Word = "", since: _Day = "", until: _Day = ""
) -> AuditFilter:
    return AuditFilter(account, action, target, since, until)


_Filter = Annotated[AuditFilter, Depends(_filter)]


@router.get("/audit")
def show_audit(
    request: Request,
    desk: _Desk,
    lead: _Lead,
    asked: _Filter,
    before: Annotated[int | None, Query(ge=1, le=2**63 - 1)] = None,
) -> Response:
    """Events, latest first."""
    audit = desk.memory.audit
    audit.note(lead, "audit.seen", "", _said(asked), address_of(request))
    events = audit.page(lead, asked, before=before, limit=_EVENTS + 1)
    more = urlencode({**_said(asked), "before": events[_EVENTS - 1].event_id}) if len(events) > _EVENTS else ""
    names = desk.memory.accounts.names(lead.organisation)
    return desk.page(
        request,
        "audit.html",
        events=events[:_EVENTS],
        names=names,
        actions=audit.actions(lead),
        words_of=words_of,
        asked=asked,
        more=more,
        csv=urlencode(_said(asked)),
        here="audit",
    )


@router.get("/audit.csv")
def export_audit(request: Request, desk: _Desk, lead: _Lead, asked: _Filter) -> Response:
    """All events that are asked for, as CSV."""
    audit, names = desk.memory.audit, desk.memory.accounts.names(lead.organisation)
    audit.note(lead, "audit.exported", "", _said(asked), address_of(request))

    def lines() -> Iterator[str]:
        yield "\ufeff"  # so that spreadsheets read it as UTF-8
        yield from audit.csv(lead, asked, lambda account_id: names.get(account_id, ""))

    name = f"audit-{datetime.now(UTC):%Y-%m-%d}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(lines(), media_type="text/csv; charset=utf-8", headers=headers)


def _said(asked: AuditFilter) -> dict[str, str]:
    """A filter as the query of an address; what says nothing is left out."""
    named = {
        "account": asked.account_id,
        "action": asked.action,
        "target": asked.target,
        "since": asked.since,
        "until": asked.until,
    }
    return {name: value for name, value in named.items() if value}
