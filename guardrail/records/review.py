"""The review of flagged images: who acts, what is asked of a case, what was decided on it."""

from typing import Literal

from pydantic import AwareDatetime, Field

from guardrail.records.base import Record, Sha256
from guardrail.records.limits import Decision

__all__ = [
    "Actor",
    "CaseFilter",
    "CaseRow",
    "CaseState",
    "DecisionAsked",
    "ReasonCode",
    "ReviewAnswers",
    "ReviewDecision",
    "ReviewOutcome",
    "ReviewRound",
    "Role",
    "Scope",
]

Role = Literal["viewer", "reviewer", "lead", "admin"]
Scope = Literal["check", "verdicts:read", "works:write", "cases:read", "cases:decide", "webhooks:write"]
ReviewOutcome = Literal["release", "withhold", "release_with_credit", "not_a_match"]
CaseState = Literal["open", "second", "disputed", "appealed", "decided", "erased"]
ReviewRound = Literal["first", "second", "resolution", "appeal", "repeat"]
ReasonCode = Literal[
    "expression_copied",
    "style_or_idea_only",
    "substantial_part",
    "small_part",
    "transformed",
    "licensed",
    "generic_imagery",
    "wrong_work",
    "own_work",
    "work_not_protected",
    "sensitive",
    "other",
]


class Actor(Record):
    """Who asks: a person who signed in, or an API token. Every query is scoped to its organisation.

    `account_id` is that of the person, also where a token of theirs acts (`token_id`). A token may do what its scopes
    say and its person's role allows; of a person who signed in `scopes` is None, and the role says all.
    """

    account_id: str
    organisation: str
    role: Role
    token_id: str | None = None
    scopes: tuple[Scope, ...] | None = None


class ReviewAnswers(Record):
    """What a reviewer was asked, in this order; None where it was not answered."""

    copied: Literal["expression", "style", "idea", "nothing"] | None = None
    how_much: Literal["whole", "substantial", "small", "trivial"] | None = None
    transformed: Literal["yes", "no"] | None = None
    licensed: Literal["yes", "no"] | None = None


class DecisionAsked(Record):
    """What a person wants decided on a case.

    `seen_revision` is the revision of the case that they saw: a case that changed since is not decided.
    """

    outcome: ReviewOutcome
    reasons: tuple[ReasonCode, ...] = ()
    note: str = Field(default="", max_length=4000)
    answers: ReviewAnswers = ReviewAnswers()
    seen_revision: int | None = Field(default=None, ge=0)


class ReviewDecision(Record):
    """A person's decision on a case; appended, never edited.

    `round` says in which look it was taken: the first, a second one that did not see the first, the resolution of two
    that differ, an appeal, or the repeat of what was decided on the same pixels. `undoes` names the decision that this
    one takes back; its outcome is then the one that was taken back. `repeats` names the decision on the same pixels
    that a repeat follows. `batch_id` is shared by those decided at once. The note is kept with
    the case, and only its digest is in the ledger.
    """

    schema_version: Literal[1] = 1
    decision_id: str
    case_id: int = Field(ge=1)
    verdict_id: str
    organisation: str
    account_id: str
    round: ReviewRound
    outcome: ReviewOutcome
    reasons: tuple[ReasonCode, ...] = ()
    answers: ReviewAnswers = ReviewAnswers()
    note_sha256: Sha256 | None = None
    undoes: str | None = None
    repeats: str | None = None
    batch_id: str | None = None
    at: AwareDatetime

    @property
    def lets_out(self) -> bool:
        """Whether the image may leave by this decision."""
        return self.outcome != "withhold" and self.undoes is None


class CaseFilter(Record):
    """Which cases of the actor's organisation: all that is said must hold; empty or None says nothing."""

    states: tuple[CaseState, ...] = ("open",)
    bank: str = ""
    holder: str = ""
    model: str = ""
    adapter: str = ""
    rule: str = ""
    work: str = ""
    older_than_h: float | None = Field(default=None, ge=0)
    mine: bool = False
    grouped: bool = True


class CaseRow(Record):
    """A case as the queue shows it; with `grouped`, one row stands for `alike` cases that are nearly the same picture.

    `severity` is 0..1, how far the strongest evidence lies beyond its flag limit on the way to its block limit.
    `leased_to` is the account that has it now, where that is not the one who asks; `revision` changes with the case.
    """

    case_id: int = Field(ge=1)
    group_id: int = Field(ge=1)
    alike: int = Field(default=1, ge=1)
    seen_times: int = Field(default=1, ge=1)
    verdict_id: str
    state: CaseState
    opened_at: AwareDatetime
    rule: str
    decision: Decision = Decision.FLAG
    severity: float = Field(ge=0, le=1)
    image: str
    nearest_work: str = ""
    nearest_title: str = ""
    bank: str = ""
    holder: str = ""
    model: str = ""
    adapters: tuple[str, ...] = ()
    leased_to: str | None = None
    outcome: ReviewOutcome | None = None
    sensitive: bool = False
    revision: int = Field(default=0, ge=0)
