"""A case file as bytes: one HTML page that needs nothing else, the same as PDF, or JSON."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import jinja2
from markupsafe import Markup
from PIL import ImageFile

from guardrail.desk.web.case_signals import SIGNALS
from guardrail.desk.web.casefile import document_of
from guardrail.extras import need

if TYPE_CHECKING:
    from collections.abc import Iterator

    from guardrail.desk.web.casefile import CaseFile, PictureView

__all__ = ["FORMATS", "FileFormat", "render_file"]

FileFormat = Literal["html", "pdf", "json"]
FORMATS: dict[FileFormat, str] = {
    "html": "text/html; charset=utf-8",
    "pdf": "application/pdf",
    "json": "application/json",
}
"""Every format of a case file, and its media type."""

_VARIANT = "pdf/a-3a"  # for archives, with files inside and with its structure told to screen readers
_IN_PRINT = (  # of a drawing: colour and font of its own; and WeasyPrint cuts the first letter of what ends at a place
    ("currentColor", "#1d2330"),
    ('font-family="inherit"', 'font-family="Noto Sans, DejaVu Sans, sans-serif"'),
    ('text-anchor="end">', 'text-anchor="end">\N{NO-BREAK SPACE}'),
    ('text-anchor="end" font-weight="700">', 'text-anchor="end" font-weight="700">\N{NO-BREAK SPACE}'),
)
_TEMPLATES = Path(__file__).parent / "templates"
_GLOSSARY = (
    ("Work", "A picture in the index, with its owner and what a match with it means."),
    ("Index", "The protected, licensed and generic works that images are compared with."),
    ("Signal", "One way to measure a likeness. Each has its own unit and limits."),
    *((name, said[:1].upper() + said[1:] + ".") for name, said in SIGNALS.values()),
    ("Flag limit, block limit", "From the one on an image is held for a person, from the other on it does not leave."),
    ("Calibration", "Fitting limits to a rate of false alarms, on pictures that copy none of the works."),
    ("Clean pictures", "Those that the limits were fitted on; they copy none of the works."),
    ("Verdict", "The program's decision on one image, with everything that it rests on."),
    ("Adapter", "A small set of weights laid over a model, such as a LoRA. It may have been trained on the works."),
    ("Ledger", "The list of all verdicts, decisions and releases. No row can be changed afterwards without a trace."),
    ("Checkpoint", "A signed statement of how many rows the ledger has and what they hash to."),
    ("Proof of inclusion", "The hashes that lead from one row to a checkpoint: the row is there, unchanged."),
    ("sha256", "A digest: two files that have the same one are the same file, as far as anybody can tell."),
)


def render_file(file: CaseFile, kind: FileFormat) -> bytes:
    """A case file as bytes.

    Args:
        file: what it says.
        kind: HTML and PDF carry the pictures, and the proofs as files; JSON is for programs.

    Raises:
        ExtraMissing: a PDF was asked for and WeasyPrint is not installed; HTML needs nothing.
    """
    if kind == "json":
        return (json.dumps(document_of(file), indent=2, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")
    if kind == "html":
        return _page(file, printed=False).encode("utf-8", "xmlcharrefreplace")
    weasyprint = _weasyprint()
    attached = [
        weasyprint.Attachment(string=content, name=name, description=said) for name, said, content in _attached(file)
    ]
    inside = need("weasyprint.urls", "pdf", "make a case file as PDF").URLFetcher(
        allowed_protocols={"data"}, allow_redirects=False, fail_on_errors=True
    )
    page = weasyprint.HTML(string=_page(file, printed=True), url_fetcher=inside)
    written: bytes = page.write_pdf(attachments=attached, pdf_variant=_VARIANT)
    return written


def _weasyprint() -> Any:
    """WeasyPrint; on import it tells Pillow to take pictures that are cut short, which guards must never do.

    Raises:
        ExtraMissing: it is not installed.
    """
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    try:
        return need("weasyprint", "pdf", "make a case file as PDF (as HTML it can be made now, and printed)")
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def _page(file: CaseFile, *, printed: bool) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["uri"] = _uri
    environment.filters["drawing"] = _drawing
    files = [] if printed else [(name, said, _uri(content, _mime(name))) for name, said, content in _attached(file)]
    names = [name for name, _, _ in _attached(file)]
    return environment.get_template("casefile.html").render(
        file=file, printed=printed, files=files, names=names, glossary=_GLOSSARY
    )


def _attached(file: CaseFile) -> Iterator[tuple[str, str, bytes]]:
    """The files inside the file: name, what it is, bytes."""
    pictures: list[PictureView] = [one for one in [file.image] if one is not None]
    pictures += [picture for one in file.compared for picture in one.pictures]
    for picture in pictures:
        if picture.whole:
            yield picture.name, picture.title, picture.whole
    for proof in file.ledger.proofs:
        yield (
            proof.name,
            f"proof of row {proof.number}: {proof.about}",
            proof.document.encode("utf-8", "backslashreplace"),
        )
    if file.ledger.proofs:
        yield "ledger.pub", "verifier key of the ledger", (file.ledger.verifier + "\n").encode()
        yield "ledger.checkpoint", "the signed checkpoint", file.ledger.checkpoint.encode()
    yield "case.json", "the same as JSON, for programs", render_file(file, "json")


def _mime(name: str) -> str:
    return {".png": "image/png", ".jpg": "image/jpeg", ".json": "application/json"}.get(Path(name).suffix, "text/plain")


def _uri(content: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"


def _drawing(svg: str, said: str, *, printed: bool) -> Markup:
    """One of our own plots; in print as a picture with colours of its own, and `said` for those who cannot see it."""
    if not printed:
        return Markup(svg)  # noqa: S704  # made by `draw_plot`, which escapes
    solid = str(svg)  # a Markup would escape what it replaces
    for ours, theirs in _IN_PRINT:
        solid = solid.replace(ours, theirs)
    return Markup('<img class="plot" alt="{}" src="{}">').format(said, _uri(solid.encode(), "image/svg+xml"))
