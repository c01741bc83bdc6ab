"""`GET /v1/jobs/{id}`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from starlette.requests import Request

from guardrail.desk.web.answers import PROBLEMS, JobAnswer
from guardrail.desk.web.asking import known_query
from guardrail.desk.web.deps import address_of, scoped
from guardrail.desk.web.desk import Desk, desk_of
from guardrail.desk.web.problems import Problem
from guardrail.records import Actor

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["jobs"], dependencies=[Depends(known_query)], responses=PROBLEMS)


_SCOPES = {"check": {"check", "verdicts:read"}, "rescan": {"works:write"}}  # of other kinds: cases:read


def _may_see(actor: Actor, kind: str) -> bool:
    """Whether a token's scopes reach as far as what a job of this kind says."""
    return actor.scopes is None or bool(_SCOPES.get(kind, {"cases:read"}) & {*actor.scopes})


@router.get("/jobs/{job_id}", response_model=JobAnswer, operation_id="job")
def job(
    request: Request,
    desk: Annotated[Desk, Depends(desk_of)],
    actor: Annotated[Actor, Depends(scoped("check", "verdicts:read", "works:write", "cases:read"))],
    job_id: Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="of the job")],
) -> JobAnswer:
    """How far a job is, and what came of it; finished ones can be asked for a week."""
    found = desk.memory.jobs.get(actor, job_id)
    if found is None or not _may_see(actor, found.kind):
        raise Problem(404, "found no such job here, expected one of your organisation; ask for it again", "no-such-job")
    desk.memory.audit.note_once(actor, "job.seen", job_id, {"kind": found.kind}, address_of(request))
    return JobAnswer.of(found)
