"""Join the rooms for `bench style`: write pictures down, build two indexes, judge every picture against both."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from guardrail import intake
from guardrail.carriers import Fingerprints, ImageBatch, Picture
from guardrail.desk.copies_choice import LeftOut, as_picture, as_pixels
from guardrail.desk.making import build_folder_index
from guardrail.errors import IndexMismatch, NothingToIndex
from guardrail.fingerprint import pixels_digest
from guardrail.guard import Guard
from guardrail.index import FolderIndex, Recipe
from guardrail.index.clusters_proof import same_pictures
from guardrail.intake import find_images
from guardrail.judge.proofs import Proofs
from guardrail.records import CheckFailed, CopyMatch, Decision, Disposition, Limits, MatchEvidence, Verdict, Work
from guardrail.settings import Settings
from guardrail.study.style import Arm, Cause, JudgedPicture, StyleGroup

__all__ = ["Asked", "Flagged", "Resembled", "StyleRun", "run_style"]

_PROOF_SIDE_PX = 32  # at which near-duplicates are proved, as an index keeps pictures for that
_SHOWN_SIDE_PX = 192  # on the page, as previews of an index
_TILE_SHARE = 2 / 3  # of the limit of tiles, for near-duplicates: docs/dedup.md
_GENERIC = "generic"  # bank of the pictures to ignore
_SIDES = 2  # indexes: a picture has its group in one of them, and not in the other

ProgressOf = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a benchmark of style is asked to do.

    Attributes:
        folder: where the pictures are.
        groups: which of them to index and which to judge, see `style_groups`.
        side_px: the longer side that every picture is brought down to.
        recipe: how both indexes are made.
        generic: a folder of pictures to ignore, added to both; None for none.
        limits_of: an index whose limits are tried beside the shipped ones; None for none.
    """

    folder: Path
    groups: tuple[StyleGroup, ...]
    side_px: int
    recipe: Recipe
    generic: Path | None = None
    limits_of: Path | None = None


class Resembled(NamedTuple):
    """A work that a flagged picture comes near: its file and group, what each signal measured, and if proof stands."""

    file: str
    group: str
    said: tuple[str, ...]
    is_proved: bool


@dataclass(frozen=True, slots=True)
class Flagged:
    """A judged picture that was flagged or blocked, by which limits, under which rule, and what it resembles."""

    judged: JudgedPicture
    limits: str
    rule: str
    works: tuple[Resembled, ...]


@dataclass(frozen=True, slots=True)
class StyleRun:
    """What was judged.

    Attributes:
        groups: the groups that took part, without what could not be read or was there twice.
        judged: by the name of the limits, every picture in both arms.
        flagged: what was not accepted, in the order it was judged.
        left_out: files that took no part, with the reason.
        failures: pictures that could not be checked, each with the reason; they are blocked, and counted nowhere.
        embedder: the copy descriptor.
        works: works in each of both indexes, generic ones not counted.
        thumbnails: by file, uint8 (H, W, 3), every picture of `flagged` and the works it resembles, small.
    """

    groups: tuple[StyleGroup, ...]
    judged: Mapping[str, tuple[JudgedPicture, ...]]
    flagged: tuple[Flagged, ...]
    left_out: tuple[LeftOut, ...]
    failures: tuple[str, ...]
    embedder: str
    works: tuple[int, ...]
    thumbnails: Mapping[str, NDArray[np.uint8]]


def run_style(asked: Asked, settings: Settings, progress_of: ProgressOf) -> StyleRun:
    """Index half of every group, in one of two indexes, and judge the other half against both, as a guard does.

    Nothing is written but to a folder of its own that is thrown away. Deterministic, apart from what an accelerator
    rounds.

    Raises:
        NothingToIndex: too few pictures can be read.
        IndexMismatch: the index whose limits are to be tried was made with another embedder.
        EmbedderUnknown, WeightsUnusable, ExtraMissing: an embedder cannot be had.
    """
    with TemporaryDirectory(prefix="guardrail-style-", ignore_cleanup_errors=True) as scratch:
        desk = _Pictures(asked, Path(scratch), settings.largest_image_px)
        with progress_of("reading") as progress:
            desk.write(progress)
        for side in range(_SIDES):
            with progress_of(f"indexing, {side + 1} of {_SIDES}") as progress:
                table = desk.write_table(side)
                place = Path(scratch) / f"index-{side}"
                recipe = asked.recipe.model_copy(update={"unlisted": "skip"})
                build_folder_index(desk.folder, place, settings, recipe, table, progress=progress)
        trial = _Trial(asked, settings, Path(scratch), desk)
        with progress_of("judging") as progress:
            trial.judge(progress)
        return trial.finished()


class _Pictures:
    """The pictures of a run, numbered, as PNG files of one size in one folder."""

    def __init__(self, asked: Asked, scratch: Path, largest_px: int) -> None:
        self._asked, self._scratch, self._largest_px = asked, scratch, largest_px
        self.folder = scratch / "pictures"
        self.folder.mkdir()
        self.number: dict[str, int] = {}
        self.left_out: list[LeftOut] = []
        self.generic: tuple[str, ...] = ()
        self._known: dict[str, str] = {}

    def write(self, progress: Callable[[int, int], None]) -> None:
        """Write every picture that can be read and is not there yet; `groups` and `generic` name them afterwards."""
        files = [file for group in self._asked.groups for file in (*group.indexed, *group.judged)]
        for done, file in enumerate(files, start=1):
            self._write(self._asked.folder / file, file)
            progress(done, len(files))
        if self._asked.generic is not None:
            names = [f"{_GENERIC}\0{name}" for name in find_images(self._asked.generic)[0]]
            for name in names:
                self._write(self._asked.generic / name.partition("\0")[2], name)
            self.generic = tuple(name for name in names if name in self.number)
        self.groups = tuple(filter(None, map(self._readable, self._asked.groups)))
        if {group.side for group in self.groups} != set(range(_SIDES)):
            reason = f"{len(self.groups)} groups with two different pictures that can be read, expected two or more"
            raise NothingToIndex(str(self._asked.folder), reason)

    def _write(self, path: Path, file: str) -> None:
        picture = intake.read_picture(path, self._largest_px)
        shown = intake.shown_path(Path(file.replace("\0", "/")))
        if picture.pixels is None:
            self.left_out.append(LeftOut(shown, "unreadable", picture.failure.error if picture.failure else ""))
            return
        digest = pixels_digest(picture.pixels)
        if digest in self._known:
            self.left_out.append(LeftOut(shown, "identical", self._known[digest]))
            return
        self._known[digest], self.number[file] = shown, len(self.number)
        as_picture(picture.pixels, self._asked.side_px).save(self.path(file))

    def _readable(self, group: StyleGroup) -> StyleGroup | None:
        indexed, judged = (tuple(file for file in files if file in self.number) for files in group[2:])
        return group._replace(indexed=indexed, judged=judged) if indexed and judged else None

    def path(self, file: str) -> Path:
        """Where a picture was written."""
        return self.folder / f"{self.number[file]:06d}.png"

    def read(self, file: str) -> Image.Image:
        """A picture as it was written."""
        with Image.open(self.path(file)) as image:
            return image.convert("RGB")

    def write_table(self, side: int) -> Path:
        """The works table of one of both indexes."""
        table = self._scratch / f"works-{side}.csv"
        with table.open("w", encoding="utf-8", errors="replace", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["file", "work_id", "title", "creator", "bank", "disposition"])
            for group in self.groups:
                for work in group.indexed if group.side == side else ():
                    writer.writerow([self.path(work).name, self.number[work], work, group.name, "works", "protect"])
            for work in self.generic:
                writer.writerow([self.path(work).name, self.number[work], work[-40:], "", _GENERIC, "ignore"])
        return table


class _Once:
    """A fingerprinter that remembers its last batch: both guards look at it, and it is fingerprinted once."""

    def __init__(self, made: Callable[[ImageBatch], Fingerprints]) -> None:
        self._made = made
        self._last: tuple[tuple[str, ...], Fingerprints] | None = None

    def __call__(self, batch: ImageBatch) -> Fingerprints:
        names = tuple(picture.name for picture in batch.pictures)
        if self._last is None or self._last[0] != names:
            self._last = names, self._made(batch)
        return self._last[1]


class _Trial:
    """Two guards, one with each index, and what they made of every picture."""

    def __init__(self, asked: Asked, settings: Settings, scratch: Path, pictures: _Pictures) -> None:
        self._asked, self._pictures = asked, pictures
        unkept = settings.model_copy(update={"memory": "sqlite://", "limits": None})
        self._guards = tuple(Guard(scratch / f"index-{side}", unkept) for side in range(_SIDES))
        once = _Once(self._guards[0].fingerprint)
        for guard in self._guards:
            guard.fingerprint = once  # type: ignore[assignment]  # the same embedder, the same recipe
        self._limits = self._limits_to_try()
        self._files = {f"{number:06d}": file for file, number in pictures.number.items()}
        self._group_of = {file: group.name for group in pictures.groups for file in (*group.indexed, *group.judged)}
        self._judged: dict[str, list[JudgedPicture]] = {name: [] for name in self._limits}
        self._flagged: list[Flagged] = []
        self._failures: dict[str, str] = {}

    def _limits_to_try(self) -> dict[str, Limits]:
        """By name, the limits of the indexes that were built, and those of the index that was named."""
        ours = self._guards[0].limits
        if self._asked.limits_of is None:
            return {ours.calibration: ours}
        header = FolderIndex(self._asked.limits_of).header
        made = self._guards[0].index.header
        if header.embedders["copy"] != made.embedders["copy"] or header.sampling != made.sampling:
            said = [f"{one.embedders['copy']}, sampling {one.sampling.model_dump()}" for one in (header, made)]
            raise IndexMismatch(str(self._asked.limits_of), *said)
        name = header.limits.calibration
        name = f"{name}, of {self._asked.limits_of.name}" if name == ours.calibration else name
        return {ours.calibration: ours, name: header.limits}

    def judge(self, progress: Callable[[int, int], None]) -> None:
        """Judge every picture against both indexes, by all limits."""
        queue = [(group, file) for group in self._pictures.groups for file in group.judged]
        size = self._guards[0].settings.batch
        for start in range(0, len(queue), size):
            some = queue[start : start + size]
            pictures = [Picture(f"{file}", as_pixels(self._pictures.read(file))) for _, file in some]
            for name, limits in self._limits.items():
                for side, guard in enumerate(self._guards):
                    guard.limits = limits
                    verdicts = guard.check(pictures).verdicts
                    for (group, file), verdict in zip(some, verdicts, strict=True):
                        arm = Arm.OWN if group.side == side else Arm.OTHER
                        self._note(JudgedPicture(file, group.name, arm, verdict.decision, Cause.NONE), verdict, name)
            progress(min(start + size, len(queue)), len(queue))
        for guard in self._guards:
            guard.memory.close()

    def _note(self, one: JudgedPicture, verdict: Verdict, limits: str) -> None:
        failed = [found for found in verdict.evidence if isinstance(found, CheckFailed)]
        if broken := [found for found in failed if found.check != "pdq_quality"]:
            self._failures[one.file] = f"{one.file}: {broken[0].check}: {broken[0].error}"
            return
        if one.decision is not Decision.ACCEPT:
            works = self._resembled(one.file, verdict, is_blank=bool(failed), limits=self._limits[limits])
            cause = Cause.PROVED if any(work.is_proved for work in works) else Cause.UNPROVED if works else Cause.FAINT
            signals = dict.fromkeys(said.partition(" ")[0] for work in works for said in work.said)
            by_own = any(work.group == one.group for work in works)
            one = replace(one, cause=cause, signals=tuple(signals), by_own_group=by_own)
            self._flagged.append(Flagged(one, limits, verdict.rule, works))
        self._judged[limits].append(one)

    def _resembled(self, file: str, verdict: Verdict, *, is_blank: bool, limits: Limits) -> tuple[Resembled, ...]:
        """The protected works that reach a limit, the proved ones first."""
        proofs, now = Proofs.among(verdict.evidence, limits), datetime.now(UTC)
        said: dict[str, tuple[Work, dict[str, None]]] = {}
        for found in verdict.evidence:
            if not isinstance(found, MatchEvidence) or found.work.standing(now) is not Disposition.PROTECT:
                continue
            if not (is_blank and isinstance(found, CopyMatch)):  # the judge does not count these on blank pictures
                said.setdefault(found.work.work_id, (found.work, {}))[1][_measured(found)] = None
        works = []
        for work, signals in said.values():
            name = self._files[f"{int(work.work_id):06d}"]
            is_proved = proofs.has_proved(work) or self._are_near_duplicates(file, name, limits)
            works.append(Resembled(name, self._group_of[name], tuple(signals), is_proved))
        return tuple(sorted(works, key=lambda one: not one.is_proved))

    def _are_near_duplicates(self, file: str, work: str, limits: Limits) -> bool:
        """Whether `index dedup` would prove that both show one picture."""
        if limits.correlation.block_above is None or limits.tile_l2_within is None:
            return False
        sides = (_PROOF_SIDE_PX, _PROOF_SIDE_PX)
        small = [self._pictures.read(one).resize(sides, Image.Resampling.BOX) for one in (file, work)]
        pixels, zero, one = np.stack([np.asarray(image) for image in small]), np.array([0]), np.array([1])
        within = _TILE_SHARE * limits.tile_l2_within
        return bool(same_pictures(pixels, zero, one, limits.correlation.block_above, within)[0])

    def finished(self) -> StyleRun:
        """All that was judged; a picture that could not be checked once is counted nowhere."""
        counted = {
            name: tuple(one for one in judged if one.file not in self._failures)
            for name, judged in self._judged.items()
        }
        flagged = tuple(one for one in self._flagged if one.judged.file not in self._failures)
        shown = {file for one in flagged for file in (one.judged.file, *(work.file for work in one.works))}
        groups = self._pictures.groups
        return StyleRun(
            groups=groups,
            judged=counted,
            flagged=flagged,
            left_out=tuple(self._pictures.left_out),
            failures=tuple(self._failures.values()),
            embedder=str(self._guards[0].index.header.embedders["copy"]),
            works=tuple(sum(len(one.indexed) for one in groups if one.side == side) for side in range(_SIDES)),
            thumbnails=_thumbnails(self._pictures, sorted(shown)),
        )


def _thumbnails(pictures: _Pictures, files: Sequence[str]) -> dict[str, NDArray[np.uint8]]:
    """Small pictures for the page: uint8 (H, W, 3), at most 192 px a side."""
    found = {}
    for file in files:
        image = pictures.read(file)
        image.thumbnail((_SHOWN_SIDE_PX, _SHOWN_SIDE_PX))
        found[file] = np.asarray(image)
    return found


def _measured(found: MatchEvidence) -> str:
    """A signal and what it measured, in its own unit."""
    for name, unit in (("similarity", ".3f"), ("distance_bits", "d"), ("inliers", "d")):
        value = getattr(found, name, None)
        if value is not None:
            words = {"distance_bits": " bits", "inliers": " points"}
            return f"{found.signal} {value:{unit}}{words.get(name, '')}"
    return f"{found.signal} the same"
