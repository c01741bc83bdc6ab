"""The queue: what waits, filtered and paged by the server; taking the next case; deciding several at once."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends
from starlette.datastructures import FormData
from starlette.responses import Response

from guardrail.desk.web import deciding
from guardrail.desk.web.banners import Banner, tell_decided
from guardrail.desk.web.case_forms import Typed, decision_of, posted, seen_cases
from guardrail.desk.web.deps import allowed, flash
from guardrail.desk.web.filters import AGES, TABS, FilterAsked, filter_of, query_of
from guardrail.desk.web.trails import Trail, trail_of
from guardrail.desk.web.visiting import Visit, go_to, visit
from guardrail.review_errors import CaseMissing, CaseTaken, DecisionRefused, NotAllowed, QueryInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from guardrail.memory import BulkPreview, CasePage

__all__ = ["alike", "decide_picked", "next_address", "preview", "queue", "router", "start", "take_next"]

router = APIRouter()

_PAGE_ROWS = 25
_MENUS = (("bank", "Bank"), ("holder", "Holder"), ("model", "Model"), ("adapter", "Adapter"), ("rule", "Rule"))
_DIGITS = 9  # of a case's number
_MOST_PICKED = 100  # rows that are picked at once; more would hardly be looked at

Looking = Annotated[Visit, Depends(visit)]
Form = Annotated[FormData, Depends(posted)]
_reviewers = Depends(allowed("reviewer"))


@router.get("/")
def start() -> Response:
    """Where one arrives: the queue."""
    return go_to("/queue")


@router.get("/queue")
def queue(looking: Looking) -> Response:
    """One page of cases."""
    asked = filter_of(looking.request.url.query)
    if asked.wrong:
        return _queue_page(looking, asked, wrong=asked.wrong, status=422)
    try:
        page = looking.desk.memory.reviews.queue(
            looking.actor, asked.asked, after=looking.request.query_params.get("after", ""), limit=_PAGE_ROWS
        )
    except QueryInvalid as error:  # a cursor that was typed or is another filter's
        return _queue_page(looking, asked, wrong=str(error), status=422)
    looking.note("queue.seen", asked.tab.name, cases=[row.case_id for row in page.rows])
    return _queue_page(looking, asked, page=page)


def _queue_page(
    looking: Visit, asked: FilterAsked, *, page: CasePage | None = None, wrong: str = "", status: int = 200
) -> Response:
    """The queue as a page; with what is wrong, and no cases, where the address cannot be followed."""
    reviews, query = looking.desk.memory.reviews, query_of(asked.said)
    counts, facets = reviews.counts(looking.actor), reviews.facets(looking.actor)
    tabs = [
        {
            "name": tab.name,
            "words": tab.words,
            "count": sum(counts.get(state, 0) for state in tab.states),
            "query": f"?tab={tab.name}" if tab.name != "waiting" else "",
        }
        for tab in TABS
    ]
    banners = (Banner("wrong", f"Not filtered by {wrong}."),) if wrong else ()
    return looking.page(
        "queue.html",
        status,
        banners,
        here="queue",
        tab=asked.tab,
        tabs=tabs,
        menus=[(name, words, facets.get(name, ())) for name, words in _MENUS],
        ages=AGES,
        age_values={str(hours) for hours, _ in AGES},
        said=asked.said,
        filtered=any(name != "tab" for name in asked.said),
        wrong=wrong,
        rows=page.rows if page else (),
        total=page.total if page else 0,
        first="after" not in looking.request.query_params,
        next_query=query_of({**asked.said, "after": page.next_cursor}) if page and page.next_cursor else "",
        query=query,
        query_mark=f"?{query}" if query else "",
        may_decide=looking.may("reviewer") and asked.tab.name == "waiting",
        may_pick=looking.may("reviewer") and asked.tab.name == "waiting",
    )


@router.get("/queue/next", dependencies=[_reviewers])
def take_next(looking: Looking) -> Response:
    """Take the next case that nobody has, and open it; the one that was left goes back to the queue."""
    asked, trail = filter_of(looking.request.url.query), trail_of(looking.request.query_params)
    if trail.last is not None:
        with suppress(CaseMissing, CaseTaken, DecisionRefused, NotAllowed):  # not theirs, or decided: nothing to give
            looking.desk.memory.reviews.give_back(looking.actor, trail.last)
    return go_to(next_address(looking, asked, trail))


def next_address(looking: Visit, asked: FilterAsked, trail: Trail) -> str:
    """Where to go on: the next case that waits, taken for this person, or the queue where there is none."""
    row = None
    if looking.may("reviewer") and not asked.wrong:
        row = looking.desk.memory.reviews.next_case(looking.actor, asked.asked, skip=trail.past)
    query = query_of(asked.said)
    if row is None:
        return f"/queue?{query}" if query else "/queue"
    return f"/cases/{row.case_id}?{query_of(asked.said, past=trail.said)}".rstrip("?")


@router.get("/cases/{case_id}/alike")
def alike(looking: Looking, case_id: int) -> Response:
    """The cases of one group, to be looked at before one decision serves all."""
    details = looking.desk.memory.reviews.case(looking.actor, case_id)
    rows = (details.row, *details.alike)
    looking.note("queue.seen", f"alike to case {case_id}", cases=[row.case_id for row in rows])
    query = query_of(filter_of(looking.request.url.query).said)
    return looking.page(
        "alike.html",
        here="queue",
        case_id=case_id,
        rows=rows,
        within_bits=looking.desk.settings.desk.group_within_bits,
        query=query,
        query_mark=f"?{query}" if query else "",
        may_pick=looking.may("reviewer"),
    )


@router.post("/queue/preview", dependencies=[_reviewers])
def preview(looking: Looking, form: Form) -> Response:
    """Show exactly what one decision on the picked cases would decide; nothing is decided yet."""
    asked = filter_of(str(form.get("queue", "")))
    picked = sorted(
        {
            int(str(one))
            for one in form.getlist("case")
            if str(one).isascii() and str(one).isdigit() and len(str(one)) <= _DIGITS
        }
    )
    if not picked or len(picked) > _MOST_PICKED:
        text = f"Found {len(picked)} picked cases, expected 1 to {_MOST_PICKED}; pick some in the queue."
        query = query_of(asked.said)
        return flash(go_to(f"/queue?{query}" if query else "/queue"), looking.request, text, "wrong")
    wanted = picked
    if "apart" not in form and asked.asked.grouped:
        wanted = _with_alike(looking, picked)
    found = looking.desk.memory.reviews.preview(looking.actor, wanted)
    looking.note("queue.previewed", f"{len(found.rows)} cases", cases=[row.case_id for row in found.rows])
    return _preview_page(looking, asked, found, Typed())


def _with_alike(looking: Visit, picked: Sequence[int]) -> list[int]:
    """The picked cases, and those that a row of the queue stands for besides."""
    wanted: dict[int, None] = {}
    for case_id in picked:
        details = looking.desk.memory.reviews.case(looking.actor, case_id)
        wanted.update(dict.fromkeys([case_id, *(row.case_id for row in details.alike if row.state == "open")]))
    return list(wanted)


def _preview_page(
    looking: Visit, asked: FilterAsked, found: BulkPreview, typed: Typed, wrong: str = "", status: int = 200
) -> Response:
    query = query_of(asked.said)
    return looking.page(
        "preview.html",
        status,
        here="queue",
        rows=found.rows,
        refused=sorted(found.refused.items()),
        typed=typed,
        wrong=wrong,
        query=query,
        query_mark=f"?{query}" if query else "",
    )


@router.post("/queue/decisions", dependencies=[_reviewers])
def decide_picked(looking: Looking, form: Form) -> Response:
    """Decide the cases of a preview, all or none: one that changed since it was shown stops all."""
    asked = filter_of(str(form.get("queue", "")))
    decision, typed, wrong = decision_of(form)
    try:
        seen = seen_cases(form, "case")
    except ValueError as error:
        seen, wrong = {}, str(error)
    if decision is None or wrong or not seen:
        return _again(looking, asked, seen, typed, wrong or "found no cases, expected some; pick them in the queue")
    try:
        batch = deciding.decide_all(looking.desk, looking.actor, tuple(seen), decision, looking.address, seen=seen)
    except (CaseTaken, DecisionRefused) as error:
        return _again(looking, asked, seen, typed, f"{error}. Nothing was decided; look at what is shown now", 409)
    query = query_of(asked.said)
    there = go_to(f"/queue?{query}" if query else "/queue")
    return tell_decided(there, looking.desk, batch.decided, batch.batch_id)


def _again(
    looking: Visit, asked: FilterAsked, seen: Mapping[int, int], typed: Typed, wrong: str, status: int = 422
) -> Response:
    """The preview as it is now, with what is wrong and all that was typed."""
    found = looking.desk.memory.reviews.preview(looking.actor, tuple(seen))
    return _preview_page(looking, asked, found, typed, wrong, status)
