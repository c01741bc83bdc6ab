"""`/v1/cases` and `/v1/decisions`: what people review, for programs."""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from guardrail.desk.web import deciding
from guardrail.desk.web.answers import PROBLEMS
from guardrail.desk.web.asking import IdempotencyKey, digest_of, known_query, once
from guardrail.desk.web.case_answers import (
    AppealAsked,
    CaseAnswer,
    CasesAnswer,
    DecidedAnswer,
    StateAnswer,
    UndoneAnswer,
)
from guardrail.desk.web.deps import address_of, scoped
from guardrail.desk.web.desk import Desk, desk_of
from guardrail.desk.web.problems import Problem
from guardrail.desk.web.release_jobs import released_file
from guardrail.records import Actor, CaseFilter, CaseState, DecisionAsked

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["cases"], dependencies=[Depends(known_query)], responses=PROBLEMS)

_Desk = Annotated[Desk, Depends(desk_of)]
_Reader = Annotated[Actor, Depends(scoped("cases:read"))]
_Decider = Annotated[Actor, Depends(scoped("cases:decide"))]
_CaseId = Annotated[int, Path(ge=1, le=2**31 - 1, description="of the case")]
_Named = Annotated[str, Query(max_length=512)]
_MIMES = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}


def _filter(
    state: Annotated[list[CaseState] | None, Query(description="any of these; default: open")] = None,
    bank: _Named = "",
    holder: _Named = "",
    model: _Named = "",
    adapter: _Named = "",
    rule: _Named = "",
    work: Annotated[str, Query(max_length=1024, description="BANK/WORK_ID")] = "",
    older_than_h: Annotated[float | None, Query(ge=0, le=1e6, allow_inf_nan=False)] = None,
    mine: Annotated[bool, Query(description="only those that you have")] = False,
    grouped: Annotated[bool, Query(description="one row for nearly the same pictures")] = False,
) -> CaseFilter:
    """Which cases are asked for."""
    return CaseFilter(
        states=tuple(state or ("open",)),
        bank=bank,
        holder=holder,
        model=model,
        adapter=adapter,
        rule=rule,
        work=work,
        older_than_h=older_than_h,
        mine=mine,
        grouped=grouped,
    )


@router.get("/cases", response_model=CasesAnswer, operation_id="cases")
def cases(
    request: Request,
    desk: _Desk,
    actor: _Reader,
    asked: Annotated[CaseFilter, Depends(_filter)],
    after: Annotated[str, Query(max_length=300, description="`next` of the page before")] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> CasesAnswer:
    """A page of the cases of your organisation."""
    page = desk.memory.reviews.queue(actor, asked, after=after, limit=limit)
    desk.memory.audit.note(actor, "cases.listed", "", {"cases": len(page.rows)}, address_of(request))
    return CasesAnswer(cases=list(page.rows), next=page.next_cursor, total=page.total)


@router.get("/cases/{case_id}", response_model=CaseAnswer, operation_id="case")
def case(request: Request, case_id: _CaseId, desk: _Desk, actor: _Reader) -> CaseAnswer:
    """One case, with its verdict and decisions."""
    details = desk.memory.reviews.case(actor, case_id)
    desk.memory.audit.note(actor, "case.seen", f"case {case_id}", {}, address_of(request))
    return CaseAnswer.of(details)


@router.post("/cases/{case_id}/decisions", status_code=201, response_model=DecidedAnswer, operation_id="decide")
async def decide(
    request: Request, case_id: _CaseId, asked: DecisionAsked, desk: _Desk, actor: _Decider, key: IdempotencyKey = None
) -> Response:
    """Decide a case. It is refused (409) where somebody else has it, or where it changed since `seen_revision`."""

    def decided() -> Response:
        found = deciding.decide(desk, actor, case_id, asked, address_of(request))
        desk.workers.nudge()
        return _created(DecidedAnswer.of(found))

    async def answer() -> Response:
        return await run_in_threadpool(decided)

    return await once(desk, actor, key, lambda: digest_of(actor, request, [asked.model_dump_json().encode()]), answer)


@router.post("/cases/{case_id}/appeals", status_code=201, response_model=StateAnswer, operation_id="appeal")
async def appeal(
    request: Request, case_id: _CaseId, asked: AppealAsked, desk: _Desk, actor: _Decider, key: IdempotencyKey = None
) -> Response:
    """Ask for another look at a decided case, by a lead who decided none of it."""

    def appealed() -> Response:
        deciding.appeal(desk, actor, case_id, asked.note, address_of(request))
        desk.workers.nudge()
        return _created(StateAnswer(case_id=case_id, state=desk.memory.reviews.case(actor, case_id).row.state))

    async def answer() -> Response:
        return await run_in_threadpool(appealed)

    return await once(desk, actor, key, lambda: digest_of(actor, request, [asked.note.encode()]), answer)


@router.delete("/decisions/{decision_id}", response_model=UndoneAnswer, operation_id="undo")
def undo(
    request: Request,
    desk: _Desk,
    actor: _Decider,
    decision_id: Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="of a decision, or of a batch of them")],
) -> UndoneAnswer:
    """Take a decision back: your own last one; leads, anybody's. A new row says so, nothing is deleted."""
    undone = deciding.undo(desk, actor, decision_id, address_of(request))
    desk.workers.nudge()
    return UndoneAnswer.of(undone)


@router.get(
    "/cases/{case_id}/output",
    operation_id="output",
    response_class=Response,
    responses={200: {"description": "The signed file.", "content": {mime: {} for mime in _MIMES.values()}}},
)
def output(request: Request, case_id: _CaseId, desk: _Desk, actor: _Reader) -> Response:
    """The file that a person released, signed. 404 while there is none: not released, or not signed yet."""
    details = desk.memory.reviews.case(actor, case_id)
    release = released_file(desk, details.released_by) if details.released_by is not None else None
    if release is None:
        raise Problem(
            404, f"found no released file of case {case_id}, expected one; wait, or look at its state", "not-released"
        )
    file = FilePath(release.file)
    desk.memory.audit.note(actor, "output.fetched", f"case {case_id}", {}, address_of(request))
    headers = {
        "Content-Disposition": f'attachment; filename="{file.name}"',
        "ETag": f'"{release.file_sha256}"',
        "X-Content-Type-Options": "nosniff",
    }
    return Response(file.read_bytes(), media_type=_MIMES.get(file.suffix, "application/octet-stream"), headers=headers)


def _created(said: DecidedAnswer | StateAnswer) -> Response:
    return Response(said.model_dump_json(), 201, media_type="application/json")
