"""Guardrail's own look at generations: an index of the training pictures, and what its evidence proves."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from guardrail.desk.audit_pictures import Listed
from guardrail.desk.making import build_folder_index
from guardrail.errors import AuditImpossible, NothingToIndex
from guardrail.guard import Guard
from guardrail.index import Recipe
from guardrail.judge.proofs import Proofs
from guardrail.records import CheckFailed, MatchEvidence, Verdict
from guardrail.settings import Settings

__all__ = ["Look", "open_look"]

_AT_ONCE = 32  # pictures judged in one batch
_TILES = 5  # the whole and four overlapping quadrants, as the demo's recipe has them
_BUILT = "built.sha256"
_ASIDE = ("pdq_quality",)  # checks that fail on a faint picture, which pixels and vectors still see


class Look:
    """Judges pictures as a guard does, and says of which training pictures a copy was proved.

    A copy descriptor alone proves nothing here; exact pixels, a hash, pixels or local features at their block limit do.
    What was found is kept, so that a picture is not looked at twice.

    Args:
        guard: with an index of the training pictures.
        row_of: by the id of a work, the row of the training picture.
        kept: the file of what was found before; another one for another index.
    """

    def __init__(self, guard: Guard, row_of: Mapping[tuple[str, str], int], kept: Path) -> None:
        self._guard, self._row_of, self._kept = guard, row_of, kept
        self._known = _read(kept)

    def __call__(
        self, pixels: NDArray[np.uint8], progress: Callable[[int, int], None]
    ) -> Sequence[Mapping[int, tuple[str, ...]]]:
        """Of each of N pictures, uint8 (N, S, S, 3), by training row, the signals that proved a copy.

        Raises:
            AuditImpossible: one of them could not be checked.
        """
        keys = [hashlib.sha256(f"{picture.shape}".encode() + picture.tobytes()).hexdigest() for picture in pixels]
        new = [at for at, key in enumerate(keys) if key not in self._known]
        progress(len(pixels) - len(new), len(pixels))
        for start in range(0, len(new), _AT_ONCE):
            places = new[start : start + _AT_ONCE]
            verdicts = self._guard.check([np.array(pixels[at]) for at in places]).verdicts
            self._keep({keys[at]: self._proved(verdict) for at, verdict in zip(places, verdicts, strict=True)})
            progress(len(pixels) - len(new) + start + len(places), len(pixels))
        return [self._known[key] for key in keys]

    def _keep(self, found: dict[str, dict[int, tuple[str, ...]]]) -> None:
        with self._kept.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps([key, list(rows.items())]) + "\n" for key, rows in found.items())
        self._known |= found

    def _proved(self, verdict: Verdict) -> dict[int, tuple[str, ...]]:
        for found in verdict.evidence:
            if isinstance(found, CheckFailed) and found.check not in _ASIDE:
                raise AuditImpossible(
                    found.image, f"a check that failed ({found.check}: {found.error})", "an answer", "mend the cause"
                )
        proofs = Proofs.among(verdict.evidence, self._guard.limits)
        rows: dict[int, tuple[str, ...]] = {}
        for found in verdict.evidence:
            if isinstance(found, MatchEvidence) and proofs.has_proved(found.work):
                row = self._row_of.get((found.work.bank, found.work.work_id))
                if row is not None:
                    rows[row] = tuple(dict.fromkeys((*rows.get(row, ()), str(found.signal))))
        return rows


def _read(kept: Path) -> dict[str, dict[int, tuple[str, ...]]]:
    """What was found before; a line that was cut off is found again."""
    known: dict[str, dict[int, tuple[str, ...]]] = {}
    for line in kept.read_text(encoding="utf-8").splitlines() if kept.is_file() else ():
        try:
            key, rows = json.loads(line)
            known[key] = {int(row): tuple(signals) for row, signals in rows}
        except (ValueError, TypeError):
            continue
    return known


def open_look(
    listed: Listed, names: Sequence[str], folder: Path, settings: Settings, progress: Callable[[int, int], None]
) -> Look:
    """Open guardrail's look at training pictures; an index of them is built where there is none yet.

    Args:
        listed: the training pictures.
        names: those of them that could be read, in the order of their rows.
        folder: where index and ledger of this audit lie.
        settings: device, batch and plugins; where its memory and index lie does not matter.
        progress: called with (done, total) while the index is built.

    Raises:
        AuditImpossible: no index can be made of them.
    """
    index = listed.index or folder / "index"
    own = settings.model_copy(update={"home": folder, "memory": "", "index": str(index)})
    if listed.index is None:
        _build(listed, names, folder, own, progress)
        row_of = {("default", f"training-{at}"): at for at in range(len(names))}
    else:
        row_of = {(bank, work): at for at, name in enumerate(names) for bank, _, work in [name.partition("/")]}
    guard = Guard(settings=own)
    return Look(guard, row_of, folder / f"looks-{guard.index.header.snapshot[:16]}.jsonl")


def _build(
    listed: Listed, names: Sequence[str], folder: Path, settings: Settings, progress: Callable[[int, int], None]
) -> None:
    assert listed.root is not None, "an index is built of files"
    built, stamp = folder / _BUILT, listed.stamp()
    if built.is_file() and built.read_text(encoding="utf-8") == stamp and (folder / "index").is_dir():
        return
    built.unlink(missing_ok=True)
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["file", "work_id", "title"])
    writer.writerows([name, f"training-{at}", name] for at, name in enumerate(names))
    works = folder / "works.csv"
    works.write_text(table.getvalue(), encoding="utf-8")
    recipe = Recipe(tiles=_TILES, query_tiles=_TILES, unlisted="skip")
    try:
        build_folder_index(listed.root, folder / "index", settings, recipe, works, overwrite=True, progress=progress)
    except NothingToIndex as error:
        raise AuditImpossible(listed.said, str(error), "pictures", "name others") from error
    built.write_text(stamp, encoding="utf-8")
