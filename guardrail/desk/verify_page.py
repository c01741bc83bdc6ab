"""The page of `guardrail verify`: each picture, its outcome in plain words, every layer, and what was claimed."""

from __future__ import annotations

import base64
import io
import re
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from PIL import Image

from guardrail.desk.verifying import Verified
from guardrail.errors import SettingsInvalid
from guardrail.records import VerifyLayer, VerifyOutcome, VerifyReport

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["write_page"]

_TEMPLATES = Path(__file__).parent / "templates"
_SIDE_PX, _QUALITY = 320, 85  # of the pictures on the page
_HEADINGS = {
    VerifyOutcome.OURS: "Signed by us, and intact",
    VerifyOutcome.TAMPERED: "Changed after it was signed",
    VerifyOutcome.OTHER_SIGNER: "Signed by somebody else",
    VerifyOutcome.NO_CREDENTIAL: "Nothing in it says who made it",
    VerifyOutcome.EXPIRED: "Signed by us; the certificate has expired since",
}
_COPIES = {  # of what looks like an output of ours
    VerifyOutcome.NO_CREDENTIAL: "A copy of a picture of ours, without our signature",
    VerifyOutcome.OTHER_SIGNER: "A copy of a picture of ours, signed by somebody else",
}
_MEANINGS = {
    VerifyOutcome.OURS: "We signed this very file, and nothing in it was changed since.",
    VerifyOutcome.TAMPERED: "It has a signature, but the file or its records are not as they were when it was signed.",
    VerifyOutcome.OTHER_SIGNER: "It has a signature, and that is not ours: we cannot speak for who made it.",
    VerifyOutcome.NO_CREDENTIAL: "Most pictures carry no signature: this alone says nothing for or against it.",
    VerifyOutcome.EXPIRED: "It is unchanged, but nobody can tell whether it was signed before the certificate ended.",
}
_MEANING_OF_A_COPY = "It looks like what we released. Signatures get lost when a picture is saved anew or cropped."
_LAYERS = {
    "credential": "signature",
    "time_stamp": "time of signing",
    "watermark": "invisible mark",
    "ledger": "our records",
    "fingerprint": "looks like ours",
}
_UNREADABLE = "It could not be read"
_A_FILE = "released as"  # the fact that is a path, maybe with blanks
_FOLDERS = re.compile(  # up to the last name of an absolute path, quoted or up to a blank; web addresses stay
    r"""(?P<quote>['"])(?:[\w+]+:/{2,})?(?:[A-Za-z]:)?[/\\](?:[^'"\n]*[/\\])?(?=[^/\\'"\n]*(?P=quote))"""
    r"""|(?<![\w:/.\\])(?:sqlite:/{2,}|(?:[A-Za-z]:)?[/\\])(?:[^\s'"/\\]+[/\\])*(?=[^\s'"/\\])"""
)
_WORDS = {
    "holds": "yes",
    "fails": "no, it is wrong",
    "absent": "none found",
    "not_asked": "not looked at",
    "unavailable": "could not be looked at",
}


def write_page(found: Sequence[Verified], path: Path) -> Path:
    """Write what was found as one file that needs nothing else and fetches nothing; returns its path.

    Raises:
        SettingsInvalid: the file cannot be written.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    cards = [_card(one) for one in found]
    page = environment.get_template("verify.html").render(
        cards=cards,
        counts=Counter(card["heading"] for card in cards).most_common(),
        at=datetime.now(UTC),
    )
    try:
        path.write_text(page.encode("utf-8", "replace").decode(), encoding="utf-8")
    except OSError as error:
        raise SettingsInvalid("--html", f"{str(path)!r}, which cannot be written: {error}") from error
    return path


def _card(one: Verified) -> dict[str, Any]:
    report, said = one.report, partial(_shown, of=one)
    heading, meaning = _told(report)
    return {
        "name": said(one.path.name or "a folder"),
        "picture": None if one.pixels is None else _picture(one.pixels),
        "outcome": "unreadable" if report is None else str(report.outcome),
        "heading": heading,
        "meaning": meaning,
        "explanation": said(one.unreadable if report is None else report.explanation),
        "signer": None if report is None or report.signer is None else said(report.signer),
        "claims": {} if report is None else {said(name): said(told) for name, told in report.claims.items()},
        "layers": [] if report is None else [_layer(layer, said) for layer in report.layers],
        "states": () if report is None else tuple(map(said, report.states)),
    }


def _told(report: VerifyReport | None) -> tuple[str, str]:
    """What was found of a file, in a heading and in a sentence for who never heard of credentials."""
    if report is None:
        return _UNREADABLE, "Nothing can be said of it."
    alike = any(layer.layer == "fingerprint" and layer.finding == "holds" for layer in report.layers)
    if alike and report.outcome in _COPIES:
        return _COPIES[report.outcome], _MEANING_OF_A_COPY
    return _HEADINGS[report.outcome], _MEANINGS[report.outcome]


def _layer(layer: VerifyLayer, said: Callable[[str], str]) -> tuple[VerifyLayer, str, str]:
    """A layer, its name and its finding in words."""
    facts = {
        said(name): said(re.split(r"[/\\]", told)[-1] if name == _A_FILE else told)
        for name, told in layer.facts.items()
    }
    shown = layer.model_copy(update={"explanation": said(layer.explanation), "facts": facts})
    return shown, _LAYERS[layer.layer], _WORDS[layer.finding]


def _shown(text: str, of: Verified) -> str:
    """Text as a page that leaves the house may show it: no folder of this machine, and no letter that steers."""
    text = text.replace(str(of.path), of.path.name).replace(repr(str(of.path))[1:-1], of.path.name)
    text = _FOLDERS.sub(lambda folders: folders["quote"] or "", text)
    return "".join(letter if letter.isprintable() or letter == "\n" else "\ufffd" for letter in text)


def _picture(pixels: NDArray[np.uint8]) -> str:
    """The picture, small, as an address that holds it: encoded anew, so that nothing of the file comes along."""
    image, file = Image.fromarray(pixels), io.BytesIO()
    image.thumbnail((_SIDE_PX, _SIDE_PX), Image.Resampling.LANCZOS)
    image.save(file, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
