"""The page of a query: each image beside the training images that it is estimated to owe to."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import jinja2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from guardrail.attribution_errors import AttributionImpossible
from guardrail.desk.attribute_query_run import AttributedImage
from guardrail.study.attribution.report import SAID, headline, lines_of

__all__ = ["write_attribution_page"]

_TEMPLATES = Path(__file__).parent / "templates"


def write_attribution_page(found: Sequence[AttributedImage], path: Path) -> Path:
    """Write what was found as one file that needs nothing else and fetches nothing; returns its path.

    Raises:
        AttributionImpossible: the file cannot be written.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    images = [
        {
            "path": one.path.name,
            "picture": _uri(one.pixels),
            "headline": headline(one.attribution),
            "lines": lines_of(one.attribution)[1:],
            "attribution": one.attribution,
            "influences": list(zip(one.attribution.influences, map(_uri, one.shown), strict=True)),
        }
        for one in found
    ]
    page = environment.get_template("attribution.html").render(images=images, said=SAID)
    try:
        path.write_text(page.encode("utf-8", "replace").decode(), encoding="utf-8")
    except OSError as error:
        raise AttributionImpossible(
            str(path), f"a page that cannot be written ({error})", "a file in a folder to write to", "name another"
        ) from error
    return path


def _uri(pixels: NDArray[np.uint8]) -> str:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
