"""The pictures of cases and works, each look noted: private to the browser, never of another organisation."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from guardrail.desk.web.case_pictures import work_picture
from guardrail.desk.web.case_view import Basis, case_view
from guardrail.desk.web.thumbnails import Thumbnails, Veil, small_picture, veiled_picture
from guardrail.desk.web.visiting import Visit, visit
from guardrail.review_errors import PictureMissing

if TYPE_CHECKING:
    from guardrail.memory import CaseDetails

__all__ = ["picture", "picture_of_work", "router", "thumbnail"]

router = APIRouter()

_KEPT_S = 600  # that a browser may show a small picture again without asking
_small = Thumbnails()

Looking = Annotated[Visit, Depends(visit)]


@router.get("/cases/{case_id}/picture")
def picture(looking: Looking, case_id: int) -> Response:
    """The generated image as it was judged; veiled where it may be sensitive and was not asked for."""
    row = looking.desk.memory.reviews.case(looking.actor, case_id).row
    asked_for = looking.request.query_params.get("shown") == "1"
    veil: Veil = looking.veil if row.sensitive and not asked_for else "none"
    action = "picture.revealed" if row.sensitive and asked_for else "picture.seen"
    looking.note(action, f"case {case_id}", veil=veil)
    content = looking.desk.memory.reviews.picture(looking.actor, case_id)
    if veil == "none":
        return _answer(looking, content, "image/png")
    return _answer(looking, veiled_picture(content, veil), "image/jpeg")


@router.get("/cases/{case_id}/thumbnail")
def thumbnail(looking: Looking, case_id: int) -> Response:
    """The generated image, small; veiled where it may be sensitive."""
    details = looking.desk.memory.reviews.case(looking.actor, case_id)
    veil: Veil = looking.veil if details.row.sensitive else "none"
    if not details.has_picture:
        raise PictureMissing(f"case {case_id}", "it was deleted when its time was over")
    looking.note("thumbnail.seen", f"case {case_id}", veil=veil)
    key = (looking.actor.organisation, details.row.verdict_id, veil)
    content = _small.find(key)
    if content is None:
        content = small_picture(looking.desk.memory.reviews.picture(looking.actor, case_id), veil)
        _small.keep(key, content)
    return _answer(looking, content, "image/jpeg", _KEPT_S)


@router.get("/cases/{case_id}/works/{number}/picture")
def picture_of_work(looking: Looking, case_id: int, number: int) -> Response:
    """The picture of a work that a case comes near, as the index has it now: rows move, so it is found by its id."""
    details = looking.desk.memory.reviews.case(looking.actor, case_id)
    bank, work_id = _work_of(looking, details, number)
    looking.note("work.seen", f"case {case_id}", bank=bank, work_id=work_id)
    content = work_picture(looking.desk.guard_for(looking.actor.organisation), bank, work_id)
    if content is None:
        raise PictureMissing(f"work {work_id!r} of bank {bank!r}", "it came from a hash list, or was withdrawn")
    return _answer(looking, content, "image/jpeg", _KEPT_S)


def _work_of(looking: Visit, details: CaseDetails, number: int) -> tuple[str, str]:
    """Bank and id of a work by its number on the case's page."""
    limits = looking.desk.guard_for(looking.actor.organisation).limits
    works = case_view(details, Basis(limits)).works
    if not 1 <= number <= len(works):
        raise PictureMissing(f"work {number} of case {details.row.case_id}", f"it comes near {len(works)} works")
    return works[number - 1].bank, works[number - 1].work_id


def _answer(looking: Visit, content: bytes, kind: str, kept_s: int = 0) -> Response:
    """A picture; nothing of it where the browser has the very same one."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {
        "Cache-Control": f"private, max-age={kept_s}" if kept_s else "private, no-cache",
        "ETag": tag,
        "X-Content-Type-Options": "nosniff",
        "Content-Disposition": "inline",
    }
    known = [one.strip() for one in looking.request.headers.get("if-none-match", "").split(",")]
    if tag in known or f"W/{tag}" in known:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=kind, headers=headers)
