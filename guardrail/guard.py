"""The flow on one page: a pipeline's output in; fingerprints, neighbours, evidence, verdicts; what may leave out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from PIL import Image

from guardrail import act, intake, judge
from guardrail import plugins as tools
from guardrail.carriers import ImageBatch, Picture, RunFacts, RunInputs
from guardrail.errors import (
    GuardrailError,
    ImageBlocked,
    IndexMismatch,
    MemoryUnwritable,
    ReleaseFailed,
    SettingsInvalid,
)
from guardrail.fingerprint import HASHES, Fingerprinter, query_looks, resolve_device
from guardrail.judging import JudgedBatch
from guardrail.memory import Held, Memory
from guardrail.recognising import Recognising
from guardrail.records import Decision, GenerationContext, Neighbour, ReviewDecision, Signal, Verdict
from guardrail.releasing import Releasing
from guardrail.report import Accepted, Report, require_names
from guardrail.running import GuardedRun
from guardrail.searching import Indexes, clip_prints, search_all
from guardrail.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from guardrail.attributing import Attributing
    from guardrail.judge import KnownInputs
    from guardrail.protocols import IndexBackend
    from guardrail.records import Attribution

__all__ = ["Guard"]

log = logging.getLogger("guardrail")


class Guard:
    """Compares images with an index of protected works, and lets out what a policy accepts.

    Args:
        index: folder of the index, or a backend's URL; takes the place of `settings.index`.
        settings: everything else; default: shipped settings and environment.
        plugins: objects with hook implementations, besides the installed ones.

    Raises:
        SettingsInvalid, PluginFault, EmbedderUnknown, WeightsUnusable: it cannot be built.
        IndexMissing, IndexDamaged, IndexMismatch: the index cannot be used.
        MemoryUnwritable: ledger and queue cannot be opened.
    """

    def __init__(
        self, index: str | Path = "", settings: Settings | None = None, plugins: Iterable[object] = ()
    ) -> None:
        settings = settings or Settings()
        self.settings = settings.model_copy(update={"index": str(index)}) if str(index) else settings
        self._extra_plugins = tuple(plugins)
        self.plugins = tools.build_plugins(self._extra_plugins)
        if unknown := intake.unknown_signs(self.plugins, self.settings):
            raise SettingsInvalid(
                "signs", f"found {', '.join(unknown)}, expected signs that an installed plugin offers"
            )
        self.indexes = Indexes(self.plugins, self.settings)
        self.fingerprint = _fingerprinter(self.plugins, self.settings, self.index)
        shipped = self.index.header.limits
        self.limits = shipped.overridden(self.settings.limits) if self.settings.limits else shipped
        desk = self.settings.desk
        self.memory = Memory(self.settings.memory_url, pictures=self.settings.pictures_place, desk=desk)
        self.memory.reconcile()
        recognising = Recognising(
            self.memory,
            self.fingerprint.copy,
            device=resolve_device(self.settings.device),
            iscc=self.settings.provenance.soft_binding,
        )
        self._releasing = Releasing(self, recognising.prints_of)
        self._last_report: ContextVar[Report | None] = ContextVar("last_report", default=None)

    @classmethod
    def from_file(cls, path: str | Path, plugins: Iterable[object] = ()) -> Self:
        """A guard with the settings of a TOML file."""
        return cls(settings=Settings.from_file(path), plugins=plugins)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), ("", self.settings, self._extra_plugins))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    @property
    def index(self) -> IndexBackend:
        """The index that was opened; those of adapters stand beside it, see the setting `adapters`."""
        return self.indexes.main

    @cached_property
    def attributing(self) -> Attributing:
        """Estimates what images owe to training images, see the settings `[attribution]`."""
        from guardrail.attributing import Attributing

        return Attributing(self.settings, self.memory, self.index, self.fingerprint)

    @property
    def last_report(self) -> Report | None:
        """The report of the last guarded call in this thread or task: for calls with `return_dict=False`."""
        return self._last_report.get()

    # --- around a pipeline -------------------------------------------------------------------------------

    def wrap(self, pipe: Any) -> Any:
        """Guard a diffusers pipeline; returns the same instance, which stays what it was to its user.

        Pipelines that are built from its denoiser afterwards (`from_pipe`, `Cls(**pipe.components)`) are guarded too.
        Of any other callable that returns pictures: the same object where its class can be swapped, else a function.

        Raises:
            PipelineNotWrappable: it cannot be called, is a class, or another guard is around it.
        """
        wrapped = intake.wrap(pipe, self)
        intake.remember_weights(pipe, self.settings)
        return wrapped

    def unwrap(self, pipe: Any) -> Any:
        """Take the guard off again; returns the same instance (of a guarded function: the function)."""
        return intake.unwrap(pipe)

    def install(self) -> None:
        """Guard every diffusers pipeline that is built from now on in this process.

        Raises:
            PipelineNotWrappable: another guard is installed.
        """
        intake.install(self)

    def uninstall(self) -> None:
        """Guard no more new pipelines, and take the guard off those that were guarded by `install`."""
        intake.uninstall(self)

    def generate(self, pipe: Any, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a pipeline's call and hand out what may leave: what a wrapped pipeline does when it is called.

        Raises:
            ImageBlocked: an image was blocked, and the settings say to raise.
            OutputNotUnderstood: there may be pictures in the output that cannot be looked at.
            MemoryUnwritable: the verdicts could not be remembered.
        """
        intake.note_parts(pipe, self)
        released, blocked = self._generate(pipe, call, args, kwargs)
        if blocked is not None:  # raised from here, where no frame of the traceback holds a picture
            raise ImageBlocked(blocked.image, blocked.explanation)
        return released

    def _generate(
        self, pipe: Any, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, Verdict | None]:
        run = GuardedRun(self, pipe, call, args, kwargs)
        run.make()
        self.memory.record_remedies(run.tried, run.context.run_id)
        pictures, verdicts = run.pictures, run.verdicts
        report = Report(
            verdicts,
            run.context,
            self,
            self._not_withheld(pictures, verdicts),
            tuple(run.attempts),
            run.tried,
            known=run.known,
            parent=run.parent,
            attributions=self._attributed(pipe, run),
        )
        self._last_report.set(report)
        blocked = next((verdict for verdict in verdicts if verdict.decision is Decision.BLOCK), None)
        if blocked is not None and self.settings.on_block == "raise":
            return None, blocked
        withheld = [pair for pair in zip(pictures, verdicts, strict=True) if self._is_withheld(*pair)]
        cards = {
            name: card
            for picture, verdict in withheld
            for card in (self._card(picture, verdict),)
            for name in (picture.name, *picture.stands_for)
        }
        released = run.released(cards)
        if isinstance(released, intake.BaseOutput | intake.PipelineState):
            object.__setattr__(released, "guard", report)
        return released, None

    def _is_withheld(self, picture: Picture, verdict: Verdict) -> bool:
        """Whether an image stays in: blocked ones, unread ones, and flagged ones unless the settings return them."""
        returned = (
            verdict.decision is Decision.FLAG and self.settings.on_flag == "return" and picture.pixels is not None
        )
        return verdict.decision is not Decision.ACCEPT and not returned

    def _not_withheld(self, pictures: Sequence[Picture], verdicts: Sequence[Verdict]) -> tuple[Picture | None, ...]:
        both = zip(pictures, verdicts, strict=True)
        return tuple(None if self._is_withheld(picture, verdict) else picture for picture, verdict in both)

    def _card(self, picture: Picture, verdict: Verdict) -> Image.Image:
        """What is shown in place of a withheld image; plain grey when no plugin draws one."""
        size = (64, 64) if picture.pixels is None else (picture.pixels.shape[2], picture.pixels.shape[1])
        answer = tools.first_answer(self.plugins, "replace_image", size_px=size, verdict=verdict)
        if answer and isinstance(answer.value, Image.Image) and answer.value.size == size:
            return answer.value.convert("RGB")
        log.error("no card of %dx%d was drawn (%s); a grey picture takes its place", *size, answer)
        return Image.new("RGB", size, "grey")

    # --- judging -----------------------------------------------------------------------------------------

    def check(self, images: Any, context: GenerationContext | None = None) -> Report:
        """Judge images that are already there: paths, Pillow images, arrays, tensors, or lists of them."""
        batch = intake.pictures_from(images, self.settings.largest_image_px)
        verdicts = self.judge(batch, context)
        return Report(verdicts, context, self, self._not_withheld(batch.pictures, verdicts))

    def judge(
        self, batch: ImageBatch, context: GenerationContext | None = None, facts: RunFacts | None = None
    ) -> tuple[Verdict, ...]:
        """Judge one batch: fingerprint, search, gather evidence, decide, remember.

        Args:
            batch: the pictures.
            context: how the model was run.
            facts: what else is known of that run: the pictures it was given, and what was found while it ran.

        Raises:
            MemoryUnwritable: the verdicts could not be remembered; none of the images may be released.
        """
        otherwise = [picture.seen_otherwise() for picture in batch.pictures]
        every = ImageBatch(batch.pictures + sum(otherwise, ()))
        judged = JudgedBatch(self, every, context, facts or RunFacts())
        verdicts = judged.verdicts()
        rest = iter(verdicts[len(batch) :])
        for at, pictures in enumerate(otherwise):
            for _ in pictures:
                verdicts[at] = judge.graver(verdicts[at], next(rest))
        earlier = facts.earlier if facts else {}
        verdicts = [
            verdict.model_copy(update={"earlier_verdict_id": earlier.get(verdict.image)})
            for verdict in verdicts[: len(batch)]
        ]
        self._remember(judged, verdicts, opens_cases=not (facts and facts.reviewed))
        return tuple(verdicts)

    def look_up(self, batch: ImageBatch) -> tuple[tuple[Neighbour, ...], ...]:
        """The nearest work of each picture by each signal, without a verdict: for looks while a picture comes about."""
        return self.indexes.pinned(None)[0].backend.search(self.fingerprint(batch), 1)

    @property
    def clip_embedder(self) -> str:
        """Name of the CLIP embedder of the index; empty where it has none."""
        spec = self.index.header.embedders.get("clip")
        return spec.name if spec else ""

    def look_up_embeddings(self, vectors: NDArray[np.float32]) -> tuple[tuple[Neighbour, ...], ...]:
        """The nearest works by CLIP alone.

        Args:
            vectors: float32 (N, E), unit length, of the index's own CLIP embedder.
        """
        near = self.indexes.pinned(None)[0].backend.search(clip_prints(vectors, self.index.header), 1)
        return tuple(tuple(one for one in found if one.signal is Signal.CLIP) for found in near)

    def work_preview(self, row: int) -> bytes:
        """The picture of a work, by its row in the index as it is now, as a small JPEG file.

        Raises:
            PictureNotKept: the index has none.
        """
        return self.index.pinned().preview(row)

    def known_inputs(self, inputs: RunInputs, context: GenerationContext | None) -> KnownInputs | None:
        """Which works the pictures that a run was given are copies of; None where it was given none."""
        if not inputs.records:
            return None
        prints = self.fingerprint(inputs.batch)
        searched = self.indexes.pinned(context)
        found = search_all(searched, prints, self.settings.neighbours)
        near = tuple(sum(answers, ()) for answers in zip(*found, strict=True))
        by_copy = self.index.header.normalisation is None
        return judge.known_inputs(inputs.records, prints, near, self.limits, by_copy=by_copy)

    def _attributed(self, pipe: Any, run: GuardedRun) -> tuple[Attribution | None, ...]:
        said = self.settings.attribution
        if said.when == "never" or said.how == "queued":
            return ()
        return self.attributing.of_run(pipe, run.pictures, run.verdicts, run.context)

    def _remember(self, judged: JudgedBatch, verdicts: Sequence[Verdict], *, opens_cases: bool) -> None:
        """Enter verdicts, the first of a batch in its order, and open a case for each flagged image."""
        held = []
        for row, verdict in enumerate(verdicts):
            shown = judged.batch.pictures[row].pixels if opens_cases and verdict.decision is Decision.FLAG else None
            png = act.encode_png(shown) if shown is not None else None
            pdq = judged.prints.pdq[row, 0].tobytes() if shown is not None else None
            held.append(Held(verdict, png, pdq, self.settings.organisation))
        if held:
            self.memory.record_verdicts(held, judged.context_given, limits=self.limits)
        if self.settings.attribution.how == "queued" and self.settings.attribution.when == "flagged":
            for verdict_id in (one.verdict.verdict_id for one in held if one.png is not None):
                self.memory.jobs.add(self.settings.organisation, "attribute", {"verdict_id": verdict_id}, total=1)
        for verdict in verdicts:
            tools.call_observers(self.plugins, "verdict_reached", verdict=verdict, context=judged.context_given)

    # --- releasing ---------------------------------------------------------------------------------------

    def release(
        self,
        report: Report,
        folder: Path,
        names: Sequence[str] | None,
        *,
        overwrite: bool,
        failures: dict[int, GuardrailError] | None = None,
    ) -> list[Path | None]:
        """Sign and write the accepted images of a report; see `Report.save`."""
        names = tuple(names or (f"image-{at:04d}-{v.verdict_id[:8]}" for at, v in enumerate(report.verdicts)))
        require_names(names, len(report.verdicts))
        paths: list[Path | None] = [None] * len(report.verdicts)
        accepted = [at for at, verdict in enumerate(report.verdicts) if verdict.decision is Decision.ACCEPT]
        if not accepted:
            return paths
        signing = self.ready_to_release(folder)
        for at in accepted:
            path = folder / f"{names[at]}{self._releasing.ending}"
            try:
                self._releasing.release(report.accepted(at), path, signing, overwrite=overwrite)
                paths[at] = path
            except (ReleaseFailed, MemoryUnwritable) as error:
                if failures is None:
                    raise
                failures[at] = error
        return paths

    def release_reviewed(
        self, png: bytes, verdict: Verdict, context: GenerationContext | None, review: ReviewDecision, path: Path
    ) -> Path:
        """Sign and write an image that was flagged and that a person let out; it is judged once more.

        The manifest says `human_validated`, and names the decision, not the person. Nothing is overwritten.

        Args:
            png: the picture as it was held: PNG of the very pixels that the verdict is on.
            verdict: to flag.
            context: how the model was run.
            review: the person's decision.
            path: where to, without ending; its folder is made.

        Returns:
            The path with the ending of the file's type.

        Raises:
            ReleaseFailed: it may not leave, is blocked by now, or could not be signed, read back or written.
            MemoryUnwritable: the ledger could not be written.
            KeysMissing, KeysUnusable: there is no signer.
        """
        signing = self.ready_to_release(path.parent)
        pixels = torch.from_numpy(act.decode_image(png, "image/png").copy()).permute(2, 0, 1).contiguous()
        picture = Picture(verdict.image, pixels=pixels, stands_for=verdict.frames)
        file = path.with_name(f"{path.name}{self._releasing.ending}")
        self._releasing.release(Accepted(picture, verdict, context, review=review), file, signing, overwrite=False)
        return file

    def ready_to_release(self, folder: Path) -> act.Signing:
        """Find the signer and make the folder, before any work is done.

        Raises:
            KeysMissing, KeysUnusable, ReleaseFailed: images could not be signed or written there.
        """
        return self._releasing.signing_for(folder)


def _fingerprinter(hooks: Any, settings: Settings, index: IndexBackend) -> Fingerprinter:
    """The fingerprinter the index was built with.

    Raises:
        IndexMismatch: the embedder of that name has other weights now, or the hashes are of another version.
    """
    device = resolve_device(settings.device)
    specs, weights = index.header.embedders, settings.weights_dir
    made = {role: tools.make_embedder(hooks, spec.name, device, weights) for role, spec in specs.items()}
    for role, spec in index.header.embedders.items():
        if made[role].spec != spec:
            raise IndexMismatch(settings.index, str(spec), str(made[role].spec))
    if index.header.hashes != HASHES:
        raise IndexMismatch(settings.index, str(index.header.hashes), str(HASHES))
    looks = query_looks(index.header.sampling)
    return Fingerprinter(made["copy"], made.get("clip"), device, settings.batch, looks)
