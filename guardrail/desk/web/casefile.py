"""One case as a file that a lawyer can read: gathered from the desk, the index and the ledger, by what was chosen."""

from __future__ import annotations

import hashlib
import io
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from PIL import Image

from guardrail import __version__
from guardrail.desk.web.case_pictures import difference, drawn_on, laid_work, work_picture
from guardrail.desk.web.case_run import Fact
from guardrail.desk.web.case_view import CaseView, WorkView, basis_of, case_view
from guardrail.desk.web.case_words import STATES
from guardrail.desk.web.casefile_history import EventView, People, history_of, standing_decisions
from guardrail.desk.web.casefile_kinds import CAVEATS, KindView, kinds_of, summary_of
from guardrail.desk.web.casefile_proofs import LedgerView, prove_case
from guardrail.review_errors import PictureMissing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from guardrail.guard import Guard
    from guardrail.memory import CaseDetails, Memory
    from guardrail.records import Actor

__all__ = ["CaseFile", "ComparedView", "FileChoices", "FileSource", "PictureView", "document_of", "gather_file"]

_WORKS_SHOWN = 3  # works that reach a limit, or the nearest one, are shown with pictures; the others are listed
_SHOWN_PX = 900  # longest side of what is printed; the whole picture is attached
_NO_PICTURE = "not kept"


@dataclass(frozen=True, slots=True)
class FileChoices:
    """What goes into a case file; all that could name a private person is left out unless it is asked for.

    Attributes:
        prompts: whether the prompts are in it.
        names: whether people are called by their names, and not `Person A`.
        notes: whether what people wrote is in it.
        claimant, respondent, reference, prepared_by: for the title page; left out where empty.
    """

    prompts: bool = False
    names: bool = False
    notes: bool = True
    claimant: str = ""
    respondent: str = ""
    reference: str = ""
    prepared_by: str = ""


@dataclass(frozen=True, slots=True)
class FileSource:
    """Where a case file is gathered from, and for whom; `told` is called while the ledger's rows are checked."""

    memory: Memory
    guard: Guard
    keys: Path
    actor: Actor
    told: Callable[[int, int], None] | None = None


@dataclass(frozen=True, slots=True)
class PictureView:
    """A picture: `content` is what is printed, `whole` what is attached under `name`; empty where nothing is."""

    title: str
    caption: str
    content: bytes
    mime: str
    name: str = ""
    whole: bytes = b""

    @property
    def sha256(self) -> str:
        """Digest of what is attached."""
        return hashlib.sha256(self.whole).hexdigest() if self.whole else ""


@dataclass(frozen=True, slots=True)
class ComparedView:
    """A near work beside the image: both with what was found drawn in, and what differs once it is laid over."""

    work: WorkView
    pictures: tuple[PictureView, ...]
    missing: str = ""


@dataclass(frozen=True, slots=True)
class CaseFile:
    """All that a case file says."""

    case_id: int
    made_at: str
    made_with: str
    organisation: str
    state: str
    final: bool
    summary: str
    parties: tuple[Fact, ...]
    contents: tuple[str, ...]
    caveats: tuple[str, ...]
    kinds: tuple[KindView, ...]
    view: CaseView
    compared: tuple[ComparedView, ...]
    further: tuple[WorkView, ...]
    image: PictureView | None
    image_missing: str
    events: tuple[EventView, ...]
    hashes: tuple[Fact, ...]
    ledger: LedgerView


def gather_file(source: FileSource, case_id: int, choices: FileChoices, at: datetime | None = None) -> CaseFile:
    """Gather the file of a case.

    Args:
        source: where from, and for whom.
        case_id: which case.
        choices: what goes into it.
        at: the moment that it is made and that rights are read at; now by default.

    Raises:
        CaseMissing: there is no such case in the actor's organisation.
        LedgerBroken, LedgerProofInvalid: the ledger does not hold, and no file is made of it.
        MemoryUnwritable: ledger or case cannot be read.
    """
    at = at or datetime.now(UTC)
    details = source.memory.reviews.case(source.actor, case_id)
    owed = source.memory.attributions_of(details.row.verdict_id)
    view = _private(case_view(details, basis_of(source.guard, details.verdict), at, attributions=owed), choices)
    png, missing = _picture(source, details)
    image = _image(png) if png else None
    shown = tuple(work for work in view.works[:_WORKS_SHOWN] if work.reaches != "accept") or view.works[:1]
    return CaseFile(
        case_id=case_id,
        made_at=f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
        made_with=f"guardrail {__version__}",
        organisation=source.actor.organisation,
        state=STATES[details.row.state],
        final=details.row.state == "decided",
        summary=summary_of(details.row.state, details.row.outcome),
        parties=tuple(_parties(source, view, choices)),
        contents=tuple(_contents(choices)),
        caveats=CAVEATS,
        kinds=kinds_of(shown, standing_decisions(details)),
        view=view,
        compared=tuple(_compared(source, work, png) for work in shown),
        further=tuple(work for work in view.works if work not in shown),
        image=image,
        image_missing=missing,
        events=history_of(details, People(choices.names), notes=choices.notes),
        hashes=tuple(_hashes(details, image)),
        ledger=prove_case(source.memory, source.keys, details, source.told),
    )


def document_of(file: CaseFile) -> dict[str, Any]:
    """The same as JSON; pictures by name and digest, without their bytes."""
    said = asdict(file)
    for one in [said, *said["compared"]]:
        for key in ("image", "pictures"):
            if one.get(key):
                one[key] = [_named(picture) for picture in one[key]] if key == "pictures" else _named(one[key])
    for work in [*(one["work"] for one in said["compared"]), *said["further"], *said["view"]["works"]]:
        for signal in work["signals"]:
            del signal["plot"]
    return said


def _named(picture: dict[str, Any]) -> dict[str, Any]:
    digest = hashlib.sha256(picture["whole"]).hexdigest() if picture["whole"] else ""
    return {key: picture[key] for key in ("title", "caption", "name")} | {"sha256": digest}


def _private(view: CaseView, choices: FileChoices) -> CaseView:
    """Without prompts unless they were asked for, and without the folders of files."""
    run = view.run
    if run is not None and not choices.prompts:
        run = replace(run, prompts=())
    bare = PurePath(view.image.replace("\\", "/")).name or view.image
    failed = tuple(one.replace(view.image, bare) for one in view.failed)
    return replace(view, run=run, image=bare, explanation=view.explanation.replace(view.image, bare), failed=failed)


def _parties(source: FileSource, view: CaseView, choices: FileChoices) -> Iterator[Fact]:
    if choices.reference:
        yield Fact("reference", choices.reference)
    nearest = view.works[0] if view.works else None
    holder = next((fact.text for fact in nearest.facts if fact.label == "rights holder"), "") if nearest else ""
    yield Fact(
        "claimant", choices.claimant or (f"{holder} (rights holder of the nearest work)" if holder else "not named")
    )
    known = source.guard.settings.desk.organisations.get(source.actor.organisation)
    operator = (known.title if known else "") or source.actor.organisation
    yield Fact("respondent", choices.respondent or f"{operator} (ran the model and this filter)")
    if choices.prepared_by:
        yield Fact("prepared by", choices.prepared_by)
    if nearest:
        by = f" by {nearest.creator}" if nearest.creator else ""
        yield Fact("nearest work", f"{nearest.title}{by}")
    yield Fact("image judged on", view.judged_at)


def _contents(choices: FileChoices) -> Iterator[str]:
    """What is in it by choice, and what is not."""
    yield "The prompts are in it, as they were asked for." if choices.prompts else "The prompts are not in it."
    yield "People are named." if choices.names else "People are called Person A, Person B; the desk knows who they are."
    yield (
        "What people wrote is in it." if choices.notes else "What people wrote is not in it; the ledger has its digest."
    )


def _picture(source: FileSource, details: CaseDetails) -> tuple[bytes | None, str]:
    if not details.has_picture:
        return None, "the picture is not kept any more; its digest, the verdict and the decisions are"
    try:
        return source.memory.reviews.picture(source.actor, details.row.case_id), ""
    except PictureMissing:
        return None, "the picture could not be read from its store; its digest, the verdict and the decisions are here"


def _image(png: bytes) -> PictureView:
    with Image.open(io.BytesIO(png)) as opened:
        caption = f"the image as it was judged, {opened.width} x {opened.height} px"
    return PictureView("The image", caption, _printed(png), "image/png", "image.png", png)


def _compared(source: FileSource, work: WorkView, png: bytes | None) -> ComparedView:
    """The pictures on one work; what cannot be shown is said."""
    preview = work_picture(source.guard, work.bank, work.work_id)
    if preview is None:
        return ComparedView(work, (), "no picture of this work is kept in the index (a hash list, or it was withdrawn)")
    outlines = [region.work for region in work.regions[:1]]
    whole = PictureView(
        f"The work: {work.title}",
        "as the index keeps it (at most 192 px a side)" + (", with what was found of it" if outlines else ""),
        drawn_on(preview, outlines, _SHOWN_PX),
        "image/png",
        f"work-{work.number}.jpg",
        preview,
    )
    if png is None:
        return ComparedView(work, (whole,), "the image itself is not here to be compared")
    found = [region.image for region in work.regions[:1]]
    caption = "with where the work lies in it" if found else "nothing says where in it the work lies"
    here = PictureView("The image", caption, drawn_on(png, found, _SHOWN_PX), "image/png")
    if work.placement.source == "none" and not found and work.reaches == "accept":
        return ComparedView(work, (here, whole))
    with Image.open(io.BytesIO(png)) as opened:
        size = opened.size
    apart = PictureView(
        "What differs",
        f"the work {work.placement.text}; black where nothing differs",
        difference(png, laid_work(preview, work.placement, size)),
        "image/png",
    )
    return ComparedView(work, (here, whole, apart))


def _printed(png: bytes) -> bytes:
    return drawn_on(png, (), _SHOWN_PX)


def _hashes(details: CaseDetails, image: PictureView | None) -> Iterator[Fact]:
    verdict = details.verdict
    yield Fact("verdict", verdict.verdict_id)
    if verdict.run_id is not None:
        yield Fact("run", verdict.run_id)
    yield Fact("sha256 of the file image.png", image.sha256 if image else _NO_PICTURE)
    yield _pixels(verdict.pixels_sha256, image)
    yield Fact("index, its state", verdict.index_snapshot or "none")
    yield Fact("policy, sha256", verdict.policy_sha256)
    yield Fact("limits, calibration", verdict.calibration)


def _pixels(said: str | None, image: PictureView | None) -> Fact:
    """The digest that the verdict names, and whether the picture that is here has it."""
    label = "sha256 of size and pixels"
    if said is None:
        return Fact(label, "the image could not be read when it was judged")
    if image is None:
        return Fact(label, said)
    with Image.open(io.BytesIO(image.whole)) as opened:
        size = f"{opened.width}x{opened.height}:".encode()
        found = hashlib.sha256(size + opened.convert("RGB").tobytes()).hexdigest()
    if found == said:
        return Fact(label, f"{said} (image.png has it)")
    return Fact(label, f"{said}, but image.png has {found}: it is not the picture that was judged", alarming=True)
