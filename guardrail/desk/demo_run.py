"""What the demo does, step by step; what it knows that a guard cannot: the training set of its two models."""

import csv
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from diffusers import DDIMPipeline
from diffusers.utils import logging as diffusers_logging
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from guardrail import act
from guardrail.carriers import Picture
from guardrail.desk.console import progress_of
from guardrail.desk.making import build_folder_index
from guardrail.guard import Guard
from guardrail.hookspecs import hookimpl
from guardrail.index import Recipe
from guardrail.records import Decision, IndexHeader, Verdict
from guardrail.report import Report
from guardrail.settings import Settings
from guardrail.shipped import shipped_folder
from guardrail.study import overfitted_pipeline

__all__ = ["DEMO_STEPS", "DemoImage", "DemoRun", "Truth", "Truths", "demo_pipelines", "quiet_diffusers", "run_demo"]

_OVERFITTED_SIDE_PX = 96
DEMO_STEPS = {"exactly overfitted": 20, "memorised UNet": 40}
"""How many steps each of the demo's pipelines takes."""
_PROOF_SIDE_PX = 32
_LIKENESS_ABOVE = 0.6  # the model's own compositions stay below .45, its half-remembered works lie above .7
_COPIES_ABOVE = 0.9  # mean-removed correlation at 32x32: above it all copies and no unseen picture, as measured
Kind = Literal["protected work", "licensed work", "unregistered work", "generic picture", "half-remembered", "nothing"]


@dataclass(frozen=True, slots=True)
class Truth:
    """What an image really copies, which the demo knows because it knows the training set."""

    kind: Kind
    title: str
    correlation: float


@dataclass(frozen=True, slots=True)
class DemoImage:
    """One generated image with its verdict, what became of it, and the truth."""

    pipeline: str
    pixels: NDArray[np.uint8]
    verdict: Verdict
    nearest_preview: bytes | None
    truth: Truth
    outcome: str
    output: Path | None


@dataclass(frozen=True, slots=True)
class DemoRun:
    """All that a demo made."""

    images: tuple[DemoImage, ...]
    header: IndexHeader
    verified: dict[str, str]
    tampered_outcome: str | None
    ledger_rows: int
    ledger_tip: str
    open_cases: int


def run_demo(out: Path, images: int, seed: int, console: Console) -> DemoRun:
    """Build, generate, judge, sign, verify, tamper; says on `console` what it is at."""
    quiet_diffusers()
    bank = shipped_folder("demo")
    settings = Settings(home=out, index=str(out / "index"), device="cpu")
    console.print("1 of 4  building the index of the shipped works")
    recipe = Recipe.from_file(bank / "recipe.toml")
    with progress_of("fingerprinting") as progress:
        build_folder_index(
            bank, out / "index", settings, recipe, bank / recipe.works, overwrite=True, progress=progress
        )
    if not settings.keys_dir.exists():
        act.make_development_keys(settings.keys_dir)
    witness = _Witness()
    guard = Guard(settings=settings, plugins=[witness])
    truths = Truths(bank)
    made: list[DemoImage] = []
    for number, (name, pipe) in enumerate(demo_pipelines(bank).items(), start=2):
        console.print(f"{number} of 4  generating {images} images with the {name} pipeline, guarded")
        guard.wrap(pipe)
        output = pipe(
            batch_size=images, num_inference_steps=DEMO_STEPS[name], generator=torch.Generator().manual_seed(seed)
        )
        stem = name.replace(" ", "-").lower()
        names = [f"{stem}-{at:03d}" for at in range(images)]
        outputs = output.guard.save(out / "released", names=names, overwrite=True)
        made += _demo_images(name, guard, output.guard, witness, outputs, truths)
    console.print("4 of 4  verifying every signed image, and a copy with one altered byte")
    verified, tampered = _verify_all([one.output for one in made if one.output], settings.keys_dir, out)
    rows, tip = guard.memory.verify()
    return DemoRun(tuple(made), guard.index.header, verified, tampered, rows, tip, len(guard.memory.open_cases()))


def quiet_diffusers() -> None:
    """No progress bars, and no line for every verdict."""
    diffusers_logging.disable_progress_bar()
    logging.getLogger("guardrail.verdicts").setLevel(logging.ERROR)


def demo_pipelines(bank: Path) -> dict[str, Any]:
    """Two stock diffusers pipelines: one that is memorisation itself, and a small network that was trained to it."""
    works = torch.from_numpy(np.stack([_opened(path, _OVERFITTED_SIDE_PX) for path in _training_files(bank)]))
    exact = overfitted_pipeline(works.permute(0, 3, 1, 2).float() / 127.5 - 1)
    trained = DDIMPipeline.from_pretrained(bank / "memorised-unet", dtype=torch.float32, low_cpu_mem_usage=False)
    pipelines = {"exactly overfitted": exact, "memorised UNet": trained}
    for pipe in pipelines.values():
        pipe.set_progress_bar_config(disable=True)
    return pipelines


def _training_files(bank: Path) -> list[Path]:
    return [bank / line for line in (bank / "training.txt").read_text(encoding="utf-8").split()]


def _opened(path: Path, side_px: int) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((side_px, side_px), Image.Resampling.LANCZOS))


class Truths:
    """The training pictures, ready to be compared with."""

    def __init__(self, bank: Path) -> None:
        files = _training_files(bank)
        rows = {row["file"]: row for table in ("works.csv", "unindexed.csv") for row in _rows(bank / table)}
        self._rows = [rows[path.relative_to(bank).as_posix()] for path in files]
        self._vectors = np.stack([_centred(_opened(path, _PROOF_SIDE_PX)) for path in files])

    def of(self, pixels: NDArray[np.uint8]) -> Truth:
        """The training picture that an image (H, W, 3) copies, if any."""
        small = np.asarray(Image.fromarray(pixels).resize((_PROOF_SIDE_PX, _PROOF_SIDE_PX), Image.Resampling.LANCZOS))
        similarities = self._vectors @ _centred(small)
        best = int(np.argmax(similarities))
        row, correlation = self._rows[best], float(similarities[best])
        if correlation < _LIKENESS_ABOVE:
            return Truth("nothing", "", correlation)
        if correlation < _COPIES_ABOVE:
            return Truth("half-remembered", row["title"], correlation)
        return Truth(_kind(row), row["title"], correlation)


def _rows(table: Path) -> Iterator[dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _kind(row: dict[str, str]) -> Kind:
    if row["file"].startswith("unindexed/"):
        return "unregistered work"
    kinds: dict[str, Kind] = {"protect": "protected work", "credit": "licensed work", "ignore": "generic picture"}
    return kinds[row["disposition"]]


def _centred(small: NDArray[np.uint8]) -> NDArray[np.float64]:
    values = small.astype(np.float64) - small.mean(axis=(0, 1))
    return np.ravel(values / max(float(np.linalg.norm(values)), 1e-9))


class _Witness:
    """A plugin that keeps what every image looked like: blocked ones are given to nobody, and the demo shows them."""

    def __init__(self) -> None:
        self.seen: dict[str, NDArray[np.uint8]] = {}

    @hookimpl
    def find_evidence(self, picture: Picture) -> tuple[()]:
        """Keep a copy; no evidence."""
        assert picture.pixels is not None, "only images that could be fingerprinted come here"
        self.seen[picture.name] = picture.pixels.permute(1, 2, 0).numpy().copy()
        return ()


def _demo_images(
    name: str, guard: Guard, report: Report, witness: _Witness, outputs: list[Path | None], truths: Truths
) -> Iterator[DemoImage]:
    for verdict, output in zip(report.verdicts, outputs, strict=True):
        pixels = witness.seen[verdict.image]
        preview = guard.index.preview(verdict.nearest[0].row) if verdict.nearest else None
        truth = truths.of(pixels)
        yield DemoImage(name, pixels, verdict, preview, truth, _outcome(verdict, truth), output)


def _outcome(verdict: Verdict, truth: Truth) -> str:
    """In words, whether the decision was right, and a miss called a miss."""
    stopped = verdict.decision is not Decision.ACCEPT
    if truth.kind == "protected work":
        return "copy of a protected work, stopped" if stopped else "MISSED copy of a protected work"
    if truth.kind == "licensed work":
        credited = bool(verdict.credits)
        return "copy of a licensed work, credited" if credited else "copy of a licensed work, not credited"
    if truth.kind == "unregistered work":
        return f"copy of unregistered work, {'stopped' if stopped else 'released'}"
    if truth.kind == "generic picture":
        return f"generic picture, {'stopped' if stopped else 'released'}"
    if truth.kind == "half-remembered":
        return f"half-remembered work, {'stopped' if stopped else 'released'}"
    return f"copies nothing, {'stopped: false alarm' if stopped else 'released'}"


def _verify_all(files: list[Path], keys: Path, out: Path) -> tuple[dict[str, str], str | None]:
    """The outcome for every file, and for a copy of the first in which one byte of the picture is another."""
    anchors = act.load_anchors(keys)
    verified = {file.name: str(act.verify_file(file, anchors).outcome) for file in files}
    if not files:
        return verified, None
    content = bytearray(files[0].read_bytes())
    content[content.rindex(b"IDAT") + 12] ^= 1
    altered = out / "altered.png"
    altered.write_bytes(content)
    return verified, str(act.verify_file(altered, anchors).outcome)
