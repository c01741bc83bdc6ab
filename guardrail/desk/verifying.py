"""All that `guardrail verify` says of a file, by layers: credential, time stamp, watermark, ledger, fingerprint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from guardrail.act import Caps, FilesApart, FileSeen
from guardrail.act.certificates import parse_pem
from guardrail.act.picture_file import pixels_sha256
from guardrail.errors import GuardrailError, ImageUnreadable, KeysUnusable, LedgerBroken, MemoryUnwritable
from guardrail.records import LayerFinding, VerifyLayer, VerifyOutcome, VerifyReport, WatermarkFound

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from guardrail.memory import Memory
    from guardrail.recognising import Recognised, Recognising
    from guardrail.records import Release
    from guardrail.settings import Settings

__all__ = ["Verified", "Verifying"]

_OURS = frozenset({VerifyOutcome.OURS, VerifyOutcome.EXPIRED})
_NO_PIXELS = "its picture cannot be decoded"


@dataclass(frozen=True, slots=True)
class Verified:
    """One file: what is said of it, and what it shows.

    Attributes:
        path: the file.
        report: None where it could not be read.
        unreadable: why it could not.
        pixels: uint8 (H, W, 3), RGB; None where they could not be decoded.
    """

    path: Path
    report: VerifyReport | None
    unreadable: str = ""
    pixels: NDArray[np.uint8] | None = None


class Verifying:
    """Verifies files one after another, each parsed in a process of its own; use it as a context manager.

    Args:
        settings: where the ledger is, which watermark to look for, which time stamp servers to believe.
        anchors: our root certificates, PEM.
        with_ledger: whether to look into the ledger, where there is one.
    """

    def __init__(self, settings: Settings, anchors: Sequence[bytes], *, with_ledger: bool = True) -> None:
        self._settings, self._with_ledger = settings, with_ledger
        self._files = FilesApart(anchors, _time_stamp_anchors(settings), Caps(largest_px=settings.largest_image_px))
        self._no_memory = ""
        self._memory: Memory | None = None
        if with_ledger:
            self._open_memory()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()
        if self._memory is not None:
            self._memory.close()

    def look(self, path: Path) -> Verified:
        """All layers of one file.

        Raises:
            KeysUnusable: an anchor is not a certificate.
        """
        try:
            seen = self._files.read(path, with_pixels=True)
        except ImageUnreadable as error:
            return Verified(path, None, str(error))
        report = seen.report
        release = self._release_of(report)
        ledger = self._ledger_layer(seen, release)
        if release is not None and ledger.finding == "fails" and report.outcome in _OURS:
            report = _contradicted(report, ledger)
        fingerprint, explanation = self._fingerprint_layer(report, seen.pixels)
        layers = (*report.layers, self._watermark_layer(seen.pixels, release), ledger, fingerprint)
        told = {"layers": layers, "explanation": f"{report.explanation}{explanation}"}
        return Verified(path, report.model_copy(update=told), "", seen.pixels)

    # --- the ledger --------------------------------------------------------------------------------------

    def _open_memory(self) -> None:
        from guardrail.memory import Memory  # SQLAlchemy: nothing that `--no-ledger` has to pay for

        try:
            self._memory = Memory(self._settings.memory_url, must_exist=True)
        except (MemoryUnwritable, LedgerBroken) as error:
            self._no_memory = str(error)

    def _release_of(self, report: VerifyReport) -> Release | None:
        if self._memory is None or report.manifest_id is None:
            return None
        found = self._memory.releases_by_manifest(report.manifest_id)
        return found[0] if found else None

    def _ledger_layer(self, seen: FileSeen, release: Release | None) -> VerifyLayer:
        if self._memory is None:
            finding: LayerFinding = "unavailable" if self._with_ledger else "not_asked"
            return _layer("ledger", finding, self._no_memory or "left out by --no-ledger")
        manifest_id = seen.report.manifest_id
        if manifest_id is None:
            return _layer("ledger", "not_asked", "there is no manifest to look up")
        if release is None:
            fate = self._memory.fate_of(manifest_id)
            finding, told = _FATES[fate]
            if fate == "unknown" and seen.report.outcome in _OURS:
                told = "ours by signature, but this ledger knows of no such release"
            return _layer("ledger", finding, told)
        return self._released_layer(seen, release)

    def _released_layer(self, seen: FileSeen, release: Release) -> VerifyLayer:
        facts = _facts_of(release)
        shown = None if seen.pixels is None else pixels_sha256(seen.pixels)
        pairs = (("binding", release.binding_sha256, seen.binding_sha256), ("pixels", release.pixels_sha256, shown))
        for what, recorded, found in pairs:
            if recorded is not None and recorded != found:
                facts |= {f"{what} recorded": recorded, f"{what} found": found or "none that can be read"}
                told = f"its manifest was released by us on {_day(release)}, but in a file of other {what}"
                return _layer("ledger", "fails", told, facts)
        told = "with these very pixels" if release.pixels_sha256 is not None else "whose pixels were not recorded"
        return _layer("ledger", "holds", f"released by us on {_day(release)}, {told}", facts)

    # --- the watermark -----------------------------------------------------------------------------------

    @cached_property
    def _hooks(self) -> Any:
        from guardrail.plugins import build_plugins  # loads every plugin, torch among them

        return build_plugins()

    def _watermark_layer(self, pixels: NDArray[np.uint8] | None, release: Release | None) -> VerifyLayer:
        expected = release.watermark if release is not None else None
        if not self._settings.watermark.name:
            told = "the settings name no mark to look for"
            told += f"; it was released with one of {expected.algorithm!r}" if expected is not None else ""
            return _layer("watermark", "not_asked", told)
        if pixels is None:
            return _layer("watermark", "unavailable", _NO_PIXELS)
        from guardrail.plugins import call_guards

        answers = list(call_guards(self._hooks, "find_watermark", pixels=pixels.copy(), settings=self._settings))
        found = [answer.value for answer in answers if isinstance(answer.value, WatermarkFound)]
        for mark in found:
            if mark.present:
                facts = {"algorithm": mark.algorithm, "payload": mark.payload}
                told = f"our mark is in its pixels: {mark.bits_found} of {mark.bits} bits agree"
                return _layer("watermark", "holds", told, facts)
        failed = [answer for answer in answers if answer.error is not None]
        if failed:
            error = failed[0].error
            reason = str(error) if isinstance(error, GuardrailError) else type(error).__name__
            return _layer("watermark", "unavailable", f"plugin {failed[0].plugin!r} could not look for it: {reason}")
        if not found:
            return _layer("watermark", "unavailable", f"no plugin looks for {self._settings.watermark.name!r}")
        best = max(found, key=lambda mark: mark.bits_found)
        facts = {"algorithm": best.algorithm, "bits that agree": f"{best.bits_found} of {best.bits}"}
        if expected is not None:
            return _layer("watermark", "fails", "it was released with our mark, which is not in its pixels", facts)
        return _layer("watermark", "absent", "our mark is not in its pixels", facts)

    # --- fingerprints ------------------------------------------------------------------------------------

    @cached_property
    def _recognising(self) -> Recognising | None:
        """None where the ledger keeps no prints."""
        from guardrail.plugins import make_embedder
        from guardrail.recognising import Recognising

        assert self._memory is not None, "only asked where there is one"
        first = next(iter(self._memory.released_prints()), None)
        if first is None:
            return None
        name = first[1].embedder.rpartition("@")[0]
        copy = make_embedder(self._hooks, name, self._settings.device, self._settings.weights_dir)
        return Recognising(self._memory, copy, device=self._settings.device)

    def _fingerprint_layer(self, report: VerifyReport, pixels: NDArray[np.uint8] | None) -> tuple[VerifyLayer, str]:
        """The layer, and what it adds to the explanation of the whole."""
        if report.outcome in _OURS:
            return _layer("fingerprint", "not_asked", "it carries our own credential"), ""
        if pixels is None:
            return _layer("fingerprint", "unavailable", _NO_PIXELS), ""
        if self._memory is None:
            told = "without a ledger there are no fingerprints to compare with"
            return _layer("fingerprint", "unavailable" if self._with_ledger else "not_asked", told), ""
        try:
            recognising = self._recognising
            if recognising is None:
                return _layer("fingerprint", "unavailable", "this ledger keeps no fingerprints"), ""
            found = recognising.find(_picture(report.path, pixels))
        except GuardrailError as error:
            return _layer("fingerprint", "unavailable", f"it could not be compared: {error}"), ""
        if found is None:
            return _layer("fingerprint", "absent", "it looks like none of our outputs"), ""
        return _looks_like(found, removed=report.manifest_id is None)


_FATES: dict[str, tuple[LayerFinding, str]] = {
    "withdrawn": ("fails", "the ledger says that this release was withdrawn"),
    "erased": ("unavailable", "its release was erased from the ledger"),
    "released": ("unavailable", "its release was entered while it was looked up; ask again"),
    "unknown": ("absent", "this ledger knows of no release with this manifest"),
}


def _contradicted(report: VerifyReport, ledger: VerifyLayer) -> VerifyReport:
    """The report on a file of ours that holds by itself, but is not the one that the ledger says was released."""
    told = f"signed by {report.signer!r} under our anchor, but {ledger.explanation}"
    return report.model_copy(
        update={"outcome": VerifyOutcome.TAMPERED, "explanation": told, "decision": None, "claims": {}}
    )


def _looks_like(found: Recognised, *, removed: bool) -> tuple[VerifyLayer, str]:
    release = found.release
    what = "credentials removed" if removed else "with credentials that are not as we gave them"
    told = f"looks like our output of {_day(release)} (manifest {release.manifest_id}), {what}"
    facts = {
        **_facts_of(release),
        "distance": f"{found.distance_bits} bits of 256, by PDQ",
        "similarity": "not compared" if found.similarity is None else f"{found.similarity:.3f}",
        "farthest tile": f"{found.tile_l2:.3f} of 1",
        "laid by": found.laid_by,
    }
    return _layer("fingerprint", "holds", told, facts), f"; it {told}"


def _facts_of(release: Release) -> dict[str, str]:
    return {
        "manifest": release.manifest_id,
        "released at": f"{release.at:%Y-%m-%d %H:%M:%S} UTC",
        "released as": release.file,
        "verdict": release.verdict_id,
    }


def _day(release: Release) -> str:
    return f"{release.at:%Y-%m-%d}"


def _layer(layer: Any, finding: LayerFinding, explanation: str, facts: dict[str, str] | None = None) -> VerifyLayer:
    return VerifyLayer(layer=layer, finding=finding, explanation=explanation, facts=facts or {})


def _picture(name: str, pixels: NDArray[np.uint8]) -> Any:
    import torch

    from guardrail.carriers import Picture

    return Picture(name, pixels=torch.from_numpy(pixels.copy()).permute(2, 0, 1).contiguous())


def _time_stamp_anchors(settings: Settings) -> tuple[bytes, ...]:
    """The root certificates of time stamp servers, PEM, whether a server is named or not.

    Raises:
        KeysUnusable: the file cannot be read, or holds none.
    """
    path = settings.provenance.time_stamp_anchors
    if path is None:
        return ()
    try:
        content = path.read_bytes()
        parse_pem(content)
    except (OSError, ValueError) as error:
        raise KeysUnusable(str(path), f"no certificates ({error})", "PEM root certificates") from error
    return (content,)
