"""Marked pictures in; how often the mark is found after edits, how often without one, and what it changes, out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field
from scipy.ndimage import gaussian_filter
from scipy.stats import binomtest

from guardrail.carriers import Marked
from guardrail.records import Record, WatermarkFound
from guardrail.study.edits import EDITS
from guardrail.study.speed import Quartiles

__all__ = [
    "ATTACKS",
    "Attack",
    "AttackFigures",
    "MarkFigures",
    "Marking",
    "chance_found",
    "even_mark",
    "measure_marks",
    "psnr_db",
    "ssim",
]

_CONFIDENCE = 0.95
_PEAK = 255.0
_WINDOW_DEVIATION_PX = 1.5  # of SSIM's Gaussian window
_WINDOW_CUT = 3.5  # deviations: a window of 11 x 11
_LUMINANCE_CONSTANT, _CONTRAST_CONSTANT = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_MARK_BITS = 32


class Attack(NamedTuple):
    """An edit at an intensity (0..100), and what that is in words."""

    edit: str
    intensity: float
    said: str


ATTACKS = (
    Attack("jpeg", 21.7, "JPEG, quality 75"),
    Attack("jpeg", 48.9, "JPEG, quality 50"),
    Attack("webp", 47.4, "WebP, quality 50"),
    Attack("shrink", 30.1, "half of each side"),
    Attack("squeeze", 33.3, "one side to four fifths"),
    Attack("crop", 12.8, "a tenth of the area cut off"),
    Attack("crop", 25.0, "a quarter of the area cut off"),
    Attack("rotate", 10.0, "turned by 2 degrees"),
    Attack("mirror", 100.0, "mirrored"),
    Attack("brightness", 28.6, "brightness times 0.8 or 1.2"),
    Attack("greyscale", 100.0, "no colour"),
    Attack("noise", 16.7, "noise of deviation 10 of 255"),
    Attack("blur", 10.4, "blur of 0.26 % of the shorter side"),
    Attack("logo", 12.5, "a sticker on 5 % of the area"),
    Attack("caption", 20.0, "a caption beside it, a tenth of the height"),
    Attack("latent", 50.0, "half way through an autoencoder (approximated)"),
)
"""What is tried where nothing else is asked for."""


@dataclass(frozen=True, slots=True)
class Marking:
    """How pictures are marked and looked at; all of them uint8 (H, W, 3), RGB.

    Attributes:
        mark: puts the mark into a picture.
        find: looks for it.
        hashed: the PDQ hash of a picture, uint8 (32,).
        decided: what a guard decides on a picture: `accept`, `flag` or `block`.
        attacks: what is tried on each marked picture.
        seed: of the edits.
    """

    mark: Callable[[NDArray[np.uint8]], Marked]
    find: Callable[[NDArray[np.uint8]], WatermarkFound]
    hashed: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
    decided: Callable[[NDArray[np.uint8]], str]
    attacks: Sequence[Attack] = ATTACKS
    seed: int = 0


class AttackFigures(Record):
    """How often a mark was found after one attack: of `images`, in `present`; 95 % interval by Wilson.

    `bits_right` is the mean share of the bits that were read right.
    """

    edit: str
    intensity: float
    said: str
    images: int
    present: int
    low: float
    high: float
    bits_right: float


class MarkFigures(Record):
    """What one kind of mark is worth on a set of pictures.

    `kept` pictures have the mark when nothing is done to them; the attacks are made on these, since others do not leave
    marked. `alarms` counts unmarked pictures in which it is found, `alarms_high` the upper end of the exact 95 %
    interval of their share. Three numbers are the lower quartile, the median and the upper quartile over the pictures.
    `decided_otherwise` counts the pictures on which the guard decides otherwise once they are marked, as
    `accept>flag: 2`. `unmarked_payloads` is what was read in the unmarked pictures, as hex.
    """

    algorithm: str
    bits: int
    images: int
    kept: int
    alarms: int
    alarms_high: float
    unmarked_bits_most: int
    attacks: tuple[AttackFigures, ...]
    psnr_db: tuple[float, float, float]
    psnr_db_least: float
    ssim: tuple[float, float, float]
    pdq_bits: tuple[float, float, float]
    pdq_bits_most: int
    mark_cpu_ms: tuple[float, float, float]
    find_cpu_ms: tuple[float, float, float]
    decided_otherwise: dict[str, int] = Field(default_factory=dict)
    unmarked_payloads: tuple[str, ...] = ()


@dataclass(slots=True)
class _Tally:
    """What was measured, picture by picture."""

    algorithm: str = ""
    bits: int = 0
    unmarked: list[WatermarkFound] = field(default_factory=list)
    whole: list[WatermarkFound] = field(default_factory=list)
    attacked: dict[Attack, list[WatermarkFound]] = field(default_factory=dict)
    measures: dict[str, list[float]] = field(default_factory=dict)
    otherwise: dict[str, int] = field(default_factory=dict)

    def add(self, **measures: float) -> None:
        for name, value in measures.items():
            self.measures.setdefault(name, []).append(value)


def measure_marks(
    pictures: Iterable[NDArray[np.uint8]],
    marking: Marking,
    progress: Callable[[int], None] = lambda done: None,
) -> MarkFigures:
    """Mark pictures, attack them, and count.

    Args:
        pictures: unmarked, uint8 (H, W, 3), RGB; at least one.
        marking: how.
        progress: called with the number of pictures that are done.

    Returns:
        Figures; apart from times deterministic where `marking` is.

    Raises:
        ValueError: there is no picture.
    """
    tally = _Tally(attacked={attack: [] for attack in marking.attacks})
    for done, pixels in enumerate(pictures, start=1):
        _try(pixels, marking, tally)
        progress(done)
    if not tally.whole:
        raise ValueError("found no picture, expected one or more; name a folder that holds some")
    return _figures(tally)


def _try(pixels: NDArray[np.uint8], marking: Marking, tally: _Tally) -> None:
    """One picture: unmarked, marked, and after each attack."""
    started = time.process_time()
    marked = marking.mark(pixels.copy())
    made = time.process_time()
    found = marking.find(marked.pixels.copy())
    tally.add(mark_cpu_ms=1000 * (made - started), find_cpu_ms=1000 * (time.process_time() - made))
    tally.algorithm, tally.bits = marked.watermark.algorithm, marked.watermark.bits
    tally.unmarked.append(marking.find(pixels.copy()))
    tally.whole.append(found)
    apart = np.unpackbits(marking.hashed(pixels) ^ marking.hashed(marked.pixels)).sum()
    tally.add(psnr_db=psnr_db(pixels, marked.pixels), ssim=ssim(pixels, marked.pixels), pdq_bits=float(apart))
    before, after = marking.decided(pixels), marking.decided(marked.pixels)
    if before != after:
        name = f"{before}>{after}"
        tally.otherwise[name] = tally.otherwise.get(name, 0) + 1
    if not found.present:
        return
    image = Image.fromarray(marked.pixels)
    for attack, answers in tally.attacked.items():
        drawn = f"{marking.seed} {attack.edit} {sha256(pixels.tobytes()).hexdigest()}"
        random = np.random.default_rng(int.from_bytes(sha256(drawn.encode()).digest()[:8]))
        answers.append(marking.find(np.asarray(EDITS[attack.edit](image, attack.intensity, random)).copy()))


def _figures(tally: _Tally) -> MarkFigures:
    images, alarms = len(tally.whole), sum(found.present for found in tally.unmarked)
    measured = {name: Quartiles.of(values) for name, values in tally.measures.items()}
    return MarkFigures(
        algorithm=tally.algorithm,
        bits=tally.bits,
        images=images,
        kept=sum(found.present for found in tally.whole),
        alarms=alarms,
        alarms_high=float(binomtest(alarms, images).proportion_ci(_CONFIDENCE, method="exact").high),
        unmarked_bits_most=max(found.bits_found for found in tally.unmarked),
        attacks=tuple(_attack_figures(attack, answers) for attack, answers in tally.attacked.items() if answers),
        psnr_db=measured["psnr_db"],
        psnr_db_least=min(tally.measures["psnr_db"]),
        ssim=measured["ssim"],
        pdq_bits=measured["pdq_bits"],
        pdq_bits_most=int(max(tally.measures["pdq_bits"])),
        mark_cpu_ms=measured["mark_cpu_ms"],
        find_cpu_ms=measured["find_cpu_ms"],
        decided_otherwise=tally.otherwise,
        unmarked_payloads=tuple(found.payload for found in tally.unmarked),
    )


def _attack_figures(attack: Attack, answers: Sequence[WatermarkFound]) -> AttackFigures:
    present = sum(found.present for found in answers)
    interval = binomtest(present, len(answers)).proportion_ci(_CONFIDENCE, method="wilson")
    return AttackFigures(
        edit=attack.edit,
        intensity=attack.intensity,
        said=attack.said,
        images=len(answers),
        present=present,
        low=float(interval.low),
        high=float(interval.high),
        bits_right=float(np.mean([found.bits_found / found.bits for found in answers])),
    )


def psnr_db(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """The peak signal-to-noise ratio of two pictures of one size, in decibels; 100 where they are equal.

    Args:
        one: uint8 (H, W, 3).
        other: likewise.
    """
    squared = float(np.mean((one.astype(np.float64) - other) ** 2))
    return min(100.0, 10 * np.log10(_PEAK**2 / squared)) if squared else 100.0


def ssim(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """The structural similarity of two pictures' luma: 1 where they are equal, lower where structure differs.

    Args:
        one: uint8 (H, W, 3).
        other: likewise.

    Source: Wang, Bovik, Sheikh and Simoncelli, "Image Quality Assessment: From Error Visibility to Structural
    Similarity", 2004, equation 13, with its Gaussian window of deviation 1.5; we differ at the edges, which are
    mirrored instead of left out.
    """
    first, second = (np.asarray(picture, np.float64) @ _LUMA for picture in (one, other))
    mean_one, mean_two = _windowed(first), _windowed(second)
    variance_one = _windowed(first**2) - mean_one**2
    variance_two = _windowed(second**2) - mean_two**2
    common = _windowed(first * second) - mean_one * mean_two
    luminance = (2 * mean_one * mean_two + _LUMINANCE_CONSTANT) / (mean_one**2 + mean_two**2 + _LUMINANCE_CONSTANT)
    structure = (2 * common + _CONTRAST_CONSTANT) / (variance_one + variance_two + _CONTRAST_CONSTANT)
    return float(np.mean(luminance * structure))


def _windowed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(gaussian_filter(values, _WINDOW_DEVIATION_PX, truncate=_WINDOW_CUT), np.float64)


def even_mark(random: np.random.Generator) -> str:
    """A mark with as many ones as zeros, as installations draw theirs: eight hex digits."""
    ones = random.permutation(_MARK_BITS)[: _MARK_BITS // 2]
    return f"{sum(1 << int(at) for at in ones):08x}"


def chance_found(payloads: Sequence[str], present_bits: int, marks: int, seed: int = 0) -> float:
    """The share of pairs of an unmarked picture and somebody's mark in which the mark would count as present.

    Args:
        payloads: what was read in unmarked pictures, eight hex digits each; at least one.
        present_bits: bits of 32 that must agree.
        marks: how many marks to draw.
        seed: of the marks.
    """
    random = np.random.default_rng(seed)
    drawn = np.array([int(even_mark(random), 16) for _ in range(marks)], np.uint32)
    read = np.array([int(payload, 16) for payload in payloads], np.uint32)
    agreeing = _MARK_BITS - np.bitwise_count(read[:, None] ^ drawn[None])
    return float(np.mean(agreeing >= present_bits))
