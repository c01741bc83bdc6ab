"""The flow on one page: a pipeline's output in; fingerprints, neighbours, evidence, verdicts; what may leave out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from PIL import Image

from guardrail import act, intake, judge
from guardrail import plugins as tools
from guardrail.carriers import ImageBatch, Picture
from guardrail.errors import (
    GuardrailError,
    ImageBlocked,
    IndexMismatch,
    MemoryUnwritable,
    ReleaseFailed,
    SettingsInvalid,
)
from guardrail.fingerprint import HASHES, Fingerprinter, pixels_digest, query_looks, resolve_device
from guardrail.memory import Held, Memory
from guardrail.protocols import IndexBackend
from guardrail.records import (
    CheckFailed,
    Decision,
    Evidence,
    GenerationContext,
    Neighbour,
    Timings,
    Verdict,
)
from guardrail.report import Report, require_names
from guardrail.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

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
        self.index = _index(self.plugins, self.settings)
        self.fingerprint = _fingerprinter(self.plugins, self.settings, self.index)
        self._built_for, shipped = self.index.header, self.index.header.limits
        self.limits = shipped.overridden(self.settings.limits) if self.settings.limits else shipped
        self.memory = Memory(self.settings.memory_url)
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
    def last_report(self) -> Report | None:
        """The report of the last guarded call in this thread or task: for calls with `return_dict=False`."""
        return self._last_report.get()

    # --- around a pipeline -------------------------------------------------------------------------------

    def wrap(self, pipe: Any) -> Any:
        """Guard a diffusers pipeline; returns the same instance, which stays what it was to its user."""
        return intake.wrap(pipe, self)

    def unwrap(self, pipe: Any) -> Any:
        """Take the guard off again; returns the same instance."""
        return intake.unwrap(pipe)

    def generate(self, pipe: Any, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a pipeline's call and hand out what may leave: what a wrapped pipeline does when it is called."""
        released, blocked = self._generate(pipe, call, args, kwargs)
        if blocked is not None:  # raised from here, where no frame of the traceback holds a picture
            raise ImageBlocked(blocked.image, blocked.explanation)
        return released

    def _generate(
        self, pipe: Any, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, Verdict | None]:
        context = intake.read_context(pipe, call, args, kwargs)
        output = intake.own_copy(call(*args, **kwargs))
        context = intake.finish_context(context, pipe)
        found = intake.pictures_in(output)
        verdicts = self.judge(found.batch, context)
        output, pictures, verdicts, attempts = self._try_again(output, found, verdicts, context, call, args, kwargs)
        report = Report(verdicts, context, self, self._not_withheld(pictures, verdicts), attempts)
        self._last_report.set(report)
        blocked = next((verdict for verdict in verdicts if verdict.decision is Decision.BLOCK), None)
        if blocked is not None and self.settings.on_block == "raise":
            return None, blocked
        cards = {
            verdict.image: self._card(picture, verdict)
            for picture, verdict in zip(pictures, verdicts, strict=True)
            if self._is_withheld(picture, verdict)
        }
        released = intake.put_into(output, cards)
        if isinstance(released, dict):  # diffusers' outputs are dicts that also take attributes
            object.__setattr__(released, "guard", report)
        return released, None

    def _try_again(
        self,
        output: Any,
        found: intake.PicturesInOutput,
        verdicts: tuple[Verdict, ...],
        context: GenerationContext,
        call: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> tuple[Any, tuple[Picture, ...], tuple[Verdict, ...], tuple[Verdict, ...]]:
        """Generate blocked images again with fresh seeds, as often as the settings say; fills only their places."""
        pictures, kept, attempts = list(found.batch.pictures), list(verdicts), []
        tries = self.settings.regenerate_at_most if self.settings.on_block == "regenerate" else 0
        for _ in range(tries):
            blocked = [at for at, verdict in enumerate(kept) if verdict.decision is Decision.BLOCK]
            fresh = intake.reseeded(call, args, kwargs) if blocked else None
            if fresh is None:
                break
            again = intake.pictures_in(intake.own_copy(fresh.call()))
            if not found.is_like(again):
                break
            judged = self.judge(
                ImageBatch(tuple(again.batch.pictures[at] for at in blocked)),
                context.model_copy(update={"seed": fresh.seed}),
            )
            attempts += [kept[at] for at in blocked]
            output = intake.put_into(output, {}, {pictures[at].name: again.values[pictures[at].name] for at in blocked})
            for at, verdict in zip(blocked, judged, strict=True):
                kept[at], pictures[at] = verdict, again.batch.pictures[at]
        return output, tuple(pictures), tuple(kept), tuple(attempts)

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

    def judge(self, batch: ImageBatch, context: GenerationContext | None = None) -> tuple[Verdict, ...]:
        """Judge one batch: fingerprint, search, gather evidence, decide, remember.

        Raises:
            MemoryUnwritable: the verdicts could not be remembered; none of the images may be released.
        """
        otherwise = [picture.seen_otherwise() for picture in batch.pictures]
        verdicts = list(self._verdicts(ImageBatch(batch.pictures + sum(otherwise, ())), context))
        rest = iter(verdicts[len(batch) :])
        for at, pictures in enumerate(otherwise):
            for _ in pictures:
                verdicts[at] = judge.graver(verdicts[at], next(rest))
        verdicts = verdicts[: len(batch)]
        self._remember(batch, verdicts, context)
        return tuple(verdicts)

    def _verdicts(self, batch: ImageBatch, context: GenerationContext | None) -> tuple[Verdict, ...]:
        started = time.perf_counter()
        prints = self.fingerprint(batch)
        fingerprinted = time.perf_counter()
        index = tools.pinned_alike(self.index, self._built_for, self.settings.index)  # one batch, one state
        neighbours = index.search(prints, self.settings.neighbours)
        searched = time.perf_counter()
        if not len(prints) == len(neighbours) == len(batch):
            raise ValueError(f"{len(prints)} fingerprints and {len(neighbours)} answers for {len(batch)} images")
        about = []
        for row, picture in enumerate(batch.pictures):
            quality = int(prints.pdq_quality[row])
            evidence, near = self._evidence(picture, prints.failures[row], neighbours[row], quality, context, index)
            about.append((picture, prints.pixels_sha256[row], evidence, near))
        spent = (fingerprinted - started, searched - fingerprinted, time.perf_counter() - searched)
        timings = Timings(**{name: s * 1000 for name, s in zip(Timings.model_fields, spent, strict=True)})
        return tuple(self._decide(*one, index.header.snapshot, context, timings) for one in about)

    def _evidence(
        self,
        picture: Picture,
        failure: CheckFailed | None,
        neighbours: tuple[Neighbour, ...],
        pdq_quality: int,
        context: GenerationContext | None,
        index: IndexBackend,
    ) -> tuple[tuple[Evidence, ...], tuple[Neighbour, ...]]:
        """All evidence on one image: from its neighbours, then from every plugin that looks closer."""
        if failure is not None:
            return (failure,), ()
        found = list(judge.gather(picture.name, neighbours, pdq_quality, self.limits))
        for answer in tools.call_guards(
            self.plugins,
            "find_evidence",
            context=context,
            picture=picture,
            neighbours=neighbours,
            index=index,
            limits=self.limits,
            settings=self.settings,
        ):
            found += tools.evidence_of(answer, picture.name)
        return tuple(found), neighbours

    def _decide(
        self,
        picture: Picture,
        pixels_sha256: str | None,
        evidence: tuple[Evidence, ...],
        neighbours: tuple[Neighbour, ...],
        snapshot: str,
        context: GenerationContext | None,
        timings: Timings,
    ) -> Verdict:
        about = judge.Findings(
            image=picture.name,
            pixels_sha256=pixels_sha256,
            evidence=evidence,
            neighbours=neighbours,
            limits=self.limits,
            index_snapshot=snapshot,
            at=datetime.now(UTC),
            run_id=context.run_id if context else None,
            timings=timings,
        )
        return judge.decide(about, self.settings.policy)

    def _remember(self, batch: ImageBatch, verdicts: Sequence[Verdict], context: GenerationContext | None) -> None:
        held = []
        for picture, verdict in zip(batch.pictures, verdicts, strict=True):
            flagged = verdict.decision is Decision.FLAG
            held.append(
                Held(verdict, act.encode_png(picture.pixels) if flagged and picture.pixels is not None else None)
            )
        if held:
            self.memory.record_verdicts(held, context)
        for verdict in verdicts:
            tools.call_observers(self.plugins, "verdict_reached", verdict=verdict, context=context)

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
            picture, verdict, path = report.pictures[at], report.verdicts[at], folder / f"{names[at]}.png"
            try:
                pixels = _judged_pixels(picture, verdict)
                self._release_one(pixels, verdict, report.context, path, signing, overwrite=overwrite)
                paths[at] = path
            except (ReleaseFailed, MemoryUnwritable) as error:
                if failures is None:
                    raise
                failures[at] = error
        return paths

    def ready_to_release(self, folder: Path) -> act.Signing:
        """Find the signer and make the folder, before any work is done.

        Raises:
            KeysMissing, KeysUnusable, ReleaseFailed: images could not be signed or written there.
        """
        signing = self._signing()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ReleaseFailed("all", f"the folder {str(folder)!r} cannot be made: {error}") from error
        return signing

    def _signing(self) -> act.Signing:
        answer = tools.first_answer(self.plugins, "provide_signer", settings=self.settings)
        if answer is not None and isinstance(answer.error, GuardrailError):
            raise answer.error
        if answer is None or not isinstance(answer.value, act.Signing):
            raise ReleaseFailed("all", f"no plugin provides a signer ({answer})")
        return answer.value

    def _release_one(
        self,
        pixels: Tensor,
        verdict: Verdict,
        context: GenerationContext | None,
        path: Path,
        signing: act.Signing,
        *,
        overwrite: bool,
    ) -> None:
        """Encode, sign, read back, write the ledger, write the file; a failure on the way leaves no file."""
        signed = act.sign(act.encode_png(pixels), verdict, tools.claims_of(self.plugins, verdict, context), signing)
        release = act.describe_release(signed, path)
        self.memory.record_release(release)
        try:
            act.write_release(signed, path, overwrite=overwrite)
        except BaseException as error:
            self.memory.record_withdrawal(verdict.verdict_id, str(error))
            raise
        tools.call_observers(self.plugins, "output_released", release=release, path=path)


def _index(hooks: Any, settings: Settings) -> IndexBackend:
    if not settings.index:
        raise SettingsInvalid("the settings or the call", "no index is named; give one with --index or index = ...")
    return tools.open_index(hooks, settings.index, settings.search_device)


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


def _judged_pixels(picture: Picture | None, verdict: Verdict) -> Tensor:
    """Our own copy of the pixels of an accepted image, which are the very ones that were judged.

    Raises:
        ReleaseFailed: they were changed since.
    """
    if picture is None or picture.pixels is None:
        raise ReleaseFailed(verdict.image, "its pixels are not at hand")
    pixels = picture.pixels.clone()
    digest = pixels_digest(pixels)
    if digest != verdict.pixels_sha256:
        raise ReleaseFailed(
            verdict.image, f"its pixels are {digest[:12]}, judged were {str(verdict.pixels_sha256)[:12]}"
        )
    return pixels
