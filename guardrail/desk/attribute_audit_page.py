"""The page of a disputed image: what the seed makes with and without the group, and what is lost with the image."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import jinja2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from guardrail.desk.attribute_audit_run import Audited
from guardrail.desk.attribute_audit_words import MEASURES, SAID
from guardrail.errors import AuditImpossible
from guardrail.study.attribution.leaving_out import ALL, GROUP

__all__ = ["write_page"]

_TEMPLATES = Path(__file__).parent / "templates"
_GROUPS = 12  # random groups whose picture is shown
_IMAGES = 48  # training pictures that are shown
_SHOWN_PX = 256  # their side, at most


def write_page(audited: Audited, path: Path) -> Path:
    """Write the report as one file that needs nothing else and fetches nothing; returns its path.

    Raises:
        AuditImpossible: the file cannot be written.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    report, rows = audited.report, {name: row for row, name in enumerate(audited.training.names)}
    side = min(_SHOWN_PX, audited.disputed.shape[0])
    page = environment.get_template("attribute_audit.html").render(
        report=report,
        said=SAID[report.outcome],
        measures=MEASURES,
        pictures=_pictures(audited),
        images=[(one, _uri(audited.training.read(rows[one.image], side))) for one in report.images[:_IMAGES]],
        left_out=max(0, len(report.images) - _IMAGES),
    )
    try:
        path.write_text(page.encode("utf-8", "replace").decode(), encoding="utf-8")
    except OSError as error:
        raise AuditImpossible(
            str(path), f"a page that cannot be written ({error})", "a file in a folder to write to", "name another"
        ) from error
    return path


def _pictures(audited: Audited) -> list[tuple[str, str]]:
    """What is shown in a row, with its words: the disputed image first, random groups last."""
    shown = [("the disputed image", audited.disputed), ("what the seed makes of the model", audited.made)]
    words = {ALL: "trained on with every picture", GROUP: "trained on without the group"}
    shown += [(said, audited.after[name]) for name, said in words.items() if name in audited.after]
    random = [name for name in audited.after if name not in words][:_GROUPS]
    shown += [("without a random group", audited.after[name]) for name in random]
    return [(said, _uri(pixels)) for said, pixels in shown]


def _uri(pixels: NDArray[np.uint8]) -> str:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
