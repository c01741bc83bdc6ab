"""Pages on which a lead makes the file of a case, chooses what goes into it, and gets it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, Form
from pydantic import BaseModel, Field
from starlette.responses import Response

from guardrail.desk.web.casefile import FileChoices, FileSource, gather_file
from guardrail.desk.web.casefile_render import FORMATS, FileFormat, render_file
from guardrail.desk.web.deps import allowed
from guardrail.desk.web.visiting import Visit, visit
from guardrail.errors import ExtraMissing

if TYPE_CHECKING:
    from guardrail.desk.web.casefile import CaseFile

__all__ = ["Asked", "choose_file", "make_file", "router"]

router = APIRouter()

Looking = Annotated[Visit, Depends(visit)]
_leads = Depends(allowed("lead"))
_Line = Annotated[str, Field(max_length=200)]


class Asked(BaseModel):
    """The form: what goes into the file, and as what it is made."""

    kind: FileFormat = "html"
    prompts: bool = False
    names: bool = False
    notes: bool = False
    claimant: _Line = ""
    respondent: _Line = ""
    reference: _Line = ""
    prepared_by: _Line = ""

    @property
    def choices(self) -> FileChoices:
        """What was chosen."""
        return FileChoices(
            prompts=self.prompts,
            names=self.names,
            notes=self.notes,
            claimant=self.claimant.strip(),
            respondent=self.respondent.strip(),
            reference=self.reference.strip(),
            prepared_by=self.prepared_by.strip(),
        )


@router.get("/cases/{case_id}/file", dependencies=[_leads])
def choose_file(looking: Looking, case_id: int) -> Response:
    """What is to go into the file."""
    looking.note("case_file.asked", f"case {case_id}")
    return _form(looking, case_id, Asked(notes=True))


@router.post("/cases/{case_id}/file", dependencies=[_leads])
def make_file(looking: Looking, case_id: int, asked: Annotated[Asked, Form()]) -> Response:
    """Make the file, note it in the audit with its digest, and hand it out."""
    desk = looking.desk
    guard = desk.guard_for(looking.actor.organisation)
    source = FileSource(desk.memory, guard, desk.settings.keys_dir, looking.actor)
    file = gather_file(source, case_id, asked.choices)
    try:
        content = render_file(file, asked.kind)
    except ExtraMissing as error:
        return _form(looking, case_id, asked, wrong=str(error))
    looking.note("case_file.made", f"case {case_id}", **_noted(file, asked, content))
    headers = {
        "Content-Disposition": f'attachment; filename="case-{case_id}.{asked.kind}"',
        "Cache-Control": "no-store",
    }
    return Response(content, media_type=FORMATS[asked.kind], headers=headers)


def _noted(file: CaseFile, asked: Asked, content: bytes) -> dict[str, object]:
    chosen = {"prompts": asked.prompts, "names": asked.names, "notes": asked.notes}
    return {
        "sha256": hashlib.sha256(content).hexdigest(),
        "kind": asked.kind,
        "verdict_id": file.view.verdict_id,
        "ledger_rows": file.ledger.size,
        **chosen,
    }


def _form(looking: Visit, case_id: int, asked: Asked, wrong: str = "") -> Response:
    details = looking.desk.memory.reviews.case(looking.actor, case_id)
    return looking.page(
        "casefile_form.html",
        501 if wrong else 200,
        here="queue",
        row=details.row,
        asked=asked,
        wrong=wrong,
    )
