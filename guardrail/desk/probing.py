"""Look at pictures exactly as a guard does, with limits that every likeness reaches, and say how near each comes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from guardrail import intake, judge
from guardrail import plugins as tools
from guardrail.carriers import ImageBatch, Picture
from guardrail.errors import SettingsInvalid
from guardrail.guard import Guard
from guardrail.index import FolderIndex
from guardrail.index.calibrated import uncalibrated_header
from guardrail.records import (
    CheckFailed,
    Disposition,
    Evidence,
    ExactMatch,
    IndexHeader,
    Limits,
    MatchEvidence,
    Neighbour,
    Signal,
    Work,
)
from guardrail.settings import Settings
from guardrail.study.calibrate import open_limits, unit_of

__all__ = ["Prober", "Seen", "Suspect"]

_OF_PARTS = (Signal.TILE, Signal.GEOMETRY)  # what one part of a picture shows is not explained by another part
_SILENT_ON_BLANK = frozenset({Signal.PDQ, Signal.COPY, Signal.TILE})  # the judge does not count these on blank pictures
_SAME_VECTOR = 1 - 1e-5  # cosine: the same picture, up to float32 rounding in another batch
_LIKENESS = frozenset({Signal.COPY, Signal.TILE})  # a weaker sign than proof
_HINTS = frozenset({Signal.CLIP, Signal.PHASH})  # near by these alone is no sign of a copy


class Suspect(NamedTuple):
    """A background picture that may be a copy of a work: by which signal, how near, in the signal's own unit."""

    file: str
    work: Work
    signal: Signal
    measured: float


@dataclass(frozen=True, slots=True)
class Seen:
    """What one picture is near to, by every signal.

    Attributes:
        file: below the background folder.
        nearness: by signal, how near the nearest protected work is, higher is nearer; `-inf` where generic imagery is
            at least as near, NaN where the signal says nothing of such a picture; absent where it found nothing.
        failure: why it could not be checked; empty otherwise.
        same_as: a protected work with the same bytes or pixels.
        normalises: whether it is one of the pictures that the index's similarities are normalised against.
        suspect: the strongest sign that it is a copy of a protected work.
    """

    file: str
    pixels_sha256: str = ""
    nearness: Mapping[Signal, float] = field(default_factory=dict)
    near_blank: bool = False
    failure: str = ""
    same_as: Work | None = None
    normalises: bool = False
    suspect: Suspect | None = None


class Prober:
    """Looks at pictures exactly as a guard does, with limits that every likeness reaches; writes nothing down.

    Raises:
        SettingsInvalid: it is no index in a folder, or none of its works is protected now.
        IndexMissing, IndexDamaged, CalibrationUnfit: there is no index that can be trusted.
        IndexMismatch, EmbedderUnknown, WeightsUnusable: its embedder is not at hand.
    """

    def __init__(self, folder: Path, settings: Settings, extra_plugins: Iterable[object] = ()) -> None:
        self.folder = folder
        self.header: IndexHeader = uncalibrated_header(folder)
        unkept = settings.model_copy(update={"memory": "sqlite://", "limits": None})
        self.guard = Guard(folder, unkept, plugins=extra_plugins)
        self._open = open_limits(self.header.limits)
        self.at = datetime.now(UTC)
        self.protected = self._count_protected(folder)
        self._normalising = _normalising(folder)

    def _count_protected(self, folder: Path) -> int:
        if not isinstance(self.guard.index, FolderIndex):
            raise SettingsInvalid("INDEX", f"{str(folder)!r} is no index in a folder, and only such are calibrated")
        protected = len(self.guard.index.pinned().rows(self.at, Disposition.PROTECT))
        if not protected:
            raise SettingsInvalid("INDEX", f"none of the works of {str(folder)!r} is protected now, so nothing alarms")
        return protected

    def read(self, path: Path) -> Picture:
        """Read one file as `guardrail check` does."""
        return intake.read_picture(path, self.guard.settings.largest_image_px)

    def look(self, pictures: Sequence[Picture]) -> list[Seen]:
        """What each picture is near to; every look of a partly transparent one counts, the nearest of them."""
        looks: list[Picture] = []
        owners: list[int] = []
        for at, picture in enumerate(pictures):
            for look in (replace(picture, bare=()), *picture.seen_otherwise()):
                looks.append(replace(look, name=f"{at}\0{look.name}"))
                owners.append(at)
        prints = self.guard.fingerprint(ImageBatch(tuple(looks)))
        neighbours = self.guard.index.search(prints, self.guard.settings.neighbours)
        seen: list[Seen | None] = [None] * len(pictures)
        for row, (look, owner) in enumerate(zip(looks, owners, strict=True)):
            failure = prints.failures[row]
            evidence: list[Evidence] = [failure] if failure else []
            if not failure:
                evidence += judge.gather(look.name, neighbours[row], int(prints.pdq_quality[row]), self._open)
                evidence += self._closer(look, neighbours[row])
            found = self._seen(pictures[owner].name, prints.pixels_sha256[row] or "", evidence)
            if self._normalising is not None and np.max(self._normalising @ prints.copy[row]) >= _SAME_VECTOR:
                found = replace(found, normalises=True)
            seen[owner] = found if (before := seen[owner]) is None else _nearer(before, found)
        return [one for one in seen if one is not None]

    def _closer(self, look: Picture, neighbours: tuple[Neighbour, ...]) -> Iterator[Evidence]:
        for answer in tools.call_guards(
            self.guard.plugins,
            "find_evidence",
            context=None,
            picture=look,
            neighbours=neighbours,
            index=self.guard.index,
            limits=self._open,
            settings=self.guard.settings,
        ):
            yield from tools.evidence_of(answer, look.name)

    def _seen(self, file: str, pixels_sha256: str, evidence: Sequence[Evidence]) -> Seen:
        failed = [found for found in evidence if isinstance(found, CheckFailed)]
        broken = [found for found in failed if found.check != "pdq_quality"]
        if broken:
            return Seen(file, pixels_sha256, failure=f"{broken[0].check}: {broken[0].error}")
        protected = [found for found in _matches(evidence) if self._stands(found) is Disposition.PROTECT]
        generic = [found for found in _matches(evidence) if self._stands(found) is Disposition.IGNORE]
        nearness, best = _nearest(protected), _nearest(generic)
        for signal, value in nearness.items():
            if signal not in _OF_PARTS and value <= best.get(signal, -np.inf):
                nearness[signal] = -np.inf
        if failed:
            nearness |= dict.fromkeys(_SILENT_ON_BLANK, np.nan)
        same = next((found.work for found in protected if isinstance(found, ExactMatch)), None)
        suspect = _suspect(file, protected, nearness, self.header.limits)
        return Seen(file, pixels_sha256, nearness, bool(failed), same_as=same, suspect=suspect)

    def _stands(self, found: MatchEvidence) -> Disposition | None:
        return found.work.standing(self.at)


def _normalising(folder: Path) -> NDArray[np.float32] | None:
    """float32 (B, D), the vectors that similarities are normalised against; None where the index has none."""
    path = folder / "background.npy"
    return np.load(path, mmap_mode="r", allow_pickle=False) if path.is_file() else None


def _matches(evidence: Sequence[Evidence]) -> list[MatchEvidence]:
    return [found for found in evidence if isinstance(found, MatchEvidence)]


def _measured(found: MatchEvidence) -> float | None:
    """What a piece of evidence measured, in its signal's own unit; None for exact matches."""
    for name in ("similarity", "distance_bits", "inliers"):
        if (value := getattr(found, name, None)) is not None:
            return float(value)
    return None


def _nearest(matches: Sequence[MatchEvidence]) -> dict[Signal, float]:
    nearest: dict[Signal, float] = {}
    for found in matches:
        unit, measured = unit_of(found.signal), _measured(found)
        if unit is not None and measured is not None:
            nearest[found.signal] = max(nearest.get(found.signal, -np.inf), unit.nearness(measured))
    return nearest


def _suspect(
    file: str, protected: Sequence[MatchEvidence], nearness: Mapping[Signal, float], shipped: Limits
) -> Suspect | None:
    """The strongest sign, if any: what the shipped limits block, proof by hash, geometry or pixels first."""
    for found in sorted(protected, key=lambda found: found.signal in _LIKENESS):
        unit, measured = unit_of(found.signal), _measured(found)
        if unit is None or measured is None or found.signal in _HINTS:
            continue
        bound = getattr(getattr(shipped, unit.field), unit.block)
        near = unit.nearness(measured)
        if bound is not None and near >= unit.nearness(bound) and near == nearness.get(found.signal):
            return Suspect(file, found.work, found.signal, measured)
    return None


def _nearer(one: Seen, other: Seen) -> Seen:
    """A picture as it is seen in two looks: the nearer of both by each signal; what a look says nothing of is left."""
    if one.failure or other.failure:
        return one if one.failure else replace(one, failure=other.failure)
    signals = one.nearness.keys() | other.nearness.keys()
    both = {
        signal: float(np.fmax(one.nearness.get(signal, np.nan), other.nearness.get(signal, np.nan)))
        for signal in signals
    }
    return replace(
        one,
        nearness=both,
        near_blank=one.near_blank and other.near_blank,
        same_as=one.same_as or other.same_as,
        normalises=one.normalises or other.normalises,
        suspect=one.suspect or other.suspect,
    )
