"""`/livez` and `/readyz`: whether the process lives, and whether it can do its work now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel
from starlette.responses import JSONResponse

from guardrail.desk.web.desk import Desk, desk_of

__all__ = ["LivingAnswer", "ReadyAnswer", "router"]

router = APIRouter(tags=["health"])


class LivingAnswer(BaseModel):
    """The process answers."""

    status: str


class ReadyAnswer(BaseModel):
    """What was looked at, each `ok` or why not, in words that give no path away."""

    status: str
    checks: dict[str, str]


@router.get("/livez", response_model=LivingAnswer, operation_id="livez")
async def livez() -> LivingAnswer:
    """Whether the process lives; asks nothing else."""
    return LivingAnswer(status="ok")


@router.get(
    "/readyz",
    response_model=ReadyAnswer,
    responses={503: {"model": ReadyAnswer, "description": "It cannot do its work now."}},
    operation_id="readyz",
)
def readyz(desk: Annotated[Desk, Depends(desk_of)]) -> JSONResponse:
    """Whether memory can be written, every organisation's index can be searched, and the workers live."""
    checks = {"memory": _of(desk.memory.jobs.require_writable, "cannot be written")}
    for place, organisation in enumerate(desk.organisations):
        name = "index" if place == 0 else f"index {place + 1}"
        if desk.is_opening(organisation):  # not waited for: who asks wants to know now
            checks[name] = "is being opened"
        else:
            checks[name] = _of(lambda one=organisation: _search(desk, one), "cannot be searched")  # type: ignore[misc]
    checks["workers"] = "ok" if desk.workers.alive and desk.checks.alive else "a thread ended; restart the desk"
    ready = all(said == "ok" for said in checks.values())
    answer = ReadyAnswer(status="ok" if ready else "not ready", checks=checks)
    return JSONResponse(answer.model_dump(), 200 if ready else 503)


def _search(desk: Desk, organisation: str) -> None:
    desk.guard_for(organisation).indexes.pinned(None)


def _of(look: Callable[[], object], otherwise: str) -> str:
    try:
        look()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is not ready, and the class alone is told
        return f"{otherwise}: {type(error).__name__}"
    return "ok"
