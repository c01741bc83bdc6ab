"""Limits of signs in flight: a calibration that fits the run, read from its folder, or why there is none."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pydantic import ValidationError

from guardrail.errors import SignLimitsUnfit
from guardrail.records import Decision, GenerationContext, SignCalibration
from guardrail.settings import Settings

__all__ = ["UNCALIBRATED", "SignBounds", "bounds_of", "calibrations_in", "write_sign_calibration"]

UNCALIBRATED = "uncalibrated"
_GUIDANCE_ALIKE = 1e-6  # guidance scales nearer than this are the same
_DIGITS_IN_NAME = 16  # of a digest, enough to tell files apart


@dataclass(frozen=True, slots=True)
class SignBounds:
    """The limits of one sign on one run, and where they come from; None: no such limit."""

    flag_above: float | None = None
    block_above: float | None = None
    calibration: str = UNCALIBRATED

    def reached(self, value: float) -> Decision:
        """The decision a value is enough for; a limit that is equalled is reached."""
        if self.block_above is not None and value >= self.block_above:
            return Decision.BLOCK
        if self.flag_above is not None and value >= self.flag_above:
            return Decision.FLAG
        return Decision.ACCEPT


def bounds_of(settings: Settings, context: GenerationContext | None, sign: str, steps: int | None) -> SignBounds:
    """The limits of a sign on a run: those of the settings, and else of the newest calibration that fits.

    Args:
        settings: with the sign's own settings, and the folder of calibrations.
        context: the run; without one, or without its weights' digest, no calibration fits.
        sign: its name.
        steps: how many steps this run makes.

    Raises:
        SignLimitsUnfit: a calibration of this pipeline cannot be trusted.
    """
    own = settings.signs[sign]
    found = _calibrated(settings, context, sign, steps)
    if own.flag_above is None and own.block_above is None:
        return found
    return SignBounds(
        flag_above=found.flag_above if own.flag_above is None else own.flag_above,
        block_above=found.block_above if own.block_above is None else own.block_above,
        calibration="settings" if found.calibration.startswith(UNCALIBRATED) else f"{found.calibration}, overridden",
    )


def _calibrated(settings: Settings, context: GenerationContext | None, sign: str, steps: int | None) -> SignBounds:
    if context is None or context.weights_sha256 is None:
        return SignBounds(calibration=f"{UNCALIBRATED}: the digest of the pipeline's weights was not read")
    all_of_it = list(calibrations_in(settings.sign_limits_dir, context.pipeline))
    ours = [one for one in all_of_it if one.weights_sha256 == context.weights_sha256]
    fitting = [one for one in ours if _misfit(one, context, steps) is None]
    limited = [
        (one, limits)
        for one in sorted(fitting, key=lambda one: one.at, reverse=True)
        if (limits := one.limits_of(sign)) is not None and limits.steps == settings.signs[sign].steps
    ]
    if limited:
        one, limits = limited[0]
        return SignBounds(limits.flag.limit, limits.block.limit, one.id)
    if fitting:
        return SignBounds(calibration=f"{UNCALIBRATED}: this sign, at this setting of steps")
    if ours:
        return SignBounds(calibration=f"{UNCALIBRATED}: {_misfit(ours[-1], context, steps)}")
    return SignBounds(calibration=f"{UNCALIBRATED}: for other weights only" if all_of_it else UNCALIBRATED)


def _misfit(one: SignCalibration, context: GenerationContext, steps: int | None) -> str | None:
    """How a run differs from those a calibration was made on; None where it does not."""
    if one.scheduler != context.scheduler:
        return f"for scheduler {one.scheduler} only"
    if steps is not None and one.steps != steps:
        return f"for {one.steps} steps only"
    mine, theirs = context.guidance_scale, one.guidance_scale
    if (mine is None) != (theirs is None) or abs((mine or 0.0) - (theirs or 0.0)) > _GUIDANCE_ALIKE:
        return f"for guidance {theirs} only"
    return None


def calibrations_in(folder: Path, pipeline: str) -> Iterator[SignCalibration]:
    """The calibrations of one pipeline class in a folder.

    Raises:
        SignLimitsUnfit: one of them was edited or cut.
    """
    for path in sorted(folder.glob(f"{pipeline}-*.json")) if folder.is_dir() else ():
        yield _read(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _read(path: Path, changed_ns: int) -> SignCalibration:
    del changed_ns  # a file that was written again is read again
    try:
        found = SignCalibration.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise SignLimitsUnfit(str(path), type(error).__name__, "a calibration of signs") from error
    if found.id != found.digest:
        raise SignLimitsUnfit(str(path), f"contents with digest {found.digest[:12]}", f"{found.id[:12]}")
    return found


def write_sign_calibration(folder: Path, calibration: SignCalibration) -> Path:
    """Put a calibration into its folder, whole or not at all; returns its path.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = calibration.weights_sha256[:_DIGITS_IN_NAME]
    path = folder / f"{calibration.pipeline}-{weights}-{calibration.id[:_DIGITS_IN_NAME]}.json"
    fresh = path.with_suffix(".new")
    fresh.write_text(calibration.model_dump_json(indent=2) + "\n", encoding="utf-8")
    fresh.replace(path)
    return path
