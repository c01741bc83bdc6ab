"""One case: what was generated beside what it resembles, why it was flagged, and the decision on it."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends
from PIL import Image
from starlette.datastructures import FormData
from starlette.responses import Response

from guardrail.desk.web import deciding, picture_pages
from guardrail.desk.web.attribution_pages import can_estimate
from guardrail.desk.web.banners import tell_decided
from guardrail.desk.web.case_forms import Typed, decision_of, posted, seen_cases
from guardrail.desk.web.case_pictures import work_picture
from guardrail.desk.web.case_view import basis_of, case_view
from guardrail.desk.web.deps import allowed, flash
from guardrail.desk.web.filters import filter_of, query_of
from guardrail.desk.web.queue_pages import next_address
from guardrail.desk.web.trails import trail_of
from guardrail.desk.web.visiting import Visit, go_to, visit
from guardrail.review_errors import CaseMissing, CaseTaken, DecisionRefused, NotAllowed, PictureMissing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from guardrail.desk.web.case_view import CaseView, WorkView
    from guardrail.guard import Guard
    from guardrail.memory import CaseDetails, Decided

__all__ = ["appeal", "case_page", "decide", "give_back", "renew", "router", "undo"]

router = APIRouter()
router.include_router(picture_pages.router)

_HISTORY = 8  # decided cases of the same work that are listed

Looking = Annotated[Visit, Depends(visit)]
Form = Annotated[FormData, Depends(posted)]
_reviewers = Depends(allowed("reviewer"))


@router.get("/cases/{case_id}")
def case_page(looking: Looking, case_id: int) -> Response:
    """The case; who may decide it has it from now on, and no one else meanwhile."""
    details = looking.desk.memory.reviews.case(looking.actor, case_id)
    looking.note("case.seen", f"case {case_id}", verdict_id=details.row.verdict_id)
    taken = ""
    if _may_decide(looking, details):
        try:
            looking.desk.memory.reviews.lease(looking.actor, case_id)
        except (CaseTaken, DecisionRefused, NotAllowed) as error:
            taken = str(error)
        details = looking.desk.memory.reviews.case(looking.actor, case_id)
    return _page(looking, details, taken=taken)


def _page(
    looking: Visit, details: CaseDetails, *, taken: str = "", typed: Typed | None = None, wrong: str = ""
) -> Response:
    """The case as a page; with what is wrong, and all that was typed, where a form could not be followed."""
    guard = looking.desk.guard_for(looking.actor.organisation)
    view = _view(looking, details, guard)
    query = looking.request.query_params
    work = _chosen(view, query.get("work_number", "1"))
    preview = work_picture(guard, work.bank, work.work_id) if work else None
    content = _content(looking, details)
    row, shown = details.row, query.get("shown") == "1"
    taken = taken or _who_has(looking, details)
    may_decide = _may_decide(looking, details) and not taken
    return looking.page(
        "case.html",
        409 if wrong else 200,
        here="queue",
        row=row,
        view=view,
        work=work,
        work_kept=preview is not None,
        work_px=_size_px(preview),
        has_picture=content is not None,
        image_px=_size_px(content),
        shown=shown,
        veiled=row.sensitive and looking.veil != "none" and not shown,
        lease_until=details.lease_until if may_decide else None,
        taken=taken,
        wrong=wrong,
        typed=typed or Typed(),
        decisions=details.decisions,
        appeals=details.appeals,
        undoable=_undoable(looking, details),
        may_decide=may_decide,
        may_review=looking.may("reviewer"),
        may_estimate=can_estimate(looking.desk) and looking.may("reviewer") and content is not None,
        alike=[one for one in details.alike if one.state == row.state == "open" and not one.leased_to],
        history=_history(looking, work, row.case_id),
        points=_points,
        **_addresses(looking, details.row.case_id),
    )


def _view(looking: Visit, details: CaseDetails, guard: Guard) -> CaseView:
    owed = looking.desk.memory.attributions_of(details.row.verdict_id)
    return case_view(details, basis_of(guard, details.verdict), attributions=owed)


def _who_has(looking: Visit, details: CaseDetails) -> str:
    """In words, that somebody else has the case; "" where nobody does."""
    if not details.row.leased_to:
        return ""
    return f"{looking.names.get(details.row.leased_to, 'Somebody')} has this case; it comes back when it is left."


def _content(looking: Visit, details: CaseDetails) -> bytes | None:
    """The generated image; None where it is not kept any more."""
    if not details.has_picture:
        return None
    try:
        return looking.desk.memory.reviews.picture(looking.actor, details.row.case_id)
    except PictureMissing:
        return None


def _addresses(looking: Visit, case_id: int) -> dict[str, Any]:
    """Where the page leads: back to the queue, on, back, to another of the near works, to the veiled image."""
    asked, trail = filter_of(looking.request.url.query), trail_of(looking.request.query_params)
    query = query_of(asked.said)
    kept = {**asked.said, "past": trail.said}
    number = looking.request.query_params.get("work_number", "")
    here = {**kept, "work_number": number if number.isdecimal() else ""}
    return {
        "query": query_of(kept),
        "query_mark": f"?{query}" if query else "",
        "next": f"/queue/next?{query_of(asked.said, past=trail.with_case(case_id).said)}",
        "previous": _address(trail.last, query_of(asked.said, past=trail.without_last().said)) if trail.last else "",
        "here_shown": f"/cases/{case_id}?{query_of(here, shown='1')}",
        "work_link": lambda wanted: f"/cases/{case_id}?{query_of(kept, work_number=str(wanted))}",
    }


def _address(case_id: int, query: str) -> str:
    return f"/cases/{case_id}?{query}" if query else f"/cases/{case_id}"


def _chosen(view: CaseView, number: str) -> WorkView | None:
    """The near work that the address asks for; the nearest where it asks for none that is there."""
    return next((one for one in view.works if str(one.number) == number), view.works[0] if view.works else None)


def _points(polygon: Iterable[tuple[float, float]], size_px: tuple[int, int]) -> str:
    """A polygon, given in fractions, as SVG writes it in a drawing of the picture's size."""
    return " ".join(f"{x * size_px[0]:.1f},{y * size_px[1]:.1f}" for x, y in polygon)


def _size_px(content: bytes | None) -> tuple[int, int]:
    """Width and height of an image file; of a square where there is none."""
    if content is None:
        return (1, 1)
    with Image.open(io.BytesIO(content)) as opened:
        return opened.size


def _may_decide(looking: Visit, details: CaseDetails) -> bool:
    """Whether the page offers to decide; memory says so again when it is done."""
    state = details.row.state
    if state == "open":
        return looking.may("reviewer")
    deciders = {one.decision.account_id for one in details.decisions if not one.undone}
    return state in ("disputed", "appealed") and looking.may("lead") and looking.actor.account_id not in deciders


def _undoable(looking: Visit, details: CaseDetails) -> str:
    """The decision that this person may take back: the last that stands, where it is theirs or they are a lead."""
    standing = [one.decision for one in details.decisions if not one.undone and one.decision.undoes is None]
    if not standing or not looking.may("reviewer"):
        return ""
    last = standing[-1]
    if last.round == "second" and last.account_id == looking.actor.account_id:
        return ""
    return last.decision_id if last.account_id == looking.actor.account_id or looking.may("lead") else ""


def _history(looking: Visit, work: WorkView | None, case_id: int) -> list[Any]:
    if work is None:
        return []
    found = looking.desk.memory.reviews.history_of_work(looking.actor, work.bank, work.work_id, limit=_HISTORY + 1)
    return [past for past in found if past.row.case_id != case_id][:_HISTORY]


# --- what is done with a case ------------------------------------------------------------------------------


@router.post("/cases/{case_id}/decisions", dependencies=[_reviewers])
def decide(looking: Looking, case_id: int, form: Form) -> Response:
    """Decide the case, and those alike that were ticked; then the next one opens."""
    decision, typed, wrong = decision_of(form)
    try:
        also = seen_cases(form, "also")
    except ValueError as error:
        also, wrong = {}, str(error)
    if decision is None or wrong:
        return _refused(looking, case_id, typed, wrong or "found a form that cannot be followed; load the page again")
    try:
        if also:
            seen = {**also} if decision.seen_revision is None else {case_id: decision.seen_revision, **also}
            one_by_one = decision.model_copy(update={"seen_revision": None})
            ids = (case_id, *(one for one in also if one != case_id))
            batch = deciding.decide_all(looking.desk, looking.actor, ids, one_by_one, looking.address, seen=seen)
            return _onwards(looking, case_id, form, batch.decided, batch.batch_id)
        done = deciding.decide(looking.desk, looking.actor, case_id, decision, looking.address)
    except (CaseTaken, DecisionRefused) as error:
        return _refused(looking, case_id, typed, str(error))
    return _onwards(looking, case_id, form, (done,), done.decision.decision_id)


def _refused(looking: Visit, case_id: int, typed: Typed, wrong: str) -> Response:
    return _page(looking, looking.desk.memory.reviews.case(looking.actor, case_id), typed=typed, wrong=wrong)


def _onwards(looking: Visit, case_id: int, form: FormData, decided: tuple[Decided, ...], wanted: str) -> Response:
    """The next case, with what was decided told above it."""
    kept = dict(parse_qsl(str(form.get("queue", ""))))
    there = go_to(next_address(looking, filter_of(kept.items()), trail_of(kept).with_case(case_id)))
    return tell_decided(there, looking.desk, decided, wanted)


@router.post("/decisions/{wanted}/undo", dependencies=[_reviewers])
def undo(looking: Looking, wanted: str) -> Response:
    """Take back a decision, or those of a batch; the case is there again."""
    try:
        undone = deciding.undo(looking.desk, looking.actor, wanted, looking.address)
    except (DecisionRefused, CaseTaken) as error:
        return flash(go_to("/queue"), looking.request, str(error), "wrong")
    text = "Taken back: the case waits again." if len(undone) == 1 else f"Taken back: {len(undone)} cases wait again."
    there = f"/cases/{undone[0].decision.case_id}" if len(undone) == 1 else "/queue"
    return flash(go_to(there), looking.request, text, "note")


@router.post("/cases/{case_id}/appeal", dependencies=[_reviewers])
def appeal(looking: Looking, case_id: int, form: Form) -> Response:
    """Ask for another look at a decided case."""
    note = str(form.get("note", "")).strip()
    if not note:
        text = "note: found none, expected why the case should be looked at again; nothing was entered"
        return _refused(looking, case_id, Typed(), text)
    try:
        deciding.appeal(looking.desk, looking.actor, case_id, note, looking.address)
    except DecisionRefused as error:
        return _refused(looking, case_id, Typed(), str(error))
    return flash(go_to(f"/cases/{case_id}"), looking.request, "Appealed: a lead looks at this case again.", "note")


@router.post("/cases/{case_id}/lease", dependencies=[_reviewers])
def renew(looking: Looking, case_id: int) -> Response:
    """The page is still open: the case stays with this person."""
    looking.desk.memory.reviews.lease(looking.actor, case_id)
    return Response(status_code=204)


@router.post("/cases/{case_id}/give-back", dependencies=[_reviewers])
def give_back(looking: Looking, case_id: int) -> Response:
    """The page was left: the case goes back to the queue."""
    with suppress(CaseMissing, CaseTaken, DecisionRefused):
        looking.desk.memory.reviews.give_back(looking.actor, case_id)
    return Response(status_code=204)
