"""What the HTTP API answers with; every field is said in docs and in the OpenAPI document."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from guardrail.desk.web.problems import ProblemAnswer
from guardrail.memory import DeliveryRow, JobRow, WebhookEvent, WebhookRow
from guardrail.records import Decision, IndexChange, Verdict

__all__ = [
    "PROBLEMS",
    "CheckAnswer",
    "CheckedImage",
    "DeliveriesAnswer",
    "DeliveryAnswer",
    "JobAnswer",
    "WebhookAnswer",
    "WebhookAsked",
    "WebhookMade",
    "WebhooksAnswer",
    "WorkAnswer",
]


def _problem(says: str) -> dict[str, Any]:
    return {"model": ProblemAnswer, "description": says}


PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: _problem("The request cannot be read."),
    401: _problem("No token, or one that is not valid any more."),
    403: _problem("The token's scopes, or its person's role, do not allow it."),
    404: _problem("There is no such thing in your organisation."),
    409: _problem("In conflict with what is there; or the first request with this Idempotency-Key is still running."),
    413: _problem("The request holds too much."),
    415: _problem("The body is of another type."),
    422: _problem("A field, or a query parameter, cannot be followed."),
    429: _problem("Too many requests; see Retry-After."),
    503: _problem("Too much waits, or a store cannot be reached; see Retry-After. Nothing was done."),
}
"""What any request may be answered with instead."""


class CheckedImage(BaseModel):
    """What was found of one image. Where `problem` is set it could not be checked, and must not be used."""

    image: str = Field(description="the file's name, as it was sent")
    decision: Decision = Field(description="`block` where it could not be checked, whatever the reason")
    rule: str = Field(description="the rule of the policy that decided; `not_checked` where there is no verdict")
    explanation: str
    verdict: Verdict | None = Field(description="the whole verdict, with its evidence; null where there is none")
    problem: ProblemAnswer | None = None


class CheckAnswer(BaseModel):
    """The verdicts on the images of one request, in the order they were sent."""

    check_id: str = Field(description="names this check: the images' names in verdicts begin with it")
    decision: Decision = Field(description="the most severe of them")
    images: list[CheckedImage]


class JobAnswer(BaseModel):
    """Work that goes on."""

    job_id: str
    kind: str
    state: Literal["waiting", "running", "done", "failed"]
    done: int = Field(ge=0)
    total: int = Field(ge=0, description="0 where that is not known")
    attempts: int = Field(ge=0)
    created_at: str
    answer: dict[str, Any] | None = Field(description="what came of it; of a check, what a sync one answers")

    @classmethod
    def of(cls, job: JobRow) -> JobAnswer:
        """A job as it is told."""
        return cls(**{name: getattr(job, name) for name in cls.model_fields})


class WorkAnswer(BaseModel):
    """What became of a work."""

    bank: str
    work_id: str
    change: IndexChange
    rescan: str | None = Field(default=None, description="job that looks for it among released outputs, where asked")


class WebhookAsked(BaseModel, extra="forbid"):
    """A webhook that is wanted."""

    url: str = Field(max_length=2000, description="public https address; redirections are not followed")
    events: list[WebhookEvent] = Field(min_length=1, max_length=20)


class WebhookAnswer(BaseModel):
    """A webhook, without its secret."""

    webhook_id: str
    url: str
    events: list[str]
    created_at: str

    @classmethod
    def of(cls, hook: WebhookRow) -> WebhookAnswer:
        """A webhook as it is told."""
        return cls(webhook_id=hook.webhook_id, url=hook.url, events=list(hook.events), created_at=hook.created_at)


class WebhookMade(WebhookAnswer):
    """A webhook that was just made, with its secret: shown this once."""

    secret: str | None = Field(
        default=None, description="signs what is sent; left out where the answer is given again under its key"
    )


class WebhooksAnswer(BaseModel):
    """The webhooks of the organisation."""

    webhooks: list[WebhookAnswer]


class DeliveryAnswer(BaseModel):
    """One event on its way to a webhook."""

    delivery_id: str
    event: str
    state: Literal["waiting", "delivered", "given_up"]
    attempts: int = Field(ge=0)
    due_at: str
    last_status: int | None
    last_error: str
    created_at: str

    @classmethod
    def of(cls, row: DeliveryRow) -> DeliveryAnswer:
        """A delivery as it is told."""
        return cls(**{name: getattr(row, name) for name in cls.model_fields})


class DeliveriesAnswer(BaseModel):
    """Deliveries to one webhook, newest first; `next` is the cursor of the next page, empty on the last."""

    deliveries: list[DeliveryAnswer]
    next: str
