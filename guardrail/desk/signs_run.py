"""Join rooms to calibrate signs: prompts that are not memorised are run, limits fitted to what was measured."""

from __future__ import annotations

import hashlib
import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from guardrail import intake
from guardrail import plugins as tools
from guardrail.carriers import Sign
from guardrail.errors import BackgroundTooSmall, SettingsInvalid
from guardrail.guard import Guard
from guardrail.intake.adapters import STILL_BEING_MADE
from guardrail.intake.sign_limits import write_sign_calibration
from guardrail.records import GenerationContext, SignCalibration, SignUnavailable
from guardrail.settings import Settings, SignSettings
from guardrail.study.calibrate import pictures_needed
from guardrail.study.signs import SignRuns, fit_sign

__all__ = ["SignRun", "WantedSigns", "calibrate_signs", "read_prompts"]

_UNWRITTEN = "0" * 64  # stands in for the id while it is computed
_WITHOUT_INDEX = ("noise_magnitude", "update_norm")  # looked for where the settings name no sign
_WAIT_S = 0.2  # between two questions whether the weights' digest is there
_HIGHEST_SEED = 2**31  # of the generators; seeds of a calibration lie below

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class WantedSigns:
    """What runs a calibration rests on.

    Attributes:
        prompts: that the model has not memorised; empty for a pipeline that takes none.
        seeds_each: runs of each prompt, or all of them where there is none.
        seed: the first seed.
        options: more arguments for the pipeline's call, such as steps and guidance.
        flag_rate: false flags per run, of all signs together, 0..1.
        block_rate: the same for blocks.
        source: where the prompts are from, for messages.
    """

    prompts: tuple[str, ...] = ()
    seeds_each: int = 1
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    flag_rate: float = 1e-2
    block_rate: float = 1e-3
    source: str = "the seeds"

    @property
    def runs(self) -> int:
        """How many runs that makes."""
        return max(len(self.prompts), 1) * self.seeds_each


@dataclass(frozen=True, slots=True)
class SignRun:
    """A calibration of signs that was written, where to, and the signs that could not be measured, with the reason."""

    calibration: SignCalibration
    path: Path
    unavailable: dict[str, str]


def read_prompts(path: Path) -> tuple[str, ...]:
    """The prompts of a text file, one a line, each once; empty lines do not count.

    Raises:
        SettingsInvalid: it cannot be read, or holds none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsInvalid(str(path), f"prompts could not be read: {error}") from error
    prompts = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not prompts:
        raise SettingsInvalid(str(path), "it holds no prompt; expected one a line")
    return prompts


def calibrate_signs(
    pipe: Any, wanted: WantedSigns, settings: Settings, progress: Progress = lambda done, total: None
) -> SignRun:
    """Fit the limits of signs to runs of a pipeline that are known not to be memorised, and write them down.

    Args:
        pipe: a diffusers pipeline.
        wanted: the runs and the rates.
        settings: the signs to calibrate (those turned on, or those that need no index), and the index.
        progress: called with (done, total) after each run.

    Raises:
        BackgroundTooSmall: too few runs for the rates.
        SettingsInvalid: no sign can be measured on this pipeline, or its weights have no digest.
    """
    settings = _recording(settings)
    each = wanted.flag_rate / len(settings.signs), wanted.block_rate / len(settings.signs)
    for rate in each:
        if wanted.runs < pictures_needed(rate):
            raise BackgroundTooSmall(wanted.source, wanted.runs, f"{rate:g}", pictures_needed(rate))
    intake.remember_weights(pipe)  # their digest is made while the pipeline runs
    guard = Guard(settings=settings) if settings.index else None
    try:
        measured = _Measured()
        watch = intake.Watch(tools.build_plugins(), settings, look=guard.look_up if guard else None)
        for number, watched in enumerate(_runs(pipe, wanted, watch)):
            measured.add(number // wanted.seeds_each, watched)
            progress(number + 1, wanted.runs)
        calibration = _calibration(pipe, wanted, settings, measured, each)
        if guard:
            calibration = _named(calibration.model_copy(update={"index_snapshot": guard.index.header.snapshot}))
    finally:
        if guard:
            guard.memory.close()
    return SignRun(calibration, write_sign_calibration(settings.sign_limits_dir, calibration), measured.unavailable)


def _recording(settings: Settings) -> Settings:
    """The settings with the signs that are on, none of which stops a run."""
    signs = {name: own for name, own in settings.signs.items() if own.enabled}
    signs = signs or {name: SignSettings() for name in _WITHOUT_INDEX}
    recorded = {
        name: own.model_copy(update={"action": "record", "flag_above": None, "block_above": None})
        for name, own in signs.items()
    }
    return settings.model_copy(update={"signs": recorded})


class _Measured:
    """What the signs measured, run by run."""

    def __init__(self) -> None:
        self.values: dict[Sign, list[float]] = {}
        self.prompts: dict[Sign, list[int]] = {}
        self.unavailable: dict[str, str] = {}
        self.steps: int | None = None

    def add(self, prompt: int, watched: intake.Watched) -> None:
        """Keep the values of one run."""
        self.steps = watched.tally.steps_made() or self.steps
        for sign, values in watched.tally.values().items():
            self.values.setdefault(sign, []).extend(values)
            self.prompts.setdefault(sign, []).extend([prompt] * len(values))
        for found in watched.signs_for(0, 1, "run"):
            if isinstance(found, SignUnavailable):
                self.unavailable[found.sign] = found.reason


def _runs(pipe: Any, wanted: WantedSigns, watch: intake.Watch) -> Iterator[intake.Watched]:
    """Every run, one image each; what it draws is thrown away."""
    taken = inspect.signature(type(pipe).__call__).parameters
    for number in range(wanted.runs):
        said = dict(wanted.options)
        if wanted.prompts:
            said["prompt"] = wanted.prompts[number // wanted.seeds_each]
        if "output_type" in taken:
            said.setdefault("output_type", "latent")
        seed = (wanted.seed + number) % _HIGHEST_SEED
        said["generator"] = torch.Generator(pipe.device if pipe.device.type != "meta" else "cpu").manual_seed(seed)
        yield intake.watched_call(pipe, pipe.__call__, (), said, watch)


def _calibration(
    pipe: Any, wanted: WantedSigns, settings: Settings, measured: _Measured, rates: tuple[float, float]
) -> SignCalibration:
    context = _context(pipe, wanted)
    while any(line.endswith(STILL_BEING_MADE) for line in context.unread):  # large weights are read in the background
        time.sleep(_WAIT_S)
        context = _context(pipe, wanted)
    if context.weights_sha256 is None:
        why = "; ".join(one for one in context.unread if one.startswith("weights")) or "no digest"
        said = f"limits hold for its weights only, and those have no digest ({why})"
        raise SettingsInvalid(type(pipe).__name__, said)
    if not measured.values or measured.steps is None:
        why = "; ".join(f"{name}: {reason}" for name, reason in sorted(measured.unavailable.items()))
        raise SettingsInvalid(type(pipe).__name__, f"none of the signs could be measured ({why})")
    fitted = tuple(
        fit_sign(_runs_of(sign, values, measured, settings, wanted), *rates)
        for sign, values in sorted(measured.values.items(), key=lambda one: one[0].name)
    )
    return _named(
        SignCalibration(
            id=_UNWRITTEN,
            at=datetime.now(UTC),
            pipeline=context.pipeline,
            weights_sha256=context.weights_sha256,
            scheduler=context.scheduler,
            steps=measured.steps,
            guidance_scale=context.guidance_scale,
            prompts=len(wanted.prompts),
            prompts_sha256=hashlib.sha256("\n".join(sorted(wanted.prompts)).encode()).hexdigest(),
            seeds_each=wanted.seeds_each,
            signs=fitted,
            warnings=_warnings(wanted, measured),
        )
    )


def _runs_of(
    sign: Sign, values: Sequence[float], measured: _Measured, settings: Settings, wanted: WantedSigns
) -> SignRuns:
    array, prompts = np.asarray(values, np.float64), np.asarray(measured.prompts[sign])
    kept = np.isfinite(array)
    numbers = prompts if wanted.prompts else np.arange(len(prompts))
    steps = settings.signs[sign.name].steps
    return SignRuns(sign.name, sign.unit, sign.scale, steps, array[kept], numbers[kept].tolist(), wanted.source)


def _warnings(wanted: WantedSigns, measured: _Measured) -> tuple[str, ...]:
    found = [f"{name}: not measured: {reason}" for name, reason in sorted(measured.unavailable.items())]
    if wanted.prompts and wanted.seeds_each > 1:
        found.append("runs of one prompt are alike, so the intervals are too narrow; more prompts help")
    return tuple(found)


def _context(pipe: Any, wanted: WantedSigns) -> GenerationContext:
    said = dict(wanted.options) | ({"prompt": wanted.prompts[0]} if wanted.prompts else {})
    return intake.read_context(pipe, pipe.__call__, (), said)


def _named(calibration: SignCalibration) -> SignCalibration:
    return calibration.model_copy(update={"id": calibration.digest})
