"""Groups of training images in, how far an image moves without each of them out; every training is kept as it ends."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from guardrail.errors import AuditImpossible
from guardrail.study.attribution.retraining import chance_of, random_groups

__all__ = ["ALL", "GROUP", "Move", "Runs", "Seen", "Trial", "leave_out", "moves_of", "plan_of"]

ALL, GROUP = "all", "group"
"""Names of the training that leaves nothing out, and of the one that leaves the disputed group out."""

_PLAN, _DONE = "plan.json", "runs.jsonl"

Progress = Callable[[int, int], None]
Describe = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class Seen(NamedTuple):
    """What a denoiser makes of the disputed seed, uint8 (S, S, 3), and its loss on the disputed image."""

    pixels: NDArray[np.uint8]
    loss: float


class Move(NamedTuple):
    """How far the image moves by one measure: without the group, and without each random group of the same size.

    Attributes:
        measure: `copy`, 1 less the cosine of the copy descriptors (0..2); `pixels`, the root of the mean squared
            difference (0..1); `loss`, how far the denoiser's loss on the disputed image rises.
        moved: without the group.
        others: without each random group.
    """

    measure: str
    moved: float
    others: tuple[float, ...]

    @property
    def chance(self) -> float:
        """See `chance_of`; 1 where there were no random groups."""
        return chance_of(self.moved, self.others)


@dataclass(frozen=True, slots=True)
class Trial:
    """How a group is put to the test.

    Attributes:
        train: bool (N,), what is left out, and where progress goes, in; a context in which the denoiser was trained on
            without it out.
        look: what the denoiser makes now.
        is_over: whether no further training is to start.
    """

    train: Callable[[NDArray[np.bool_], Progress], AbstractContextManager[None]]
    look: Callable[[], Seen]
    is_over: Callable[[], bool] = lambda: False


class Runs:
    """Trainings that ended, in a folder: a line of `runs.jsonl` each, and the picture that was made after it.

    Args:
        folder: made when missing.
        digest: sha256 of all that decides what they give; not of how many random groups there are.

    Raises:
        AuditImpossible: it holds the work of another audit, or cannot be written.
    """

    def __init__(self, folder: Path, digest: str) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._claim(digest)
            self._seen = self._read()
        except OSError as error:
            raise AuditImpossible(
                str(folder), f"a work folder that cannot be used ({error})", "one to write to", "name another"
            ) from error

    def __contains__(self, name: str) -> bool:
        return name in self._seen

    def __getitem__(self, name: str) -> Seen:
        return self._seen[name]

    def keep(self, name: str, seen: Seen) -> None:
        """Put the end of one training on the disk: the picture first, then its line."""
        content = io.BytesIO()
        Image.fromarray(seen.pixels).save(content, "PNG")
        written = self._picture(name).with_suffix(".part")
        written.write_bytes(content.getvalue())
        written.replace(self._picture(name))
        line = {"name": name, "loss": seen.loss, "sha256": hashlib.sha256(content.getvalue()).hexdigest()}
        with (self._folder / _DONE).open("ab") as file:
            file.write(json.dumps(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._seen[name] = seen

    def _picture(self, name: str) -> Path:
        return self._folder / f"{name}.png"

    def _claim(self, digest: str) -> None:
        path = self._folder / _PLAN
        if not path.exists():
            written = path.with_suffix(".part")
            written.write_text(json.dumps({"sha256": digest}), encoding="utf-8")
            written.replace(path)
            return
        try:
            found = json.loads(path.read_text(encoding="utf-8"))["sha256"]
        except (ValueError, KeyError, TypeError):
            found = "something else"
        if found != digest:
            raise AuditImpossible(
                str(self._folder),
                "the work of another audit",
                "the same model, pictures, image, group and options as before",
                "name another folder with --work, or remove this one",
            )

    def _read(self) -> dict[str, Seen]:
        path, seen = self._folder / _DONE, {}
        content = path.read_bytes() if path.exists() else b""
        if content and not content.endswith(b"\n"):
            with path.open("ab") as file:
                file.write(b"\n")  # after a line that was cut off
        for text in content.splitlines():
            try:
                line = json.loads(text)
                name, loss = str(line["name"]), float(line["loss"])
                whole = self._picture(name).read_bytes()
                if hashlib.sha256(whole).hexdigest() != line["sha256"]:
                    continue
            except (OSError, ValueError, KeyError, TypeError):
                continue  # cut off: that training is done again
            with Image.open(io.BytesIO(whole)) as picture:
                seen[name] = Seen(np.asarray(picture.convert("RGB")), loss)
        return seen


def plan_of(group: NDArray[np.bool_], random: int, seed: int) -> dict[str, NDArray[np.bool_]]:
    """By name, what each training leaves out: nothing, the group, and so many random groups of its size.

    Raises:
        AuditImpossible: see `random_groups`.
    """
    drawn = random_groups(group, random, seed)
    return {ALL: np.zeros_like(group), GROUP: group} | {f"random-{at:03d}": one for at, one in enumerate(drawn)}


def leave_out(plan: dict[str, NDArray[np.bool_]], trial: Trial, runs: Runs, progress: Progress) -> str | None:
    """Train once for each that is not kept yet, and keep what the denoiser makes then.

    Args:
        plan: of `plan_of`.
        trial: how to train, and what to look at.
        runs: where it is kept.
        progress: called with (done, total), in hundredths of a training.

    Returns:
        None where all are done, else why not.
    """
    total = 100 * len(plan)
    missing = [name for name in plan if name not in runs]
    for at, name in enumerate(missing):
        done = total - 100 * (len(missing) - at)
        if trial.is_over():
            return f"time was up after {done // 100} of {len(plan)} trainings"

        def step(taken: int, steps: int, before: int = done) -> None:
            progress(before + 100 * taken // steps, total)

        with trial.train(plan[name], step):
            runs.keep(name, trial.look())
    progress(total, total)
    return None


def moves_of(runs: Runs, plan: Sequence[str], describe: Describe) -> tuple[Move, ...]:
    """How far the image moved by each measure; empty where the group, or all random groups, are missing.

    Args:
        runs: what was made.
        plan: names of trainings.
        describe: copy descriptors, float32 (n, D), unit length, of pictures uint8 (n, S, S, 3).
    """
    others = [name for name in plan if name in runs and name not in (ALL, GROUP)]
    if ALL not in runs or GROUP not in runs or not others:
        return ()
    seen = [runs[name] for name in (ALL, GROUP, *others)]
    return tuple(
        Move(measure, far[0], tuple(far[1:])) for measure, far in _distances(seen[0], seen[1:], describe).items()
    )


def _distances(start: Seen, others: Sequence[Seen], describe: Describe) -> dict[str, list[float]]:
    pixels = np.stack([start.pixels, *(one.pixels for one in others)])
    vectors = np.asarray(describe(pixels), np.float64)
    squared = ((pixels[1:] / 255 - pixels[0] / 255) ** 2).mean(axis=(1, 2, 3))
    return {
        "copy": [float(max(0.0, 1 - vector @ vectors[0])) for vector in vectors[1:]],
        "pixels": [float(one) for one in np.sqrt(squared)],
        "loss": [one.loss - start.loss for one in others],
    }
