"""Every signal on one work: what it measured, its limits, and where that lies among clean pictures and copies."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guardrail.desk.web.case_places import view_words
from guardrail.desk.web.case_plot import Measuring, Scale, draw_plot, no_nearer, shown
from guardrail.judge import reached
from guardrail.judge.gather import limit_of
from guardrail.records import (
    BitsLimit,
    CopyMatch,
    CountLimit,
    Decision,
    ExactMatch,
    GeometryMatch,
    HashMatch,
    MatchEvidence,
    Neighbour,
    PixelMatch,
    Signal,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guardrail.desk.web.case_view import Basis
    from guardrail.records import Calibration, Evidence, Limits, SignalLimits, SimilarityLimit, Work

__all__ = ["SIGNALS", "SignalView", "signals_of"]

_Viewed = HashMatch | CopyMatch | PixelMatch | GeometryMatch | Neighbour
_BITS_OF_PDQ, _BITS_OF_PHASH = 256, 64  # of these hashes
SIGNALS: dict[Signal, tuple[str, str]] = {
    Signal.BYTES: ("the same file", "every byte agrees"),
    Signal.PIXELS: ("the same pixels", "every pixel agrees"),
    Signal.GEOMETRY: ("points found again", "local features lie to each other as in the work: proof of a region"),
    Signal.CORRELATION: (
        "small pixels",
        "both pictures made small agree once brightness and tint are taken out: proof",
    ),
    Signal.COPY: ("copy descriptor", "a network that sees through edits finds both alike"),
    Signal.TILE: ("copy descriptor, parts", "the same for a part of one and the whole of the other"),
    Signal.PDQ: ("perceptual hash (PDQ)", "bits of 256 that differ: proof of the same picture where few do"),
    Signal.PHASH: ("perceptual hash (pHash)", "bits of 64 that differ: a hint"),
    Signal.CLIP: ("resemblance (CLIP)", "what both show is alike: a hint, never proof of copying"),
}
"""Every signal: its name for people, and what it says."""

_NOT_FITTED = "too few clean pictures come near by this signal to fit its limits: they are the shipped ones"
_SCALES = {
    Signal.GEOMETRY: Scale(0, math.inf, whole=True, unit="points"),
    Signal.CORRELATION: Scale(-1, 1, whole=False),
    Signal.COPY: Scale(-1, 1, whole=False),
    Signal.TILE: Scale(-1, 1, whole=False),
    Signal.PDQ: Scale(_BITS_OF_PDQ, 0, whole=True, unit="bits"),
    Signal.PHASH: Scale(_BITS_OF_PHASH, 0, whole=True, unit="bits"),
    Signal.CLIP: Scale(-1, 1, whole=False),
}


@dataclass(frozen=True, slots=True)
class SignalView:
    """One signal on one work.

    `value` is in the signal's own unit, None where it did not come within the flag limit (then nothing is kept) or is
    an exact match. `reaches` is by the limits in force now. `plot` is a whole `<svg>`, safe to put into a page; empty
    for exact matches. `place` says in words where the value lies among clean pictures and edited copies.
    """

    signal: str
    title: str
    meaning: str
    value: float | None
    value_text: str
    flag: float | None
    block: float | None
    limits_text: str
    reaches: str
    view: str
    note: str
    place: str
    plot: str


@dataclass(frozen=True, slots=True)
class _Bounds:
    flag: float | None
    block: float | None


def signals_of(
    work: Work, found: Sequence[Evidence], near: Sequence[Neighbour], basis: Basis
) -> tuple[SignalView, ...]:
    """Every signal that the index measures, strongest first, on one work.

    Args:
        work: which one.
        found: the evidence on this work, and on no other.
        near: its nearest measurements, which need not reach a limit.
        basis: limits and calibration.
    """
    matches = [one for one in found if isinstance(one, MatchEvidence)]
    exact = [one for one in matches if isinstance(one, ExactMatch)]
    views = [_exact(one) for one in exact]
    for signal in basis.signals:
        measured = [one for one in [*matches, *near] if one.signal is signal]
        views.append(_measured(signal, measured, work, basis))
    return tuple(views)


def _exact(found: ExactMatch) -> SignalView:
    title, meaning = SIGNALS[found.signal]
    return SignalView(
        signal=str(found.signal),
        title=title,
        meaning=meaning,
        value=None,
        value_text="the same",
        flag=None,
        block=None,
        limits_text="any exact match blocks",
        reaches=str(Decision.BLOCK),
        view="identity",
        note="",
        place="",
        plot="",
    )


def _measured(signal: Signal, measured: Sequence[MatchEvidence | Neighbour], work: Work, basis: Basis) -> SignalView:
    title, meaning = SIGNALS[signal]
    scale, bounds = _SCALES[signal], _bounds(signal, basis.limits, work.bank)
    best = min(measured, key=lambda one: _farness(one, scale), default=None)
    value = None if best is None else _value(best)
    kept = _kept(basis.calibration, signal)
    place = _place(value, kept, scale, is_calibrated=basis.calibration is not None)
    unit = Measuring(
        title=f"{title}: {place or 'where the limits lie'}",
        scale=scale,
        value=value,
        flag=bounds.flag,
        block=bounds.block,
        background=kept.background if kept else None,
        copies=kept.copies if kept else None,
    )
    return SignalView(
        signal=str(signal),
        title=title,
        meaning=meaning,
        value=value,
        value_text=_value_text(value, bounds, scale),
        flag=bounds.flag,
        block=bounds.block,
        limits_text=_limits_text(bounds, scale),
        reaches=str(Decision.ACCEPT if best is None else reached(best, basis.limits)),
        view=getattr(best, "view", "identity"),
        note=_note(best, basis.limits),
        place=place,
        plot=draw_plot(unit),
    )


def _bounds(signal: Signal, limits: Limits, bank: str) -> _Bounds:
    """Both limits of a signal for the works of a bank, in its own unit."""
    limit: BitsLimit | CountLimit | SimilarityLimit = limit_of(signal, limits.of_bank(bank))
    if isinstance(limit, BitsLimit):
        return _Bounds(limit.flag_within_bits, limit.block_within_bits)
    if isinstance(limit, CountLimit):
        return _Bounds(limit.flag_at_least, limit.block_at_least)
    return _Bounds(limit.flag_above, limit.block_above)


def _value(found: MatchEvidence | Neighbour) -> float:
    """What was measured, in the signal's own unit."""
    if isinstance(found, GeometryMatch):
        return found.inliers
    bits = getattr(found, "distance_bits", None)
    if bits is not None:
        return float(bits)
    similarity = getattr(found, "similarity", None)
    assert similarity is not None, "what is no exact match was measured"
    return float(similarity)


def _farness(found: MatchEvidence | Neighbour, scale: Scale) -> float:
    return _value(found) if scale.nearer_is_less else -_value(found)


def _value_text(value: float | None, bounds: _Bounds, scale: Scale) -> str:
    if value is not None:
        return shown(value, scale)
    return "not measured here" if bounds.flag is None and bounds.block is None else "not within the flag limit"


def _limits_text(bounds: _Bounds, scale: Scale) -> str:
    word = "within" if scale.nearer_is_less else "from"
    said = [
        f"{name} {word} {shown(limit, scale)}"
        for name, limit in (("flag", bounds.flag), ("block", bounds.block))
        if limit is not None
    ]
    if bounds.flag is not None and bounds.block is None:
        said.append("never blocks alone")
    return ", ".join(said) or "no limit: it decides nothing"


def _note(found: MatchEvidence | Neighbour | None, limits: Limits) -> str:
    """What else a measurement says: how the picture was turned, and whether a part of it differs."""
    notes = []
    if isinstance(found, _Viewed) and found.view != "identity":
        notes.append(f"as the image is {view_words(found.view)}")
    if isinstance(found, GeometryMatch):
        notes.append(f"the points span {found.overlap:.0%} of the work")
    if isinstance(found, GeometryMatch | PixelMatch) and found.tile_l2 is not None:
        within = limits.tile_l2_within
        apart = within is not None and found.tile_l2 > within
        word = "differs: another picture of a series, perhaps" if apart else "agrees"
        notes.append(f"the part that differs most {word} (distance {found.tile_l2:.3f} of 1)")
    return "; ".join(notes)


def _kept(calibration: Calibration | None, signal: Signal) -> SignalLimits | None:
    """What a calibration kept of a signal."""
    return next((one for one in calibration.signals if one.signal is signal), None) if calibration else None


def _place(value: float | None, kept: SignalLimits | None, scale: Scale, *, is_calibrated: bool) -> str:
    """Where a value lies among the pictures that limits were fitted on, and among edited copies."""
    if kept is None:
        return _NOT_FITTED if is_calibrated else "never calibrated: only the shipped limits are known"
    if kept.background is None and kept.copies is None:
        return "this calibration kept no distribution; calibrate the index again to have it"
    said = []
    for histogram, what, word in (
        (kept.background, "clean pictures", "at least {0:,} of {1:,} {2} came less near"),
        (kept.copies, "edited copies of works", "at least {0:,} of {1:,} {2} came less near"),
    ):
        if histogram is None:
            said.append(f"{what} were not looked at when the limits were fitted")
        elif value is not None:
            said.append(word.format(*no_nearer(histogram, value, scale), what))
    return "; ".join(said)
