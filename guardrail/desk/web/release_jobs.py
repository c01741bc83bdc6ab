"""Jobs that follow a decision: sign and write what a person let out, or take it back; both may run twice."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardrail.errors import ReleaseFailed
from guardrail.records import Release

if TYPE_CHECKING:
    from collections.abc import Callable

    from guardrail.desk.web.desk import Desk
    from guardrail.memory import JobRow

__all__ = ["handlers", "released_file"]

log = logging.getLogger("guardrail")


def handlers(desk: Desk) -> dict[str, Callable[[JobRow], dict[str, Any]]]:
    """By kind of job, what does it; each answers with a document, or raises, and may be called again."""
    return {"release": lambda job: _release(desk, job), "undo": lambda job: _undo(desk, job)}


def released_file(desk: Desk, decision_id: str) -> Release | None:
    """The release of a decision that stands and whose file is there as it was released; None where there is none.

    Raises:
        MemoryUnwritable, LedgerBroken: the ledger cannot be read.
    """
    release = desk.memory.release_of(decision_id)
    if release is None or _sha256(Path(release.file)) != release.file_sha256:
        return None
    return release


def _release(desk: Desk, job: JobRow) -> dict[str, Any]:
    case_id, decision_id = int(job.asked["case_id"]), str(job.asked["decision_id"])
    if (there := desk.memory.release_of(decision_id)) is not None:  # killed after the file was in place
        return _told(there)
    held = desk.memory.reviews.held(job.organisation, case_id)
    if held.decision is None or held.decision.decision_id != decision_id:  # taken back before it was its turn
        return {"released": False, "reason": "the decision was taken back"}
    folder = _folder(desk, job.organisation)
    guard = desk.guard_for(job.organisation)
    path = folder / f"case-{case_id}-{decision_id[:8]}"
    guard.release_reviewed(held.png, held.verdict, held.context, held.decision, path)
    release = desk.memory.release_of(decision_id)
    if release is None:
        raise ReleaseFailed(held.verdict.image, "it was written, and the ledger has no row of it")
    if desk.memory.reviews.held(job.organisation, case_id).decision != held.decision:  # taken back meanwhile
        return {"released": False, **_undo(desk, job)}
    return _told(release)


def _undo(desk: Desk, job: JobRow) -> dict[str, Any]:
    """Withdraw a release and delete its file, if it is the one that was released."""
    decision_id = str(job.asked["decision_id"])
    release = desk.memory.release_of(decision_id)
    letting_out = desk.memory.reviews.let_out_by(job.organisation, int(job.asked["case_id"]))
    stands = letting_out == decision_id  # let out again before its turn
    if release is None or stands:
        return {"withdrawn": False}
    desk.memory.record_withdrawal(release.verdict_id, "the decision was taken back", release.intent_id)
    file = Path(release.file)
    if _sha256(file) != release.file_sha256:
        log.warning("%s is not the file that was released, and stays", file.name)
        return {"withdrawn": True, "deleted": False}
    file.unlink()
    return {"withdrawn": True, "deleted": True}


def _folder(desk: Desk, organisation: str) -> Path:
    settings = desk.settings
    return (settings.desk.released or settings.home / "released") / organisation


def _told(release: Release) -> dict[str, Any]:
    return {"released": True, "manifest_id": release.manifest_id, "file_sha256": release.file_sha256}


def _sha256(file: Path) -> str | None:
    """The digest of a plain file; None where there is none."""
    if file.is_symlink() or not file.is_file():
        return None
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
