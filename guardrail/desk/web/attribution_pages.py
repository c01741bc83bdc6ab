"""Estimating what a case's image owes to training images: asked for on its page, or by the guard; done by a job."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends
from starlette.responses import Response

from guardrail.attribution_errors import AttributionImpossible
from guardrail.desk.web.deps import allowed, flash
from guardrail.desk.web.visiting import Visit, go_to, visit
from guardrail.review_errors import CaseMissing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastapi import FastAPI

    from guardrail.desk.web.desk import Desk
    from guardrail.memory import JobRow
    from guardrail.records import Adapter

__all__ = ["attribute", "can_estimate", "estimate", "install", "router"]

router = APIRouter()
_loading = threading.Lock()  # one model in memory at a time
_PLACE = re.compile(r"\[(\d+)\]")


def install(app: FastAPI, desk: Desk) -> None:
    """Do estimates when jobs ask for them, where the settings name a model."""
    del app
    if can_estimate(desk):
        desk.handlers["attribute"] = lambda job: attribute(desk, job)


def can_estimate(desk: Desk) -> bool:
    """Whether the settings name gradients and the model that they were made of."""
    said = desk.settings.attribution
    return said.gradients is not None and bool(said.model)


@router.post("/cases/{case_id}/attribution", dependencies=[Depends(allowed("reviewer"))])
def estimate(looking: Annotated[Visit, Depends(visit)], case_id: int) -> Response:
    """Have it estimated; the page shows it once the job is done."""
    details = looking.desk.memory.reviews.case(looking.actor, case_id)
    if not can_estimate(looking.desk):
        raise AttributionImpossible(
            f"case {case_id}", "no model in the settings", "attribution.gradients and attribution.model", "set both"
        )
    looking.note("case.attributed", f"case {case_id}", verdict_id=details.row.verdict_id)
    organisation, account = looking.actor.organisation, looking.actor.account_id
    looking.desk.memory.jobs.add(organisation, "attribute", {"case_id": case_id}, account, 1)
    looking.desk.workers.nudge()
    said = "The estimate is being made; load the page again in a moment."
    return flash(go_to(f"/cases/{case_id}"), looking.request, said)


def attribute(desk: Desk, job: JobRow) -> dict[str, Any]:
    """Estimate what the image of a case owes, and keep it in the ledger; a second time makes a second estimate.

    Raises:
        CaseMissing, PictureMissing: there is no such case, or its picture is not kept any more.
        AttributionImpossible, GradientsMissing, GradientsDamaged, GradientsMismatch: it cannot be estimated.
        MemoryUnwritable: it could not be kept.
    """
    held = desk.memory.reviews.held(job.organisation, _case_of(desk, job))
    from guardrail import act
    from guardrail.desk.audit_subject import load_pipeline
    from guardrail.fingerprint import resolve_device

    guard = desk.guard_for(job.organisation)
    with _loading:
        pipe = load_pipeline(desk.settings.attribution.model, resolve_device(desk.settings.device))
        if held.context is not None:
            _switch_on(pipe, held.context.adapters)
        pixels = np.ascontiguousarray(act.decode_image(held.png, "image/png"))
        place = _PLACE.search(held.verdict.image)
        found = guard.attributing.of_image(pipe, pixels, held.context, int(place[1]) if place else 0)
    found = found.model_copy(update={"verdict_id": held.verdict.verdict_id})
    desk.memory.record_attribution(found)
    return {"attribution_id": found.attribution_id, "named": len(found.named)}


def _case_of(desk: Desk, job: JobRow) -> int:
    if "case_id" in job.asked:
        return int(job.asked["case_id"])
    verdict_id = str(job.asked["verdict_id"])
    found = desk.memory.reviews.case_of_verdict(job.organisation, verdict_id)
    if found is None:
        raise CaseMissing(verdict_id)
    return found


def _switch_on(pipe: Any, adapters: Sequence[Adapter]) -> None:
    """Have the adapters of a run on, by name, with their weights.

    Raises:
        AttributionImpossible: the model comes without one of them.
    """
    wanted = {one.name: 1.0 if one.weight is None else one.weight for one in adapters if one.kind == "lora"}
    fused = [one.name for one in adapters if one.fused]
    there = {name for names in getattr(pipe, "get_list_adapters", dict)().values() for name in names}
    if missing := sorted({*wanted, *fused} - there):
        raise AttributionImpossible(
            "the run", f"adapters {', '.join(missing)}", "a model that comes with them", "load them in its function"
        )
    if wanted:
        pipe.set_adapters(list(wanted), list(wanted.values()))
    elif there:
        pipe.disable_lora()
