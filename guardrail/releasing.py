"""Sign what was accepted: marked, encoded once, judged as it leaves, signed, read back, in the ledger, on the disk."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

import torch

from guardrail import act, intake
from guardrail import plugins as tools
from guardrail.act.manifest_store import manifest_store
from guardrail.carriers import ImageBatch, Marked, OutputPicture, Picture, RunFacts
from guardrail.errors import GuardrailError, MemoryUnwritable, ReleaseFailed
from guardrail.fingerprint import pixels_digest
from guardrail.records import (
    InputMatch,
    MemorisationSign,
    ReleaseIntent,
    SignUnavailable,
    Watermark,
    WatermarkFound,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from guardrail.carriers import OutputPrints, ParentFile, SignedImage
    from guardrail.memory import Memory
    from guardrail.records import GenerationContext, Limits, Verdict
    from guardrail.report import Accepted
    from guardrail.settings import Settings

__all__ = ["Judges", "Releasing"]

_ENDINGS = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}
log = logging.getLogger("guardrail")


class Judges(Protocol):
    """What releasing needs of the guard that judged."""

    plugins: Any
    settings: Settings
    memory: Memory
    limits: Limits

    def judge(
        self, batch: ImageBatch, context: GenerationContext | None = None, facts: RunFacts | None = None
    ) -> tuple[Verdict, ...]:
        """Judge one batch, and remember the verdicts."""


class Releasing:
    """What releases accepted images of one guard.

    Args:
        guard: judges what leaves; its settings say how it leaves, its memory keeps the ledger.
        prints_of: what is kept of an image to know copies of it again; None: nothing is.
    """

    def __init__(self, guard: Judges, prints_of: Callable[[Picture], OutputPrints] | None = None) -> None:
        self._guard, self._prints_of = guard, prints_of
        self._hooks, self._settings, self._memory = guard.plugins, guard.settings, guard.memory

    @property
    def ending(self) -> str:
        """Of the names of released files, with its dot."""
        return _ENDINGS[self._settings.provenance.mime]

    def signing_for(self, folder: Path) -> act.Signing:
        """Find the signer and make the folder, before any work is done.

        Raises:
            KeysMissing, KeysUnusable, ReleaseFailed: images could not be signed or written there.
        """
        answer = tools.first_answer(self._hooks, "provide_signer", settings=self._settings)
        if answer is not None and isinstance(answer.error, GuardrailError):
            raise answer.error
        if answer is None or not isinstance(answer.value, act.Signing):
            raise ReleaseFailed("all", f"no plugin provides a signer ({answer})")
        signing = answer.value
        signing.require_usable(datetime.now(UTC))
        if signing.time_stamp is None:  # a plugin need not know of time stamps
            signing = replace(signing, time_stamp=act.time_stamping(self._settings.provenance))
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ReleaseFailed("all", f"the folder {str(folder)!r} cannot be made: {error}") from error
        return signing

    def release(self, accepted: Accepted, path: Path, signing: act.Signing, *, overwrite: bool) -> None:
        """Release the very pixels that were judged; where marking or compression changes them, they are judged again.

        Raises:
            ReleaseFailed: they were changed since, are not accepted as they would leave, or could not be signed, read
                back or written.
            MemoryUnwritable: the ledger could not be written.
        """
        output, verdict = self._outgoing(accepted)
        picture = _picture_of(output, verdict)
        prints = self._prints(picture)
        intent = _intent(output, verdict, path)
        self._memory.record_intent(intent)
        try:
            claims = tools.claims_of(self._hooks, verdict, accepted.context, output, self._settings)
            signed = act.sign(output, verdict, claims, signing)
            release = self._describe(signed, output, intent, prints)
            self._memory.record_release(release, prints)
            act.write_release(signed, path, part=intent.part, overwrite=overwrite)
        except BaseException as error:
            self._withdraw(verdict, intent, error)
            raise
        self._finish(intent)
        tools.call_observers(self._hooks, "output_released", release=release, path=path)

    # --- as it leaves ------------------------------------------------------------------------------------

    def _outgoing(self, accepted: Accepted) -> tuple[OutputPicture, Verdict]:
        """The image as it leaves, and the verdict on just that."""
        verdict, said = accepted.verdict, self._settings.provenance
        pixels = _judged_pixels(accepted)
        marked = self._marked(pixels, accepted)
        content = act.encode_image(pixels if marked is None else marked.pixels, said.mime, said.quality)
        seen = act.decode_image(content, said.mime)
        mark = self._mark_found(seen, marked.watermark, verdict) if marked is not None else None
        if marked is not None and mark is None:  # lost, and the settings let it go without
            content = act.encode_image(pixels, said.mime, said.quality)
            seen = act.decode_image(content, said.mime)
        parent = accepted.parent or _own_file(accepted.picture, pixels)
        output = OutputPicture(content, said.mime, seen, mark, parent, self._guard.limits, accepted.review)
        if accepted.review is None and pixels_digest(_tensor(seen)) == verdict.pixels_sha256:
            return output, verdict
        return output, self._judged_again(output, accepted)

    def _marked(self, pixels: Tensor, accepted: Accepted) -> Marked | None:
        """The image with the mark that the settings name; None where they name none."""
        name, verdict = self._settings.watermark.name, accepted.verdict
        if not name:
            return None
        rows = pixels.permute(1, 2, 0).cpu().contiguous().numpy()
        answer = tools.first_answer(
            self._hooks,
            "watermark_image",
            pixels=rows.copy(),
            verdict=verdict,
            context=accepted.context,
            settings=self._settings,
        )
        if answer is not None and isinstance(answer.error, GuardrailError):
            raise answer.error
        if answer is None or not isinstance(answer.value, Marked):
            raise ReleaseFailed(verdict.image, f"no plugin puts the mark {name!r} into it ({answer})")
        if answer.value.pixels.shape != rows.shape or answer.value.pixels.dtype != rows.dtype:
            found = f"{answer.value.pixels.dtype} {answer.value.pixels.shape}"
            raise ReleaseFailed(verdict.image, f"the mark {name!r} made it {found}, and not {rows.dtype} {rows.shape}")
        return answer.value

    def _mark_found(self, seen: NDArray[np.uint8], put_in: Watermark, verdict: Verdict) -> Watermark | None:
        """The mark, as it is found in what leaves; None where it is lost and the settings let the image go unmarked."""
        for answer in tools.call_guards(self._hooks, "find_watermark", pixels=seen.copy(), settings=self._settings):
            if isinstance(answer.error, GuardrailError):
                raise answer.error
            if answer.error is not None:
                raise ReleaseFailed(verdict.image, f"plugin {answer.plugin!r} failed: {answer.error!r}")
            found = answer.value
            if not isinstance(found, WatermarkFound) or found.algorithm != put_in.algorithm or not found.present:
                continue
            return put_in.model_copy(update={"bits_found": found.bits_found})
        if self._settings.watermark.when_lost == "unmarked":
            log.warning("the mark was not found again in %s, which leaves without", verdict.image)
            return None
        raise ReleaseFailed(verdict.image, "its invisible mark cannot be found again in what would leave")

    def _judged_again(self, output: OutputPicture, accepted: Accepted) -> Verdict:
        """The verdict on the image as it leaves, with what was found while it was made.

        What a person released is always judged again: much may have come into the index since it was flagged.

        Raises:
            ReleaseFailed: it is not accepted; or, where a person released it, it is blocked.
        """
        earlier, reviewed = accepted.verdict, accepted.review is not None
        kept = (MemorisationSign, SignUnavailable, *([InputMatch] if reviewed else []))  # its inputs are gone by then
        found = tuple(one for one in earlier.evidence if isinstance(one, kept))
        facts = RunFacts(accepted.known, {earlier.image: found}, {earlier.image: earlier.verdict_id}, reviewed)
        batch = ImageBatch((_picture_of(output, earlier),))
        (verdict,) = self._guard.judge(batch, accepted.context, facts)
        if not act.may_leave(verdict, accepted.review):
            found_now = f"as it would leave it is judged {verdict.decision.value} ({verdict.rule})"
            before = "a person released it" if reviewed else "it was accepted before it was marked and encoded"
            raise ReleaseFailed(verdict.image, f"{found_now}; {before}")
        return verdict

    # --- the ledger --------------------------------------------------------------------------------------

    def _prints(self, picture: Picture) -> OutputPrints | None:
        if self._prints_of is None or not self._settings.provenance.fingerprints:
            return None
        return self._prints_of(picture)

    def _describe(self, signed: SignedImage, output: OutputPicture, intent: ReleaseIntent, prints: Any) -> Any:
        release = act.describe_release(signed, Path(intent.file))
        facts = {"file": intent.file, "intent_id": intent.intent_id, "pixels_sha256": intent.pixels_sha256}
        kept = {"watermark": output.watermark, "iscc": prints.iscc if prints else ""}
        if output.review is not None:
            kept["decision_id"] = output.review.decision_id
        return release.model_copy(update=facts | kept)

    def _withdraw(self, verdict: Verdict, intent: ReleaseIntent, error: BaseException) -> None:
        """Enter that a release did not happen; where even that fails, the next start finds it unfinished."""
        try:
            self._memory.record_withdrawal(verdict.verdict_id, _reason(error), intent.intent_id)
        except MemoryUnwritable as unwritable:
            log.exception("the withdrawal of %s is not in the ledger yet", verdict.image, exc_info=unwritable)

    def _finish(self, intent: ReleaseIntent) -> None:
        """Note that the file is in place; its row is in the ledger already, and the next start would note it too."""
        try:
            self._memory.record_done(intent.intent_id)
        except MemoryUnwritable as error:
            log.warning("the file is released and recorded, but not noted as finished yet: %s", error)


def _own_file(picture: Picture | None, pixels: Tensor) -> ParentFile | None:
    """The file that was checked, where it has credentials of its own: they are kept, and not overwritten by ours."""
    if picture is None or picture.file_sha256 is None:
        return None
    found = intake.file_behind(picture.name, pixels, manifest_store)
    return found and replace(found, is_output=True)


def _intent(output: OutputPicture, verdict: Verdict, path: Path) -> ReleaseIntent:
    intent_id = uuid4().hex
    return ReleaseIntent(
        intent_id=intent_id,
        verdict_id=verdict.verdict_id,
        file=str(path.absolute()).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"),
        part=f".{intent_id}.part",
        pixels_sha256=pixels_digest(_tensor(output.pixels)),
        at=datetime.now(UTC),
    )


def _reason(error: BaseException) -> str:
    """Why a release did not happen; of what a plugin raised the kind alone, for it may quote a prompt."""
    if isinstance(error, GuardrailError) and error.__cause__ is None:
        return str(error)
    return " from ".join(type(one).__name__ for one in (error, error.__cause__) if one is not None)


def _picture_of(output: OutputPicture, verdict: Verdict) -> Picture:
    return Picture(verdict.image, pixels=_tensor(output.pixels), stands_for=verdict.frames)


def _tensor(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).contiguous()


def _judged_pixels(accepted: Accepted) -> Tensor:
    """Our own copy of the pixels of an image that may leave, which are the very ones that were judged.

    Raises:
        ReleaseFailed: they were changed since, or it may not leave.
    """
    picture, verdict = accepted.picture, accepted.verdict
    if not act.may_leave(verdict, accepted.review):
        raise ReleaseFailed(verdict.image, f"its verdict is {verdict.decision.value!r}, and only accepted images leave")
    if picture is None or picture.pixels is None:
        raise ReleaseFailed(verdict.image, "its pixels are not at hand")
    pixels = picture.pixels.clone()
    digest = pixels_digest(pixels)
    if digest != verdict.pixels_sha256:
        raise ReleaseFailed(
            verdict.image, f"its pixels are {digest[:12]}, judged were {str(verdict.pixels_sha256)[:12]}"
        )
    return pixels
