"""The demo's report: one HTML file with its pictures, generated beside nearest work, with signals and decision."""

import base64
import io
from collections import Counter
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from guardrail.desk.demo_run import DemoImage, DemoRun
from guardrail.desk.match_picture import draw_match, telling_match
from guardrail.records import CheckFailed, Decision, GeometryMatch, MatchEvidence, Unproved

__all__ = ["write_report"]

_TEMPLATES = Path(__file__).parent / "templates"


def write_report(run: DemoRun, path: Path) -> Path:
    """Write the report of a demo as one file that needs nothing else; returns its path."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    groups = {
        name: [_card(one) for one in _ordered(run, name)] for name in dict.fromkeys(one.pipeline for one in run.images)
    }
    page = environment.get_template("report.html").render(
        groups=groups,
        counts=Counter(str(one.verdict.decision) for one in run.images),
        outcomes=Counter(one.outcome for one in run.images).most_common(),
        run=run,
        total=len(run.images),
        calibration=run.header.limits.calibration,
    )
    path.write_text(page, encoding="utf-8")
    return path


def _ordered(run: DemoRun, pipeline: str) -> list[DemoImage]:
    """Misses first, then by severity: what a reader should look at is at the top."""
    ours = [one for one in run.images if one.pipeline == pipeline]
    return sorted(ours, key=lambda one: (not one.outcome.startswith("MISSED"), -one.verdict.decision.severity))


def _card(one: DemoImage) -> dict[str, Any]:
    verdict = one.verdict
    near = verdict.nearest[0] if verdict.nearest else None
    return {
        "decision": str(verdict.decision),
        "word": {Decision.ACCEPT: "accepted", Decision.FLAG: "held for review", Decision.BLOCK: "blocked"}[
            verdict.decision
        ],
        "generated": _png_uri(one.pixels),
        "nearest": _uri(one.nearest_preview, "jpeg") if one.nearest_preview else None,
        "work": near.work if near else None,
        "region": _region(one),
        "explanation": verdict.explanation,
        "signals": _signals(one),
        "credits": verdict.credits,
        "outcome": one.outcome,
        "truth": one.truth,
        "output": one.output.name if one.output else None,
        "missed": one.outcome.startswith("MISSED"),
    }


def _region(one: DemoImage) -> tuple[str, str] | None:
    """The picture of where the nearest work lies in the image, and what it shows; None where nothing says where."""
    near = one.verdict.nearest[0] if one.verdict.nearest else None
    found = telling_match(one.verdict.evidence, near.work) if near else None
    if found is None or one.nearest_preview is None:
        return None
    if isinstance(found, GeometryMatch):
        caption = f"where the work lies in the image; {found.inliers} matching points cover {found.overlap:.0%} of it"
    else:
        caption = f"the tiles that agree: {found.signal} similarity {found.similarity:.3f}"
    return _png_uri(np.asarray(draw_match(one.pixels, one.nearest_preview, found))), caption


def _signals(one: DemoImage) -> list[tuple[str, str, bool]]:
    """Name, value and whether it reached a limit, of the strongest measurement of each signal on the nearest work."""
    near = one.verdict.nearest[0] if one.verdict.nearest else None
    rows: dict[str, tuple[str, str, bool]] = {}
    for found in one.verdict.evidence:
        if isinstance(found, CheckFailed):
            rows[found.check] = (found.check, "could not say", True)
        elif isinstance(found, Unproved):
            if near and found.work == near.work:
                rows.setdefault("closer look", ("closer look", "no region found again", False))
        elif near and isinstance(found, MatchEvidence) and found.work == near.work:
            rows.setdefault(str(found.signal), (str(found.signal), _value(found), True))
    if near:
        rows.setdefault(str(near.signal), (str(near.signal), _value(near), False))
    return list(rows.values())


def _value(measured: Any) -> str:
    if isinstance(measured, GeometryMatch):
        return f"{measured.inliers} points"
    similarity, bits = getattr(measured, "similarity", None), getattr(measured, "distance_bits", None)
    if similarity is not None:
        return f"{similarity:.3f}"
    return f"{bits} bits" if bits is not None else "the same"


def _png_uri(pixels: NDArray[np.uint8]) -> str:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return _uri(content.getvalue(), "png")


def _uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
