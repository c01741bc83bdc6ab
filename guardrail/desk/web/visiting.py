"""One look of a person at the desk: who they are, through which browser, and how pages are made for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from guardrail.desk.web import case_words as words
from guardrail.desk.web.banners import Banner, banners_of, forget_banners
from guardrail.desk.web.deps import actor, address_of, person
from guardrail.desk.web.desk import Desk, desk_of
from guardrail.memory import at_least
from guardrail.records import Actor

if TYPE_CHECKING:
    from guardrail.desk.web.thumbnails import Veil
    from guardrail.records.review import Role

__all__ = ["Visit", "go_to", "visit"]

_SHARED = {
    "outcomes": words.OUTCOMES,
    "questions": words.QUESTIONS,
    "reasons": words.REASONS,
    "rounds": words.ROUNDS,
    "states": words.STATES,
    "why": words.why_flagged,
    "suggested": frozenset(answer.reason for one in words.QUESTIONS for answer in one.answers if answer.reason),
}


@dataclass(frozen=True)
class Visit:
    """One request of a person who signed in.

    Attributes:
        request: that is answered.
        desk: that it came to.
        actor: who asks.
    """

    request: Request
    desk: Desk
    actor: Actor

    @cached_property
    def veil(self) -> Veil:
        """How images that may be sensitive are shown to this person until they ask for them."""
        found = person(self.request)
        return found.preferences.blur if found is not None else "blur"

    @cached_property
    def names(self) -> dict[str, str]:
        """Names of the organisation's people by account, for "Anna has it"."""
        return dict(self.desk.memory.accounts.names(self.actor.organisation))

    def may(self, role: Role) -> bool:
        """Whether this person may what a role may."""
        return at_least(self.actor.role, role)

    @property
    def address(self) -> str:
        """Where the request came from, for the audit."""
        return address_of(self.request)

    def note(self, action: str, target: str, **details: Any) -> None:
        """Enter a look in the audit, before anything is shown.

        Raises:
            MemoryUnwritable: it was not entered; nothing may be shown.
        """
        self.desk.memory.audit.note(self.actor, action, target, details, self.address)

    def page(self, template: str, status: int = 200, banners: Sequence[Banner] = (), **shown: Any) -> Response:
        """A page, with what the last one left to be said."""
        now = datetime.now(UTC)
        page = self.desk.page(
            self.request,
            template,
            status,
            **_SHARED,
            names=self.names,
            veil=self.veil,
            age=lambda since: words.age_words(since, now),
            may_lead=self.may("lead"),
            banners=(*banners_of(self.request, self.desk), *banners),
            **shown,
        )
        return forget_banners(self.request, page, self.desk)


def visit(request: Request, desk: Annotated[Desk, Depends(desk_of)], who: Annotated[Actor, Depends(actor)]) -> Visit:
    """A person's look: a dependency of the routes of queue and cases."""
    return Visit(request, desk, who)


def go_to(address: str) -> RedirectResponse:
    """Answer a form: the browser loads an address of ours next."""
    return RedirectResponse(address, status_code=303)
