"""The page of `bench style`: every flagged picture beside the works that it resembles, for a person to look at."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from guardrail.desk.style_run import Flagged, StyleRun
from guardrail.errors import SettingsInvalid
from guardrail.study.style import Arm, Cause, StyleFigures

__all__ = ["write_page"]

_TEMPLATES = Path(__file__).parent / "templates"
_SHOWN = 300  # pictures of a section; a page of all is about 20 MB
_WORKS = 3  # beside each
_SECTIONS = (
    (Arm.OWN, Cause.UNPROVED, "Flagged, with works of the same group in the index", "Nothing proves a copy."),
    (Arm.OTHER, Cause.UNPROVED, "Flagged, with works of other groups only", "The baseline. Nothing proves a copy."),
    (Arm.OWN, Cause.PROVED, "Copies as far as proof goes, same group in the index", "Not counted as false alarms."),
    (Arm.OTHER, Cause.PROVED, "Copies as far as proof goes, other groups only", "Not counted as false alarms."),
    (Arm.OWN, Cause.FAINT, "Too little in them to hash", "Flagged unseen, whatever the index holds."),
)


def write_page(run: StyleRun, figures: tuple[StyleFigures, ...], path: Path) -> Path:
    """Write one file that needs nothing else and fetches nothing; returns its path.

    Raises:
        SettingsInvalid: the file cannot be written.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("style.html").render(
        run=run,
        figures=figures,
        parts=[
            {"figures": one, "sections": [_section(run, one.limits, *section) for section in _SECTIONS]}
            for one in figures
        ],
    )
    try:
        path.write_text(page.encode("utf-8", "replace").decode(), encoding="utf-8")
    except OSError as error:
        raise SettingsInvalid("--html", f"{str(path)!r}, which cannot be written: {error}") from error
    return path


def _section(run: StyleRun, limits: str, arm: Arm, cause: Cause, title: str, about: str) -> dict[str, Any]:
    found = [one for one in run.flagged if (one.limits, one.judged.arm, one.judged.cause) == (limits, arm, cause)]
    return {
        "title": title,
        "about": about,
        "count": len(found),
        "left_out": max(0, len(found) - _SHOWN),
        "cards": [_card(run, one) for one in found[:_SHOWN]],
    }


def _card(run: StyleRun, one: Flagged) -> dict[str, Any]:
    return {
        "flagged": one,
        "picture": _uri(run.thumbnails[one.judged.file]),
        "works": [(work, _uri(run.thumbnails[work.file])) for work in one.works[:_WORKS]],
        "more": max(0, len(one.works) - _WORKS),
    }


def _uri(pixels: NDArray[np.uint8]) -> str:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"
