"""`/v1/webhooks`: who is told of events, and what went to them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from guardrail.desk.web.answers import (
    PROBLEMS,
    DeliveriesAnswer,
    DeliveryAnswer,
    WebhookAnswer,
    WebhookAsked,
    WebhookMade,
    WebhooksAnswer,
)
from guardrail.desk.web.asking import IdempotencyKey, digest_of, known_query, once
from guardrail.desk.web.delivering import require_target
from guardrail.desk.web.deps import address_of, scoped
from guardrail.desk.web.desk import Desk, desk_of
from guardrail.desk.web.problems import Problem
from guardrail.records import Actor

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["webhooks"], dependencies=[Depends(known_query)], responses=PROBLEMS)

_WebhookId = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="of the webhook")]
_Caller = Annotated[Actor, Depends(scoped("webhooks:write"))]
_MISSING = "found no such webhook here, expected one of your organisation; list them"
_MOST = 20  # webhooks of one organisation


@router.get("/webhooks", response_model=WebhooksAnswer, operation_id="webhooks")
def listed(desk: Annotated[Desk, Depends(desk_of)], actor: _Caller) -> WebhooksAnswer:
    """The webhooks of your organisation, without their secrets."""
    return WebhooksAnswer(webhooks=[WebhookAnswer.of(hook) for hook in desk.memory.webhooks.all(actor)])


@router.post("/webhooks", status_code=201, response_model=WebhookMade, operation_id="add_webhook")
async def add(
    request: Request,
    asked: WebhookAsked,
    desk: Annotated[Desk, Depends(desk_of)],
    actor: _Caller,
    key: IdempotencyKey = None,
) -> Response:
    """Have a URL told of events from now on. The answer holds the secret that they are signed with, this once."""
    require_target(asked.url, private=desk.settings.desk.webhook_private)

    def made() -> Response:
        if len(desk.memory.webhooks.all(actor)) >= _MOST:
            raise Problem(409, f"found {_MOST} webhooks, expected fewer; remove one first", "too-many-webhooks")
        hook, secret = desk.memory.webhooks.add(actor, asked.url, asked.events)
        said = {"url": asked.url, "events": list(hook.events)}
        desk.memory.audit.note(actor, "webhook.added", hook.webhook_id, said, address_of(request))
        answer = WebhookMade(**WebhookAnswer.of(hook).model_dump(), secret=secret)
        return Response(answer.model_dump_json(), 201, media_type="application/json")

    async def answer() -> Response:
        return await run_in_threadpool(made)

    return await once(desk, actor, key, lambda: digest_of(actor, request, [asked.model_dump_json().encode()]), answer)


@router.delete("/webhooks/{webhook_id}", status_code=204, operation_id="remove_webhook")
def remove(
    request: Request, webhook_id: _WebhookId, desk: Annotated[Desk, Depends(desk_of)], actor: _Caller
) -> Response:
    """Tell a webhook nothing any more, not even what waits."""
    if not desk.memory.webhooks.remove(actor, webhook_id):
        raise Problem(404, _MISSING, "no-such-webhook")
    desk.memory.audit.note(actor, "webhook.removed", webhook_id, {}, address_of(request))
    return Response(status_code=204)


@router.get("/webhooks/{webhook_id}/deliveries", response_model=DeliveriesAnswer, operation_id="deliveries")
def deliveries(
    webhook_id: _WebhookId,
    desk: Annotated[Desk, Depends(desk_of)],
    actor: _Caller,
    after: Annotated[str, Query(pattern="^([0-9a-f]{32})?$", description="`next` of the page before")] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> DeliveriesAnswer:
    """What went, and goes, to a webhook, newest first; kept for 30 days."""
    found = desk.memory.webhooks.deliveries(actor, webhook_id, after=after, limit=limit)
    if found is None:
        raise Problem(404, _MISSING, "no-such-webhook")
    following = found[-1].delivery_id if len(found) == limit else ""
    return DeliveriesAnswer(deliveries=[DeliveryAnswer.of(row) for row in found], next=following)
