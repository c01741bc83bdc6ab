"""Join rooms to calibrate: a background is looked at as a guard does it, and limits are fitted to what was nearest."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from guardrail.desk.calibrating_reviews import Reviewed
from guardrail.desk.probing import Prober, Seen, Suspect
from guardrail.errors import BackgroundTooSmall, NothingToIndex, SettingsInvalid
from guardrail.index.calibrated import write_calibration
from guardrail.intake import find_images
from guardrail.records import Background, Calibration, Limits, Signal, SignalLimits
from guardrail.records.calibration import specification_sha256
from guardrail.study.calibrate import Asked, Fitted, fit_limits, pictures_needed, reaching, unit_of
from guardrail.study.histograms import with_histograms

__all__ = ["CalibrationRun", "Gathered", "Wanted", "calibrate_index", "gather_background"]

_UNWRITTEN = "0" * 64  # stands in for the id while it is computed

Array = NDArray[np.float64]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What limits are to be fitted to.

    Attributes:
        background: folder of pictures that copy none of the works.
        flag_rate: false alarms per picture, 0..1.
        block_rate: the same for blocks, at most `flag_rate`.
        leave_out: pictures of the background that are copies in truth, by path or name.
        reviewed: cases that people decided, which the limits are held against; None: none are asked.
        agreed: asked with what was found before anything is written; says whether it is.
    """

    background: Path
    flag_rate: float = 1e-3
    block_rate: float = 1e-4
    leave_out: tuple[str, ...] = ()
    reviewed: Reviewed | None = None
    agreed: Callable[[Calibration], bool] = lambda found: True


@dataclass(frozen=True, slots=True)
class Gathered:
    """The pictures of a background that count, and those that do not, with the reason.

    Attributes:
        counted: in the order of their names.
        left_out: file, reason, and what is to be said of it.
    """

    counted: tuple[Seen, ...]
    left_out: tuple[tuple[str, str, str], ...]

    def nearest(self) -> dict[Signal, Array]:
        """By signal, float64 (N,), as `fit_limits` takes it."""
        said = {signal for seen in self.counted for signal, near in seen.nearness.items() if not np.isnan(near)}
        signals = [signal for signal in Signal if signal in said]
        return {
            signal: np.array([seen.nearness.get(signal, -np.inf) for seen in self.counted], np.float64)
            for signal in signals
        }

    @property
    def suspects(self) -> tuple[Suspect, ...]:
        """Pictures that may be copies and count nevertheless."""
        return tuple(seen.suspect for seen in self.counted if seen.suspect)

    def without_suspects(self) -> Gathered:
        """The same without them."""
        return replace(self, counted=tuple(seen for seen in self.counted if not seen.suspect))


@dataclass(frozen=True, slots=True)
class CalibrationRun:
    """A calibration, the pictures behind it, what it would be without the suspects, and whether it was written."""

    calibration: Calibration
    gathered: Gathered
    without_suspects: Limits | None
    written: bool = True


def gather_background(
    prober: Prober, background: Path, leave_out: Sequence[str] = (), progress: Progress = lambda done, total: None
) -> Gathered:
    """Look at every picture of a folder, a batch at a time, and leave out what does not count.

    Raises:
        NothingToIndex: no picture is left.
        SettingsInvalid: `leave_out` names a file that is not there.
    """
    names, _ = find_images(background)
    named = _named(background, names, leave_out)
    counted: list[Seen] = []
    left_out: list[tuple[str, str, str]] = [(name, "named", "left out by name") for name in sorted(named)]
    known: dict[str, str] = {}
    wanted = [name for name in names if name not in named]
    size = prober.guard.settings.batch
    for start in range(0, len(wanted), size):
        some = wanted[start : start + size]
        for seen in prober.look([replace(prober.read(background / name), name=name) for name in some]):
            reason = _reason_against(seen, known)
            if reason:
                left_out.append((seen.file, *reason))
            else:
                known[seen.pixels_sha256] = seen.file
                counted.append(seen)
        progress(start + len(some), len(wanted))
    if not counted:
        raise NothingToIndex(str(background), f"{len(names)} files named like images, {len(left_out)} of them left out")
    return Gathered(tuple(counted), tuple(left_out))


def _reason_against(seen: Seen, known: Mapping[str, str]) -> tuple[str, str] | None:
    """Why a picture does not count: a word, and a sentence."""
    if seen.failure:
        return "unreadable", seen.failure
    if seen.same_as is not None:
        return "same_as_a_work", f"the same as {seen.same_as.title or seen.same_as.work_id!r}"
    if seen.normalises:
        return "normalises", "one of the pictures that the index's similarities are normalised against"
    if seen.pixels_sha256 in known:
        return "twice", f"the same pixels as {known[seen.pixels_sha256]}"
    return None


def _named(background: Path, names: Sequence[str], leave_out: Sequence[str]) -> set[str]:
    """The files of the background that are meant: by path, by path below the folder, or by name."""
    found: set[str] = set()
    for said in leave_out:
        fits = {name for name in names if said in (name, Path(name).name, str(background / name))}
        if not fits:
            fits = {name for name in names if (background / name).resolve() == Path(said).resolve()}
        if not fits:
            raise SettingsInvalid("--leave-out", f"no image {said!r} in the background {str(background)!r}")
        found |= fits
    return found


def calibrate_index(
    prober: Prober,
    wanted: Wanted,
    progress: Progress = lambda done, total: None,
    edited: Callable[[], Gathered] | None = None,
) -> CalibrationRun:
    """Fit the limits of an index to a background, at its present size, and put them beside it.

    Args:
        prober: looks at pictures with the index.
        wanted: the background and the rates.
        progress: called with (done, total) after each batch of pictures.
        edited: called once limits were fitted, looks at edited copies of the works: how near they come is kept, too.

    Raises:
        BackgroundTooSmall, NothingToIndex: too few pictures for these rates, or none that can be read.
        SettingsInvalid: a picture to leave out is not there.
        IndexUnwritable: the calibration cannot be written; the one before holds on.
    """
    names, _ = find_images(wanted.background) if wanted.background.is_dir() else ([], 0)
    for rate in (wanted.flag_rate, wanted.block_rate):  # before minutes of looking, where the count alone says no
        if 0 < len(names) < pictures_needed(rate):
            raise BackgroundTooSmall(str(wanted.background), len(names), f"{rate:g}", pictures_needed(rate))
    gathered = gather_background(prober, wanted.background, wanted.leave_out, progress)
    asked = Asked(str(wanted.background), wanted.flag_rate, wanted.block_rate, prober.header.limits)
    fitted = fit_limits(gathered.nearest(), asked)
    copies = edited().nearest() if edited else {}
    calibration = _calibration(prober, gathered, fitted, copies)
    if wanted.reviewed is not None:
        calibration = _held_against(calibration, wanted.reviewed, gathered)
    if written := wanted.agreed(calibration):
        write_calibration(prober.folder, calibration)
    return CalibrationRun(calibration, gathered, _without_suspects(gathered, asked), written)


def _held_against(calibration: Calibration, reviewed: Reviewed, gathered: Gathered) -> Calibration:
    """A calibration with the limits that reviewed cases leave of it, and the false alarms that those have."""
    limits, used, warnings = reviewed.held_back(calibration.limits)
    held = {"flag": used.flags_held, "block": used.blocks_held}
    nearest = gathered.nearest()
    signals = tuple(_as_held(one, limits, held, nearest) for one in calibration.signals)
    alarms = tuple(
        one.model_copy(update={"reached": int(reaching(nearest, limits, one.decision).sum())})
        for one in calibration.false_alarms
    )
    said = {
        "limits": limits,
        "signals": signals,
        "false_alarms": alarms,
        "reviews": used,
        "warnings": (*calibration.warnings, *warnings),
    }
    drawn = Calibration.model_validate(calibration.model_copy(update=said).model_dump())
    return drawn.model_copy(update={"id": drawn.digest})


def _as_held(
    fitted: SignalLimits, limits: Limits, held: Mapping[str, tuple[Signal, ...]], nearest: Mapping[Signal, Array]
) -> SignalLimits:
    """What was found for one signal, with the limits that stayed as they were in the place of those fitted."""
    unit = unit_of(fitted.signal)
    assert unit is not None, "what was fitted has a unit"
    update = {}
    for decision, signals in held.items():
        one = getattr(fitted, decision)
        if fitted.signal in signals and one is not None:
            limit = float(getattr(getattr(limits, unit.field), getattr(unit, decision)))
            reached = int((nearest[fitted.signal] >= unit.nearness(limit)).sum())
            said = {"limit": limit, "low": limit, "high": limit, "method": "reviewed", "reached": reached}
            update[decision] = one.model_copy(update=said)
    return fitted.model_copy(update=update)


def _calibration(prober: Prober, gathered: Gathered, fitted: Fitted, copies: Mapping[Signal, Array]) -> Calibration:
    header = prober.header
    drawn = Calibration(
        id=_UNWRITTEN,
        at=datetime.now(UTC),
        index_snapshot=header.snapshot,
        index_built_at=header.built_at,
        specification_sha256=specification_sha256(header),
        embedders=header.embedders,
        sampling=header.sampling,
        works=header.works,
        protected=prober.protected,
        background=_background(gathered),
        signals=with_histograms(fitted.signals, gathered.nearest(), copies),
        false_alarms=fitted.false_alarms,
        limits=fitted.limits,
        warnings=fitted.warnings,
    )
    return drawn.model_copy(update={"id": drawn.digest})


def _background(gathered: Gathered) -> Background:
    digests = sorted(seen.pixels_sha256 for seen in gathered.counted)
    return Background(
        pictures=len(gathered.counted),
        near_blank=sum(seen.near_blank for seen in gathered.counted),
        left_out=dict(sorted(Counter(reason for _, reason, _ in gathered.left_out).items())),
        suspects=len(gathered.suspects),
        sha256=hashlib.sha256("\n".join(digests).encode()).hexdigest(),
    )


def _without_suspects(gathered: Gathered, asked: Asked) -> Limits | None:
    """What the limits would be without the suspects; None where there are none, or too few others."""
    if not gathered.suspects:
        return None
    try:
        return fit_limits(gathered.without_suspects().nearest(), asked).limits
    except BackgroundTooSmall:
        return None
