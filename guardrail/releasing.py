"""Sign what was accepted: encoded once, signed, read back, in the ledger, on the disk; a failure leaves no file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardrail import act
from guardrail import plugins as tools
from guardrail.errors import GuardrailError, ReleaseFailed
from guardrail.fingerprint import pixels_digest

if TYPE_CHECKING:
    from torch import Tensor

    from guardrail.carriers import Picture
    from guardrail.memory import Memory
    from guardrail.records import GenerationContext, Verdict
    from guardrail.settings import Settings

__all__ = ["Releasing"]


class Releasing:
    """What releases accepted images of one guard.

    Args:
        hooks: the plugins, one of which provides the signer.
        settings: name the keys.
        memory: the ledger that every release is entered in.
    """

    def __init__(self, hooks: Any, settings: Settings, memory: Memory) -> None:
        self._hooks, self._settings, self._memory = hooks, settings, memory

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
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ReleaseFailed("all", f"the folder {str(folder)!r} cannot be made: {error}") from error
        return answer.value

    def release(
        self,
        picture: Picture | None,
        verdict: Verdict,
        context: GenerationContext | None,
        path: Path,
        signing: act.Signing,
        *,
        overwrite: bool,
    ) -> None:
        """Release the very pixels that were judged.

        Raises:
            ReleaseFailed: they were changed since, or could not be signed, read back or written.
            MemoryUnwritable: the ledger could not be written.
        """
        pixels = _judged_pixels(picture, verdict)
        claims = tools.claims_of(self._hooks, verdict, context)
        signed = act.sign(act.encode_png(pixels), verdict, claims, signing)
        release = act.describe_release(signed, path)
        self._memory.record_release(release)
        try:
            act.write_release(signed, path, overwrite=overwrite)
        except BaseException as error:
            self._memory.record_withdrawal(verdict.verdict_id, str(error))
            raise
        tools.call_observers(self._hooks, "output_released", release=release, path=path)


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
