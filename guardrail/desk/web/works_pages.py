"""Pages on works: list, upload, withdrawal, what is generic, and which released outputs come near a new work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, FastAPI, Form, Query, Request
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from guardrail.desk.rescanning import Rescan, ask_rescan
from guardrail.desk.web.case_pictures import work_picture
from guardrail.desk.web.changing_filter import GENERIC_BANK, mark_picture, mark_work
from guardrail.desk.web.changing_works import Asker, put_work, withdraw_work
from guardrail.desk.web.deps import address_of, allowed, flash
from guardrail.desk.web.desk import Desk, desk_of
from guardrail.desk.web.problems import Problem
from guardrail.desk.web.work_texts import require_texts
from guardrail.desk.web.works_changed import changes_of_works
from guardrail.desk.web.works_listing import WorksAsked, list_works
from guardrail.memory import at_least
from guardrail.records import Actor, Disposition, Work
from guardrail.review_errors import CaseMissing

if TYPE_CHECKING:
    from guardrail.memory import JobRow

__all__ = ["install", "rescan", "router"]

router = APIRouter()

_PAGE = 50  # works
_LONGEST_NAME = 256  # letters of a bank and of a work's id, as in the API
_LONGEST_REASON = 4000  # letters that a form takes; how many may be kept is said where it is checked
_MIB = 2**20
_TEXTS = ("bank", "work_id", "title", "creator", "rights_holder", "licence", "source")
_DAYS = ("opted_out_at", "expires_at")

_Desk = Annotated[Desk, Depends(desk_of)]
_Viewer = Annotated[Actor, Depends(allowed("viewer"))]
_Lead = Annotated[Actor, Depends(allowed("lead"))]
_Name = Annotated[str, Form(min_length=1, max_length=_LONGEST_NAME)]
_Said = Annotated[str, Query(max_length=_LONGEST_NAME)]
_Reason = Annotated[str, Form(max_length=_LONGEST_REASON)]


def install(app: FastAPI, desk: Desk) -> None:
    """Do rescans when jobs ask for them."""
    del app
    desk.handlers["rescan"] = lambda job: rescan(desk, job)


def rescan(desk: Desk, job: JobRow) -> dict[str, Any]:
    """Compare the works that a job names with what its organisation released; tells webhooks.

    Raises:
        LedgerBroken, MemoryUnwritable: see `Rescan`.
    """
    keys = [(str(bank), str(work_id)) for bank, work_id in job.asked["works"]]

    def progress(done: int, total: int) -> None:
        desk.memory.jobs.progress(job, done, total)

    report = Rescan(desk.guard_for(job.organisation), desk.memory, job.job_id)(keys, progress).document()
    told = {"job_id": job.job_id, "works": [list(key) for key in keys], "outputs_near": len(report["near"])}
    desk.memory.webhooks.tell(job.organisation, "works.rescanned", told | {"cases_near": report["cases_near"]})
    return report


@router.get("/works")
def works(
    request: Request,
    desk: _Desk,
    actor: _Viewer,
    words: _Said = "",
    bank: _Said = "",
    disposition: _Said = "",
    holder: _Said = "",
    tab: _Said = "",
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
) -> HTMLResponse:
    """The works of the organisation's index, and what was called generic."""
    asked = WorksAsked(words, bank, disposition, holder, page)
    said = {"words": words, "bank": bank, "disposition": disposition, "holder": holder}
    filters = {name: value for name, value in said.items() if value}
    desk.memory.audit.note(actor, "works.seen", "", filters, address_of(request))
    listed = list_works(desk.guard_for(actor.organisation).index, asked, _PAGE)
    names = desk.memory.accounts.names(actor.organisation)
    changes = desk.memory.changes.page(actor, "generic")
    return desk.page(
        request,
        "works.html",
        here="works",
        listed=listed,
        asked=asked,
        query=urlencode(filters),
        filtered=bool(filters),
        tab=tab if tab in ("changes", "generic", "upload") else "",
        changes=[(change, names.get(change.account_id, "somebody")) for change in changes],
        changed=changes_of_works(desk, actor) if tab == "changes" else (),
        dispositions=[str(one) for one in Disposition],
        may_change=at_least(actor.role, "lead"),
        upload_mb=desk.settings.desk.upload_mb,
        address_of_picture=_picture_address,
    )


@router.get("/works/picture")
def picture(request: Request, desk: _Desk, actor: _Viewer, bank: _Said, work_id: _Said) -> Response:
    """The small picture that the index keeps of a work."""
    jpeg = work_picture(desk.guard_for(actor.organisation), bank, work_id)
    if jpeg is None:
        raise CaseMissing(f"picture of {bank}/{work_id}")
    desk.memory.audit.note(actor, "work.seen", f"{bank}/{work_id}", {}, address_of(request))
    return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=300"})


@router.post("/works")
async def add(request: Request, desk: _Desk, actor: _Lead) -> Response:
    """Add a work, live, and look for it among released outputs."""
    async with request.form(max_files=1) as form:
        work = _work(form)
        content = await _content(form, desk.settings.desk.upload_mb)
        stated = form.get("reason")
    address = address_of(request)
    asker = Asker(actor, stated if isinstance(stated, str) else "", address)

    def added() -> str:
        change = put_work(desk, asker, work, content)
        named = f"{work.bank}/{work.work_id}"
        desk.memory.audit.note(actor, "work.added", named, {"snapshot": change.snapshot}, address)
        return ask_rescan(desk.memory, actor.organisation, [(work.bank, work.work_id)], actor.account_id)

    job_id = await run_in_threadpool(added)
    desk.workers.nudge()
    said = f"{work.title or work.work_id} is in the index now; the next check knows it."
    return flash(RedirectResponse(f"/rescans/{job_id}", 303), request, said)


def _work(form: FormData) -> Work:
    """The work as a form describes it.

    Raises:
        Problem: 422, a field cannot be used.
    """
    said: dict[str, Any] = {name: str(form.get(name) or "").strip() for name in (*_TEXTS, "disposition")}
    said = {name: value for name, value in said.items() if value}
    require_texts(said)
    for name in _DAYS:
        if value := str(form.get(name) or "").strip():
            said[name] = f"{value}T00:00:00+00:00" if "T" not in value else value
    too_long = [name for name in ("bank", "work_id") if len(said.get(name, "")) > _LONGEST_NAME]
    if too_long or not str(said.get("work_id", "")).isprintable() or "work_id" not in said:
        detail = f"found a work without an id of 1 to {_LONGEST_NAME} letters, expected one; give it one"
        raise Problem(422, detail, "bad-work")
    try:
        return Work.model_validate(said)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise Problem(422, f"found a work in which {wrong}; correct the form", "bad-work") from None


async def _content(form: FormData, upload_mb: float) -> bytes:
    """The bytes of the picture.

    Raises:
        Problem: 422, there is none; 413, it is too large.
    """
    file = form.get("image")
    if not isinstance(file, UploadFile) or not file.size:
        raise Problem(422, "found no picture, expected one; choose an image file", "no-image")
    if file.size > upload_mb * _MIB:
        found = f"found a picture of {file.size / _MIB:.1f} MiB, expected at most {upload_mb:g}"
        raise Problem(413, f"{found}; send a smaller file", "file-too-large")
    return await file.read()


@router.post("/works/withdraw")
def withdraw(
    request: Request, desk: _Desk, actor: _Lead, bank: _Name, work_id: _Name, reason: _Reason = ""
) -> Response:
    """Take a work out of the index: the next check does not see it."""
    change = withdraw_work(desk, Asker(actor, reason, address_of(request)), bank, work_id)
    if change.unknown:
        raise CaseMissing(f"work {bank}/{work_id}")
    desk.memory.audit.note(
        actor, "work.removed", f"{bank}/{work_id}", {"snapshot": change.snapshot}, address_of(request)
    )
    return flash(
        RedirectResponse("/works", 303), request, f"{bank}/{work_id} is withdrawn; the next check does not see it."
    )


@router.post("/works/rescan")
def rescan_again(request: Request, desk: _Desk, actor: _Lead, bank: _Name, work_id: _Name) -> Response:
    """Look for a work among released outputs, again."""
    job_id = ask_rescan(desk.memory, actor.organisation, [(bank, work_id)], actor.account_id)
    desk.memory.audit.note(actor, "work.rescanned", f"{bank}/{work_id}", {"job_id": job_id}, address_of(request))
    desk.workers.nudge()
    return RedirectResponse(f"/rescans/{job_id}", 303)


@router.post("/works/generic")
def generic_work(
    request: Request, desk: _Desk, actor: _Lead, bank: _Name, work_id: _Name, reason: _Reason = ""
) -> Response:
    """Call a work generic: it is not protected any more."""
    mark_work(desk, Asker(actor, reason, address_of(request)), bank, work_id)
    said = f"{bank}/{work_id} is generic now: it is not protected, and explains likenesses to other works."
    return flash(RedirectResponse("/works?tab=generic", 303), request, said)


@router.post("/cases/{case_id}/generic")
def generic_case(
    request: Request,
    desk: _Desk,
    actor: _Lead,
    case_id: int,
    what: Annotated[str, Form(pattern="^(picture|work)$")],
    bank: Annotated[str, Form(max_length=_LONGEST_NAME)] = "",
    work_id: Annotated[str, Form(max_length=_LONGEST_NAME)] = "",
    reason: _Reason = "",
) -> Response:
    """From a case: call its picture, or one of its works, generic."""
    desk.memory.reviews.case(actor, case_id)  # of this organisation, or it is not there
    asker = Asker(actor, reason, address_of(request))
    if what == "picture":
        mark_picture(desk, asker, case_id)
        said = f"The picture is in the bank {GENERIC_BANK} now: what is as near to it is explained by it."
    else:
        mark_work(desk, asker, bank, work_id, case_id)
        said = f"{bank}/{work_id} is generic now: it is not protected any more."
    return flash(RedirectResponse(f"/cases/{case_id}", 303), request, said)


@router.get("/rescans/{job_id}")
def rescan_page(request: Request, desk: _Desk, actor: _Viewer, job_id: str) -> HTMLResponse:
    """How far a rescan is, and what it found."""
    job = _rescan_job(desk, actor, job_id)
    desk.memory.audit.note(actor, "rescan.seen", job_id, {}, address_of(request))
    queues = {
        (one["bank"], one["work_id"]): "/queue?" + urlencode({"work": f"{one['bank']}/{one['work_id']}"})
        for one in (job.answer or {}).get("near", ())
    }
    return desk.page(request, "rescan.html", here="works", job=job, share=_share(job), queues=queues)


@router.get("/rescans/{job_id}/state")
def rescan_state(desk: _Desk, actor: _Viewer, job_id: str) -> JSONResponse:
    """How far a rescan is, for the page that waits."""
    job = _rescan_job(desk, actor, job_id)
    return JSONResponse({"state": job.state, "share": _share(job)})


def _rescan_job(desk: Desk, actor: Actor, job_id: str) -> JobRow:
    job = desk.memory.jobs.get(actor, job_id)
    if job is None or job.kind != "rescan":
        raise CaseMissing(f"rescan {job_id}")
    return job


def _share(job: JobRow) -> float:
    """How much of it is done, 0..1; how many outputs there are in all is nobody's business."""
    return 1.0 if job.state == "done" else job.done / job.total if job.total else 0.0


def _picture_address(work: Work) -> str:
    said: Mapping[str, str] = {"bank": work.bank, "work_id": work.work_id}
    return f"/works/picture?{urlencode(said)}"
