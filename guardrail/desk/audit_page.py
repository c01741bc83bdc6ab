"""The page of an audit: one HTML file with every extracted work beside the generation nearest to it."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from guardrail.desk.audit_run import Audited
from guardrail.desk.audit_words import figure
from guardrail.errors import AuditImpossible
from guardrail.records import AuditClique, ExtractedWork

__all__ = ["write_page"]

_TEMPLATES = Path(__file__).parent / "templates"
_WORKS = 500  # with pictures: about 20 MB at 64 px
_CLIQUES = 100
_MEMBERS = 8  # of a clique, that are shown


def write_page(audited: Audited, path: Path) -> Path:
    """Write the report as one file that needs nothing else and fetches nothing; returns its path.

    Raises:
        AuditImpossible: the file cannot be written.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    report = audited.report
    works = [work for finding in report.findings for work in finding.works]
    cliques = [clique for finding in report.findings for clique in finding.cliques]
    environment.filters["figure"] = figure
    page = environment.get_template("audit.html").render(
        report=report,
        words={"clean": "clean", "memorised": "memorised", "could_not_tell": "could not tell"},
        works=[_work(audited, work) for work in works[:_WORKS]],
        left_out=max(0, len(works) - _WORKS),
        extracted=len(works),
        cliques=[_clique(audited, clique) for clique in cliques[:_CLIQUES]],
        call=", ".join(f"{name}={value!r}" for name, value in audited.subject.call.items()),
    )
    try:
        path.write_text(page.encode("utf-8", "replace").decode(), encoding="utf-8")
    except OSError as error:
        raise AuditImpossible(
            str(path), f"a page that cannot be written ({error})", "a file in a folder to write to", "name another"
        ) from error
    return path


def _work(audited: Audited, work: ExtractedWork) -> dict[str, Any]:
    subject = audited.subject
    row = subject.training.names.index(work.work)
    return {
        "work": work,
        "original": _uri(subject.training.read(row, subject.side_px)),
        "generation": _generation(audited, work.nearest),
    }


def _clique(audited: Audited, clique: AuditClique) -> dict[str, Any]:
    return {"clique": clique, "shown": [_generation(audited, number) for number in clique.members[:_MEMBERS]]}


def _generation(audited: Audited, number: int) -> str:
    made = audited.subject.generated
    return _uri(made.pixels[made.numbers.index(number)])


def _uri(pixels: NDArray[np.uint8]) -> str:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
