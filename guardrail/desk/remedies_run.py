"""What each remedy makes of blocked images, on models whose memorised works are known."""

import csv
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np
import torch
from PIL import Image

from guardrail.desk.console import progress_of
from guardrail.desk.demo_run import DEMO_STEPS, Truths, demo_pipelines, quiet_diffusers
from guardrail.desk.making import build_folder_index
from guardrail.guard import Guard
from guardrail.index import Recipe
from guardrail.records import Decision, RemedyName
from guardrail.report import Report
from guardrail.settings import Settings
from guardrail.shipped import shipped_folder
from guardrail.study.caption_memoriser import memorising_pipeline

__all__ = ["LADDER", "RemedyOutcome", "measure_remedies"]

LADDER = "all of them"
"""The remedies of the settings, one after the other, as often as the settings allow."""

_CAPTIONED_SIDE_PX = 64
_CAPTIONED_STEPS = 20
_SHARES = (0.999, 0.5, 0.2)  # of a caption's training pictures that are its work
_WORDS = ("bright", "city", "drawing", "evening", "garden", "hill", "light", "morning", "old", "road", "sea", "small")
Make = Callable[[int], Any]


@dataclass(slots=True)
class RemedyOutcome:
    """What became of the blocked images of one pipeline by one remedy.

    Attributes:
        pipeline: which model.
        remedy: its name, or `LADDER`.
        images: how many were made in the first calls.
        blocked: how many of them were blocked.
        accepted, flagged: how many of those were so in the end; the rest stayed blocked.
        copies: how many of the accepted ones are copies of a protected work all the same: misses of the guard.
        tries: how many images were made again.
        took_ms: for all tries.
        unfit: why the remedy does not fit the pipeline; empty where it does.
    """

    pipeline: str
    remedy: str
    images: int = 0
    blocked: int = 0
    accepted: int = 0
    flagged: int = 0
    copies: int = 0
    tries: int = 0
    took_ms: float = 0
    unfit: set[str] = field(default_factory=set)


def measure_remedies(
    images: int,
    rounds: int,
    seed: int,
    remedies: tuple[str, ...] = (),
    models: tuple[str, ...] = (),
    say: Callable[[RemedyOutcome], None] = lambda outcome: None,
) -> list[RemedyOutcome]:
    """Make images with guarded pipelines, and those that are blocked again by each remedy.

    Args:
        images: how many in each round; of a pipeline with prompts at most one for each protected work.
        rounds: how many first calls, each with a seed of its own.
        seed: of the first of them; every remedy begins with the same images.
        remedies: names of those to measure, or `LADDER`; default: all.
        models: words of which one is in a pipeline's name; default: all pipelines.
        say: called with each outcome as it is known.
    """
    quiet_diffusers()
    bank = shipped_folder("demo")
    truths = Truths(bank)
    names = remedies or (*get_args(RemedyName), LADDER)
    outcomes = []
    with _guard(bank) as guard, progress_of("making images anew") as progress:
        pipelines = [one for one in _pipelines(bank, images) if not models or any(word in one[0] for word in models)]
        jobs = list(itertools.product(pipelines, names))
        for done, ((name, pipe, make), remedy) in enumerate(jobs):
            progress(done, len(jobs))
            outcome = RemedyOutcome(name, remedy)
            guard.settings = _settings_for(remedy, guard.settings)
            guard.wrap(pipe)
            for at in range(rounds):
                _note(outcome, make(seed + at).guard, truths)
            guard.unwrap(pipe)
            outcomes.append(outcome)
            say(outcome)
        progress(len(jobs), len(jobs))
    return outcomes


@contextmanager
def _guard(bank: Path) -> Iterator[Guard]:
    """A guard with the demo's index, whose memory is thrown away afterwards."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        settings = Settings(home=Path(scratch), index=str(Path(scratch) / "index"), device="cpu", on_block="regenerate")
        recipe = Recipe.from_file(bank / "recipe.toml")
        with progress_of("building the demo's index") as progress:
            build_folder_index(bank, Path(settings.index), settings, recipe, bank / recipe.works, progress=progress)
        guard = Guard(settings=settings)
        try:
            yield guard
        finally:
            guard.memory.close()


def _settings_for(remedy: str, settings: Settings) -> Settings:
    """One try by one remedy, or the settings' own remedies as often as they say."""
    fields = Settings.model_fields
    own = {name: fields[name].default for name in ("remedies", "regenerate_at_most")}
    return settings.model_copy(update=own if remedy == LADDER else {"remedies": (remedy,), "regenerate_at_most": 1})


def _pipelines(bank: Path, images: int) -> Iterator[tuple[str, Any, Make]]:
    """The demo's two pipelines without prompts, and a captioned one for each share; with how to make images."""
    for name, pipe in demo_pipelines(bank).items():
        yield name, pipe, _batches_of(pipe, images, DEMO_STEPS[name])
    with (bank / "works.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["disposition"] == "protect" and row["bank"] != "generic"]
    rows = rows[:images]
    captions = [f"{row['title']} drawn by {row['creator']}" for row in rows]
    pixels = np.stack([_opened(bank / row["file"]) for row in rows])
    works = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    for share in _SHARES:
        pipe = memorising_pipeline(works, captions, [share] * len(works), _WORDS)
        pipe.set_progress_bar_config(disable=True)
        yield f"captions, {share:.1%} of each its work", pipe, _prompted(pipe, captions)


def _batches_of(pipe: Any, images: int, steps: int) -> Make:
    def make(seed: int) -> Any:
        return pipe(batch_size=images, num_inference_steps=steps, generator=torch.Generator().manual_seed(seed))

    return make


def _prompted(pipe: Any, captions: list[str]) -> Make:
    def make(seed: int) -> Any:
        generator = torch.Generator().manual_seed(seed)
        return pipe(captions, num_inference_steps=_CAPTIONED_STEPS, generator=generator)

    return make


def _opened(path: Path) -> Any:
    with Image.open(path) as image:
        side = (_CAPTIONED_SIDE_PX, _CAPTIONED_SIDE_PX)
        return np.asarray(image.convert("RGB").resize(side, Image.Resampling.LANCZOS))


def _note(outcome: RemedyOutcome, report: Report, truths: Truths) -> None:
    """Count what one call and its tries came to."""
    blocked = {name for tried in report.remedies for name in tried.images}
    outcome.images += len(report.verdicts)
    outcome.blocked += len(blocked)
    outcome.unfit |= {tried.unfit for tried in report.remedies if tried.unfit is not None}
    outcome.tries += sum(len(tried.images) for tried in report.remedies if tried.unfit is None)
    outcome.took_ms += sum(tried.took_ms or 0 for tried in report.remedies)
    for verdict, picture in zip(report.verdicts, report.pictures, strict=True):
        if verdict.image not in blocked:
            continue
        outcome.flagged += verdict.decision is Decision.FLAG
        outcome.accepted += verdict.decision is Decision.ACCEPT
        if verdict.decision is Decision.ACCEPT and picture is not None and picture.pixels is not None:
            outcome.copies += truths.of(picture.pixels.permute(1, 2, 0).numpy()).kind == "protected work"
