"""How many copies of our outputs are known again without credentials, and how many other pictures are taken for one."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.stats import beta

from guardrail import intake
from guardrail.carriers import Fingerprints, ImageBatch, OutputPrints, Picture
from guardrail.desk.copies_choice import as_picture, as_pixels
from guardrail.fingerprint import Fingerprinter
from guardrail.protocols import Embedder
from guardrail.recognising import Recognised, Recognising
from guardrail.records import Release

__all__ = [
    "EDITS",
    "TEMPLATES",
    "Claimed",
    "EditFigures",
    "RecognitionFigures",
    "Trial",
    "measure_recognition",
    "measure_templates",
    "template",
]

_CONFIDENCE = 0.95  # of the one-sided bound on false claims
_SAME_BITS, _SAME_LOOKING = 31, 0.8  # near by PDQ and alike too: a variant, of which no claim would be false
_SAME_ALONE = 0.95  # so alike by the copy descriptor that it shows one thing, however it is cut or tinted
_LEAST_SPREAD = 4.0  # standard deviation of grey values, of 255: blank pictures are no output
_EMPTY = "0" * 64


@dataclass(frozen=True, slots=True)
class Trial:
    """What is measured.

    Attributes:
        outputs: at most so many pictures stand for released outputs.
        unrelated: at most so many others are looked for.
        side_px: the longer side that every picture is brought down to.
        least_side_px: pictures whose shorter side is smaller are left out: no pipeline of note makes such.
        seed: of the choice, and of the crops.
        synthetic: prints of so many pictures that are none lie beside the outputs', for the time it takes.
        largest_px: pictures of more pixels are not decoded.
    """

    outputs: int
    unrelated: int
    side_px: int = 512
    least_side_px: int = 256
    seed: int = 0
    synthetic: int = 0
    largest_px: int = 64_000_000


@dataclass(frozen=True, slots=True)
class EditFigures:
    """One edit: of how many copies the output was found, and of which not, with what was claimed instead."""

    edit: str
    copies: int
    found: int
    missed: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Claimed:
    """An unrelated picture that was taken for a copy, of which output, and by what."""

    file: str
    output: str
    distance_bits: int
    similarity: float | None
    tile_l2: float
    laid_by: str


@dataclass(frozen=True, slots=True)
class RecognitionFigures:
    """What was measured.

    Attributes:
        outputs, unrelated: how many took part.
        variants: unrelated pictures left out because they are variants of an output.
        edits: by edit.
        claims: unrelated pictures that were taken for copies.
        claims_bound: upper bound of their share, 95 %, one-sided (Clopper and Pearson 1934).
        prints_ms: to make the prints of one output, on average.
        prints_bytes: kept of one output, on average.
        find_ms: to look for one picture, on average.
        synthetic: prints that lay beside the outputs'.
        templates, templates_claimed: drawn pictures of one template with other text than an output's, and how many
            were taken for a copy of it.
    """

    outputs: int
    unrelated: int
    variants: int
    edits: tuple[EditFigures, ...]
    claims: tuple[Claimed, ...]
    claims_bound: float
    prints_ms: float
    prints_bytes: float
    find_ms: float
    synthetic: int
    templates: int
    templates_claimed: int


class _Shown(NamedTuple):
    file: str
    image: Image.Image


class _Prints:
    """A memory in which prints lie, and nothing else."""

    def __init__(self) -> None:
        self.rows: list[tuple[Release, OutputPrints]] = []

    def released_prints(self) -> Iterator[tuple[Release, OutputPrints]]:
        """All of them."""
        return iter(self.rows)


def measure_recognition(
    outputs: Sequence[Sequence[Path]],
    unrelated: Sequence[Sequence[Path]],
    copy: Embedder,
    trial: Trial,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> RecognitionFigures:
    """Keep prints of some pictures, look for edited copies of them, and for other pictures.

    Pictures that show one thing, by PDQ and the copy descriptor, take part once. The same files, seed and embedder
    give the same figures.

    Args:
        outputs: files that stand for outputs, folder by folder; as many of each are drawn, as far as they go.
        unrelated: files to draw the others from, likewise.
        copy: the embedder.
        trial: how many, and how.
        progress: told of pictures done and in all.
    """
    chance = np.random.default_rng(trial.seed)
    sifter = _Sifter(copy)
    kept = list(_drawn(outputs, trial, chance, sifter, trial.outputs))
    sifter.variants = 0  # of outputs among themselves
    others = list(_drawn(unrelated, trial, chance, sifter, trial.unrelated))
    memory = _Prints()
    recognising = Recognising(memory, copy)
    at = time.perf_counter()
    for shown in kept:
        memory.rows.append((_release(shown.file), recognising.prints_of(_picture(shown))))
    prints_ms = (time.perf_counter() - at) * 1e3 / max(1, len(kept))
    held = [len(prints.pdq) + prints.copy.nbytes + len(prints.preview) for _, prints in memory.rows]
    memory.rows += _synthetic(trial.synthetic, memory.rows, chance)
    searches = _Searches(recognising, len(kept) * len(EDITS) + len(others), progress)
    edits = tuple(_edited(name, kept, searches, chance) for name in EDITS)
    claims = [_claimed(shown.file, found) for shown in others if (found := searches.find(shown)) is not None]
    return RecognitionFigures(
        outputs=len(kept),
        unrelated=len(others),
        variants=sifter.variants,
        edits=edits,
        claims=tuple(claims),
        claims_bound=_bound(len(claims), len(others)),
        prints_ms=prints_ms,
        prints_bytes=float(np.mean(held)) if held else 0.0,
        find_ms=searches.mean_ms,
        synthetic=trial.synthetic,
        templates=len(TEMPLATES) * _OF_A_TEMPLATE,
        templates_claimed=measure_templates(copy),
    )


# --- templates ---------------------------------------------------------------------------------------------

TEMPLATES = ("four lines", "page", "window", "card")
"""Kinds of pictures that differ in their text alone."""

_OF_A_TEMPLATE = 8
_WORDS = ("fox", "owl", "contract", "invoice", "total", "payment", "due", "report", "annual", "lorem", "ipsum", "dolor")


def measure_templates(copy: Embedder) -> int:
    """Of eight pictures of each template, how many are taken for a copy of another one."""
    claimed = 0
    for kind in TEMPLATES:
        memory = _Prints()
        recognising = Recognising(memory, copy)
        memory.rows = [(_release(kind), recognising.prints_of(_picture(_Shown(kind, template(kind, 0)))))]
        others = (_Shown(kind, template(kind, seed)) for seed in range(1, _OF_A_TEMPLATE + 1))
        claimed += sum(recognising.find(_picture(one)) is not None for one in others)
    return claimed


def template(kind: str, seed: int) -> Image.Image:
    """A picture of one of `TEMPLATES`, with words that the seed chooses."""
    chance = np.random.default_rng(seed)
    image = Image.new("RGB", (800 if kind == "window" else 512, 512), "white")
    draw = ImageDraw.Draw(image)
    if kind == "window":
        draw.rectangle((0, 0, 800, 40), fill=(50, 50, 50))
        draw.rectangle((0, 40, 180, 512), fill=(230, 230, 235))
        _write(draw, (10, 60, 30), ["Menu item"] * 12, 18)
        _write(draw, (200, 60, 28), _lines(chance, 14, 7), 18)
    elif kind == "card":
        draw.rectangle((0, 0, 512, 90), fill=(20, 60, 140))
        draw.rectangle((40, 120, 472, 380), fill=(200, 200, 200))
        _write(draw, (20, 10, 60), ["ACME NEWS"], 60)
        _write(draw, (60, 200, 40), _lines(chance, 1, 2), 40)
        _write(draw, (40, 420, 20), _lines(chance, 1, 6), 18)
    else:
        _write(draw, (20, 12, 20), _lines(chance, 4 if kind == "four lines" else 24, 8), 18)
    return image


def _lines(chance: np.random.Generator, count: int, words: int) -> list[str]:
    return [" ".join(chance.choice(_WORDS, words)) for _ in range(count)]


def _write(draw: ImageDraw.ImageDraw, place: tuple[int, int, int], lines: Sequence[str], size: int) -> None:
    """Write lines from the left and top of a place, its third number apart."""
    left, top, apart = place
    for at, line in enumerate(lines):
        draw.text((left, top + at * apart), line, fill="black", font=ImageFont.load_default(size))


# --- edits -------------------------------------------------------------------------------------------------


def _jpeg(image: Image.Image, chance: np.random.Generator) -> Image.Image:
    del chance
    file = io.BytesIO()
    image.save(file, "JPEG", quality=50)
    return Image.open(io.BytesIO(file.getvalue())).convert("RGB")


def _half(image: Image.Image, chance: np.random.Generator) -> Image.Image:
    del chance
    return image.resize((max(1, image.width // 2), max(1, image.height // 2)), Image.Resampling.LANCZOS)


def _crop(image: Image.Image, chance: np.random.Generator) -> Image.Image:
    """A tenth of the width and a tenth of the height taken off, on whichever sides: 19 % of the picture."""
    width, height = round(image.width * 0.9), round(image.height * 0.9)
    left, top = (int(chance.integers(0, more + 1)) for more in (image.width - width, image.height - height))
    return image.crop((left, top, left + width, top + height))


def _all_three(image: Image.Image, chance: np.random.Generator) -> Image.Image:
    return _jpeg(_half(_crop(image, chance), chance), chance)


EDITS: dict[str, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    "JPEG of quality 50": _jpeg,
    "half size": _half,
    "10 % crop": _crop,
    "crop, half size, JPEG 50": _all_three,
}
"""What copies go through, by name."""


def _edited(name: str, kept: Sequence[_Shown], searches: _Searches, chance: np.random.Generator) -> EditFigures:
    missed = []
    for shown in kept:
        found = searches.find(_Shown(shown.file, EDITS[name](shown.image, chance)))
        if found is None or found.release.file != shown.file:
            missed.append((shown.file, "" if found is None else found.release.file))
    return EditFigures(name, len(kept), len(kept) - len(missed), tuple(missed))


class _Searches:
    """Searches that are counted and timed; the first, which reads all prints, is not timed."""

    def __init__(self, recognising: Recognising, total: int, progress: Callable[[int, int], None]) -> None:
        self._recognising, self._total, self._progress = recognising, total, progress
        self._done, self._took_s = 0, 0.0

    def find(self, shown: _Shown) -> Recognised | None:
        at = time.perf_counter()
        found = self._recognising.find(_picture(shown))
        self._took_s += time.perf_counter() - at if self._done else 0.0
        self._done += 1
        self._progress(self._done, self._total)
        return found

    @property
    def mean_ms(self) -> float:
        return self._took_s * 1e3 / max(1, self._done - 1)


# --- the pictures ------------------------------------------------------------------------------------------


class _Sifter:
    """Lets each thing that is shown take part once."""

    def __init__(self, copy: Embedder) -> None:
        self._fingerprint = Fingerprinter(copy, device="cpu")
        self._pdq = np.zeros((0, 32), np.uint8)
        self._copy = np.zeros((0, copy.spec.dimensions), np.float32)
        self.variants = 0

    def is_new(self, shown: _Shown) -> bool:
        """Whether it shows nothing that was shown before; it is remembered."""
        prints = self._fingerprint(ImageBatch((_picture(shown),)))
        if prints.failures[0] is not None:
            return False
        same = len(self._pdq) > 0 and self._is_variant(prints)
        self.variants += same
        if not same:
            self._pdq = np.concatenate([self._pdq, prints.pdq[0, :1]])
            self._copy = np.concatenate([self._copy, prints.copy])
        return not same

    def _is_variant(self, prints: Fingerprints) -> bool:
        alike = self._copy @ prints.copy[0]
        apart = np.bitwise_count(self._pdq[:, None] ^ prints.pdq[0][None]).sum(axis=2, dtype=np.int64).min(axis=1)
        return bool(((alike >= _SAME_ALONE) | ((apart <= _SAME_BITS) & (alike >= _SAME_LOOKING))).any())


def _drawn(
    folders: Sequence[Sequence[Path]], trial: Trial, chance: np.random.Generator, sifter: _Sifter, most: int
) -> Iterator[_Shown]:
    """At most so many pictures that can be read, are large enough, not blank, and show something new."""
    taken = 0
    for file in _in_turn(folders, chance):
        if taken == most:
            return
        picture = intake.read_picture(file, trial.largest_px)
        if picture.pixels is None or min(picture.pixels.shape[1:]) < trial.least_side_px:
            continue
        shown = _Shown(str(file), as_picture(picture.pixels, trial.side_px))
        if np.asarray(shown.image.convert("L")).std() >= _LEAST_SPREAD and sifter.is_new(shown):
            taken += 1
            yield shown


def _in_turn(folders: Sequence[Sequence[Path]], chance: np.random.Generator) -> Iterator[Path]:
    """The files of all folders, drawn from each in turn."""
    drawn = [[files[at] for at in chance.permutation(len(files)).tolist()] for files in folders]
    return (file for turn in zip_longest(*drawn) for file in turn if file is not None)


def _picture(shown: _Shown) -> Picture:
    return Picture(shown.file, pixels=as_pixels(shown.image))


def _release(file: str) -> Release:
    return Release(verdict_id="", file=file, file_sha256=_EMPTY, manifest_id=file, at=datetime.now(UTC))


def _synthetic(
    count: int, like: Sequence[tuple[Release, OutputPrints]], chance: np.random.Generator
) -> Iterator[tuple[Release, OutputPrints]]:
    """Prints of nothing, shaped like others, each with the preview of one of them."""
    for at in range(count if like else 0):
        _, prints = like[at % len(like)]
        vectors: NDArray[np.float32] = chance.standard_normal(prints.copy.shape, np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        bits = chance.bytes(len(prints.pdq))
        copy = vectors.astype(np.float16)
        yield _release(f"synthetic {at}"), OutputPrints(bits, prints.embedder, copy, "", prints.preview)


def _claimed(file: str, found: Recognised) -> Claimed:
    return Claimed(
        file, found.release.file, found.distance_bits, found.similarity, round(found.tile_l2, 4), found.laid_by
    )


def _bound(claims: int, looked: int) -> float:
    return 1.0 if claims >= looked else float(beta.ppf(_CONFIDENCE, claims + 1, looked - claims))
