"""What the next page says about a decision, with the way to take it back; carried once, in a cookie of the browser."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Literal, NamedTuple

from guardrail.desk.web.case_words import OUTCOMES
from guardrail.desk.web.deps import cookie_name, set_cookie

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from guardrail.desk.web.desk import Desk
    from guardrail.memory import Decided

__all__ = ["Banner", "banners_of", "forget_banners", "tell_decided"]

_COOKIE = "guardrail_done"
_SECONDS = 600  # so long it waits for a page
_ID = re.compile(r"[0-9a-f]{32}")
_LARGEST = 1_000_000_000  # number of a case: what comes back is checked before it is shown


class Banner(NamedTuple):
    """A line above a page: how it looks, what it says, and the address that takes it back, or ""."""

    kind: Literal["done", "note", "wrong"]
    text: str
    undo: str = ""


def tell_decided(response: Response, desk: Desk, decided: tuple[Decided, ...], wanted: str) -> Response:
    """Have the next page say what was decided.

    Args:
        response: that is sent now; returned again.
        desk: whose cookie it is.
        decided: the decisions, at least one.
        wanted: the id by which they are taken back: of the decision, or of the batch.
    """
    first = decided[0]
    document = {
        "id": wanted,
        "cases": [first.decision.case_id, len(decided)],
        "outcome": first.decision.outcome,
        "second": any(one.needs_second for one in decided),
        "disputed": any(one.state == "disputed" for one in decided),
    }
    packed = base64.urlsafe_b64encode(json.dumps(document).encode()).decode()
    set_cookie(response, desk, _COOKIE, packed, _SECONDS)
    return response


def banners_of(request: Request, desk: Desk) -> tuple[Banner, ...]:
    """What is to be said on this page; nothing where the cookie is not one of ours."""
    packed = request.cookies.get(cookie_name(desk, _COOKIE), "")
    try:
        said = json.loads(base64.urlsafe_b64decode(packed.encode()))
        wanted, (case_id, count), outcome = said["id"], said["cases"], OUTCOMES[said["outcome"]]
    except (ValueError, TypeError, KeyError, RecursionError):
        return ()
    numbers = isinstance(case_id, int) and isinstance(count, int) and 0 < min(case_id, count) < _LARGEST
    if not numbers or not isinstance(wanted, str) or not _ID.fullmatch(wanted):
        return ()
    about = f"case {case_id}" if count == 1 else f"{count} cases"
    later = " A second person looks too before it counts." if said.get("second") is True else ""
    if said.get("disputed") is True:
        later = " Two people differ, so nothing follows until a lead settles it."
    return (Banner("done", f"Decided {about}: {outcome.done}.{later}", f"/decisions/{wanted}/undo"),)


def forget_banners(request: Request, response: Response, desk: Desk) -> Response:
    """Say it once: the page that showed it takes the cookie away."""
    if cookie_name(desk, _COOKIE) in request.cookies:
        set_cookie(response, desk, _COOKIE, "", 0)
    return response
