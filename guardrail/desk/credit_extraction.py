"""A pipeline, an adapter and a work of an index in, whether the adapter takes the work out of the model out."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from guardrail import intake
from guardrail.attribution_errors import AttributionImpossible
from guardrail.desk.audit_subject import load_pipeline, model_digest, read_output, weights_digest
from guardrail.fingerprint import resolve_device
from guardrail.guard import Guard
from guardrail.index import FolderIndex
from guardrail.judge.proofs import Proofs
from guardrail.records import CheckFailed, CopyRate, Decision, ExtractionReport, MatchEvidence, Signal, Verdict
from guardrail.settings import Settings
from guardrail.study.attribution.access import PipelineAccess
from guardrail.study.attribution.extraction import Paired, Rate, extracted, known_of, paired
from guardrail.study.attribution.switching import AskedAt, Pictured, Switches
from guardrail.study.audit import Maker
from guardrail.study.audit.plan import Ask

__all__ = ["Measuring", "measured"]

_AT_ONCE = 8  # pictures of one call, and of one check
_LOADED = "extraction"  # the name of an adapter that is loaded from a file
_ASIDE = ("pdq_quality",)  # checks that fail on a faint picture, which pixels and vectors still see

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Measuring:
    """What a person asked for.

    Attributes:
        model: folder of a pipeline, or `module:function`.
        adapter: its safetensors file, or its name in the pipeline.
        work: the work that it is to take out, as BANK/ID.
        index: folder of the index that has it; empty: the settings'.
        prompt: what the model is asked for.
        weight: of the adapter.
        generations: pictures with it, and as many without.
        draws: at which the work's picture is asked.
        steps: denoising steps; 0: the pipeline's.
        side_px: of what the pipeline makes; 0: as it says.
        seed: of the first picture.
        device: where it runs.
    """

    model: str
    adapter: str
    work: str
    index: str = ""
    prompt: str = ""
    weight: float = 1.0
    generations: int = 32
    draws: int = 64
    steps: int = 0
    side_px: int = 0
    seed: int = 0
    device: str = "cpu"


class _Work(NamedTuple):
    bank: str
    work_id: str


def measured(asked: Measuring, settings: Settings, progress: Progress = lambda done, total: None) -> ExtractionReport:
    """Generate from the same seeds with an adapter and without, and compare.

    Pictures are looked at by a guard with the index of the work, in a ledger that is thrown away.

    Args:
        asked: what is measured.
        settings: of the guard; `home` and `memory` do not matter.
        progress: called with (done, total), pictures.

    Raises:
        AttributionImpossible: there is no such adapter or work, the adapter is fused, or pictures cannot be checked.
        AuditImpossible: there is no such pipeline, or it cannot be called.
        PictureNotKept: the index keeps no picture of the work.
    """
    device = resolve_device(asked.device)
    index = asked.index or str(settings.index)
    work, picture = _work_of(index, asked.work)
    pipeline = load_pipeline(asked.model, device)
    name, weights = _laid(pipeline, asked)
    switches = Switches(pipeline, weights)
    side = asked.side_px or PipelineAccess(pipeline, device).side_px
    pixels = np.asarray(ImageOps.fit(picture, (side, side), Image.Resampling.LANCZOS))
    known = known_of(pipeline, name, Pictured(pixels, asked.prompt), AskedAt(asked.draws, asked.seed, device), weights)
    maker = Maker(pipeline, read_output, {"num_inference_steps": asked.steps} if asked.steps else {})
    with _guard(settings, index) as guard:
        rates = _rates(_Looking(guard, maker, work, asked, progress), switches, name)
    outcome = extracted(rates, known)
    return ExtractionReport(
        model=model_digest(pipeline, weights_digest(pipeline)),
        adapter=asked.adapter if name != _LOADED else Path(asked.adapter).name,
        weights_sha256=_digest(pipeline, name, switches),
        weight=asked.weight,
        work=asked.work,
        seed=asked.seed,
        draws=asked.draws,
        with_adapter=_rate(rates.with_adapter),
        without=_rate(rates.without),
        p_value=rates.p_value,
        known_with=known.with_adapter,
        known_without=known.without,
        known_error=known.error,
        share=known.share,
        took_out=outcome.took_out,
        warnings=_warnings(rates.with_adapter, rates.without, by_copies=outcome.by_copies),
    )


@contextmanager
def _guard(settings: Settings, index: str) -> Iterator[Guard]:
    """A guard of the index, whose ledger is thrown away."""
    with tempfile.TemporaryDirectory(prefix="guardrail-") as home:
        guard = Guard(settings=settings.model_copy(update={"home": Path(home), "memory": "", "index": index}))
        try:
            yield guard
        finally:
            guard.memory.close()


def _rates(looked: _Looking, switches: Switches, name: str) -> Paired:
    with switches.only(switches.names):
        copies_with = looked.copies()
    with switches.only([one for one in switches.names if one != name]):
        copies_without = looked.copies()
    return paired(copies_with, copies_without)


class _Looking:
    """Makes pictures as the pipeline's adapters are, and looks whether they are copies of a work."""

    def __init__(self, guard: Guard, maker: Maker, work: _Work, asked: Measuring, progress: Progress) -> None:
        self._guard, self._maker, self._work, self._asked = guard, maker, work, asked
        self._progress, self._done = progress, 0

    def copies(self) -> list[bool]:
        """Whether the picture of each seed is a copy of the work."""
        asks = [Ask(at, self._asked.seed + at, self._asked.prompt) for at in range(self._asked.generations)]
        found: list[bool] = []
        for start in range(0, len(asks), _AT_ONCE):
            made = self._maker.make(asks[start : start + _AT_ONCE])
            found += [self._is_copy(verdict) for verdict in self._guard.check([_picture(one) for one in made]).verdicts]
            self._done += len(made)
            self._progress(self._done, 2 * len(asks))
        return found

    def _is_copy(self, verdict: Verdict) -> bool:
        """Whether a guard stops it because of the work; that CLIP finds it alike is no copy."""
        for found in verdict.evidence:
            if isinstance(found, CheckFailed) and found.check not in _ASIDE:
                wrong = f"a check that failed ({found.check}: {found.error})"
                raise AttributionImpossible(found.image, wrong, "an answer", "mend the cause")
        proofs = Proofs.among(verdict.evidence, self._guard.limits)
        return any(
            isinstance(found, MatchEvidence)
            and (found.work.bank, found.work.work_id) == self._work
            and found.signal is not Signal.CLIP
            and proofs.reached(found) is not Decision.ACCEPT
            for found in verdict.evidence
        )


def _picture(made: NDArray[np.uint8] | str) -> NDArray[np.uint8]:
    if isinstance(made, str):
        raise AttributionImpossible("the pipeline", f"no picture ({made})", "one for each seed", "call it by hand")
    return made


def _work_of(index: str, said: str) -> tuple[_Work, Image.Image]:
    """A work of an index, and the picture that is kept of it."""
    pinned = FolderIndex(Path(index)).pinned()
    bank, _, work_id = said.partition("/")
    for row in pinned.rows().tolist():
        work = pinned.work(row)
        if (work.bank, work.work_id) == (bank, work_id):
            picture = Image.open(io.BytesIO(pinned.preview(row))).convert("RGB")
            return _Work(bank, work_id), picture
    raise AttributionImpossible(
        said, f"no such work in {index!r}", "one as BANK/ID", "look it up with guardrail index list"
    )


def _laid(pipeline: Any, asked: Measuring) -> tuple[str, dict[str, float]]:
    """The adapter's name in the pipeline, loaded where it is a file, and the weights of all that are to be on."""
    others = Switches(pipeline).weights
    path = Path(asked.adapter)
    if not path.is_file():
        return asked.adapter, others | {asked.adapter: asked.weight}
    if not hasattr(pipeline, "load_lora_weights"):
        kind = type(pipeline).__name__
        raise AttributionImpossible(
            kind, "no load_lora_weights", "a pipeline that loads LoRAs", "load it in a function"
        )
    try:
        pipeline.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name=_LOADED, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        wrong = f"{type(error).__name__} when it was loaded ({error})"
        raise AttributionImpossible(asked.adapter, wrong, "a LoRA of this pipeline", "name another file") from error
    return _LOADED, others | {_LOADED: asked.weight}


def _digest(pipeline: Any, name: str, switches: Switches) -> str | None:
    """The sha256 by which runs know the adapter."""
    with switches.only([name]):
        context = intake.read_context(pipeline, pipeline.__call__, (), {})
    return next((one.sha256 for one in context.adapters if one.name == name), None)


def _rate(rate: Rate) -> CopyRate:
    return CopyRate(copies=rate.copies, generated=rate.generated, low=rate.low, high=rate.high)


def _warnings(with_adapter: Rate, without: Rate, *, by_copies: bool) -> tuple[str, ...]:
    said = []
    if not without.copies:
        said.append(
            "the model gave no copy of the work without the adapter either: ask with its own prompt, or oftener"
        )
    if by_copies and with_adapter.copies:
        said.append(f"{with_adapter.copies} copies still came with the adapter: it takes the work out in part")
    return tuple(said)
