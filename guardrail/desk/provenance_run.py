"""Pictures in, what their credentials cost and hold out: the measuring behind `guardrail bench provenance`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from guardrail import __version__
from guardrail.act import ACTIONS_LABEL, decode_image, encode_image, sdk, sign, verify_file
from guardrail.act.assertions import actions_assertion
from guardrail.act.rubric import conformance_of
from guardrail.carriers import OutputPicture
from guardrail.desk.provenance_tampering import Tampering
from guardrail.memory import Held, Memory
from guardrail.plugins import claims_of
from guardrail.records import (
    Adapter,
    Credit,
    Decision,
    GenerationContext,
    ImageMime,
    Neighbour,
    Signal,
    Verdict,
    VerifyOutcome,
    Work,
)

if TYPE_CHECKING:
    import pluggy
    from numpy.typing import NDArray

    from guardrail.act import Signing
    from guardrail.carriers import SignedImage
    from guardrail.settings import Settings

__all__ = ["MIMES", "Attack", "LedgerFigures", "Signer", "Spent", "TypeFigures", "ledger_figures", "tampering_figures"]

MIMES: tuple[ImageMime, ...] = ("image/png", "image/jpeg", "image/webp")
_PERCENTILE = 0.95
_NEAREST = 5  # works that a verdict tells at most
_SNAPSHOT = "0" * 64  # of an index and a policy that are not there
_SMALL_PX = 64  # side of the pictures of which every byte is changed
_FLIPS_OF_LARGE = 1500  # bytes of a whole picture that are changed, spread evenly
_FORGED = "signed by somebody with our names"  # a way of changing a file
_ROWS_AT_ONCE = 1000  # of a ledger, in one transaction


class Spent(NamedTuple):
    """CPU time of a step, in milliseconds: the median, and what 95 of 100 stay within."""

    median_ms: float
    high_ms: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spent:
        """Of at least one value; each is one that was measured."""
        ordered = sorted(values)
        return cls(*(ordered[math.ceil(share * len(ordered)) - 1] for share in (0.5, _PERCENTILE)))


@dataclass
class TypeFigures:
    """What was found of one type of file.

    Attributes:
        mime: the type.
        images: how many were signed.
        ours: how many of them `verify` reported as ours.
        conforming: how many passed every check of the rubric.
        checks: how many checks the rubric has.
        wrong: checks that did not hold, by their name, with how often.
        stamped: whether a time stamp is in them.
        sign_ms: CPU time to sign and read back, each image.
        encode_ms: CPU time to encode, and to decode what was encoded.
        added: bytes that signing adds, each image.
    """

    mime: ImageMime
    stamped: bool = False
    images: int = 0
    ours: int = 0
    conforming: int = 0
    checks: int = 0
    wrong: dict[str, int] = field(default_factory=dict)
    sign_ms: list[float] = field(default_factory=list)
    encode_ms: list[float] = field(default_factory=list)
    added: list[int] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """For JSON."""
        both = [one + other for one, other in zip(self.sign_ms, self.encode_ms, strict=True)]
        return {
            "mime": self.mime,
            "time_stamp": self.stamped,
            "images": self.images,
            "ours": self.ours,
            "rubric": {"checks": self.checks, "images_that_pass_all": self.conforming, "wrong": self.wrong},
            "sign_and_read_back_cpu_ms": Spent.of(self.sign_ms)._asdict(),
            "with_encoding_cpu_ms": Spent.of(both)._asdict(),
            "added_bytes": {"median": sorted(self.added)[len(self.added) // 2], "most": max(self.added)},
        }


class LedgerFigures(NamedTuple):
    """How long a ledger takes to verify: rows, CPU and wall seconds, and seconds to write its rows."""

    rows: int
    verify_cpu_s: float
    verify_s: float
    write_s: float


class Signer:
    """Signs pictures as a guard does, with claims of all installed plugins, and looks at what came out.

    Args:
        plugins: what says something in a manifest.
        settings: how images leave.
        signing: the credential.
        scratch: folder for one file at a time.
    """

    def __init__(self, plugins: pluggy.PluginManager, settings: Settings, signing: Signing, scratch: Path) -> None:
        self._plugins, self._settings, self.signing = plugins, settings, signing
        self._file = scratch / "signed"
        self._context = _context()

    def measure(self, pixels: NDArray[np.uint8], figures: TypeFigures) -> SignedImage:
        """Encode, sign, read back, verify, and put what was found into the figures.

        Args:
            pixels: uint8 (H, W, 3), RGB.
            figures: of the type to encode as; added to.

        Raises:
            ReleaseFailed: it could not be signed.
        """
        started = time.process_time()
        output = self._output(pixels, figures.mime)
        encoded = time.process_time()
        verdict = _verdict()
        claims = self._claims(output, verdict)
        begun = time.process_time()
        signed = sign(output, verdict, claims, self.signing)
        done = time.process_time()
        figures.images += 1
        figures.encode_ms.append((encoded - started) * 1000)
        figures.sign_ms.append((done - begun) * 1000)
        figures.added.append(len(signed.content) - len(output.content))
        self._look(signed, figures)
        return signed

    def signed(self, pixels: NDArray[np.uint8], mime: ImageMime) -> SignedImage:
        """A picture, signed.

        Raises:
            ReleaseFailed: it could not be.
        """
        output, verdict = self._output(pixels, mime), _verdict()
        return sign(output, verdict, self._claims(output, verdict), self.signing)

    def forged(self, pixels: NDArray[np.uint8], mime: ImageMime, forger: Signing) -> bytes:
        """A picture that somebody else signed, who says all that we would say.

        Raises:
            c2pa.C2paError: c2pa does not take that credential.
        """
        output, verdict = self._output(pixels, mime), _verdict()
        said = {ACTIONS_LABEL: actions_assertion(output), **self._claims(output, verdict)}
        assertions = [{"label": label, "data": content, "created": True} for label, content in said.items()]
        generator = {"name": "guardrail", "version": __version__, "specVersion": "2.4.0"}
        manifest = {"claim_generator_info": [generator], "assertions": assertions}
        return sdk.embed(output.content, mime, manifest, forger)

    def _claims(self, output: OutputPicture, verdict: Verdict) -> dict[str, Any]:
        """What the plugins say."""
        return claims_of(self._plugins, verdict, self._context, output, self._settings)

    def _output(self, pixels: NDArray[np.uint8], mime: ImageMime) -> OutputPicture:
        content = encode_image(pixels, mime, self._settings.provenance.quality)
        return OutputPicture(content, mime, decode_image(content, mime))

    def _look(self, signed: SignedImage, figures: TypeFigures) -> None:
        self._file.write_bytes(signed.content)
        stamps = self.signing.time_stamp.anchors if self.signing.time_stamp else ()
        report = verify_file(self._file, self.signing.anchors, stamps)
        figures.ours += report.outcome is VerifyOutcome.OURS
        checks = conformance_of(signed.content, signed.mime, self.signing.anchors)
        figures.checks = len(checks)
        figures.conforming += all(check.holds for check in checks)
        for check in checks:
            if not check.holds:
                figures.wrong[check.check] = figures.wrong.get(check.check, 0) + 1


class Attack(NamedTuple):
    """Who signs, who forges with the same names, and which bytes are changed: every so manieth."""

    signer: Signer
    forger: Signing
    every: int = 1


def tampering_figures(
    attack: Attack,
    pictures: Sequence[NDArray[np.uint8]],
    scratch: Path,
    progress: Callable[[int, int], None],
) -> Tampering:
    """Sign the first picture as each type, change it in every way, and ask `verify` what it is.

    Args:
        attack: who does it, and how thoroughly.
        pictures: uint8 (H, W, 3), RGB, at least one; the last one's negative gets the manifest of the first. Of the
            first scaled to 64 pixels a side every byte is changed, of the picture as it is 1,500.
        scratch: folder for one file at a time.
        progress: called with how many changes were looked at, and of how many.
    """
    signer, forger, every = attack
    first = pictures[0]
    small = np.asarray(Image.fromarray(first).resize((_SMALL_PX, _SMALL_PX), Image.Resampling.LANCZOS))
    beside_ours = replace(forger, chain=forger.chain + signer.signing.anchors[0])
    files = [tuple(signer.signed(one, mime) for one in (small, first, 255 - pictures[-1])) for mime in MIMES]
    total = sum(len(of_small.content) + _FLIPS_OF_LARGE for of_small, _, _ in files) // every
    tampering = Tampering(signer.signing, scratch, lambda done: progress(min(done, total), total))
    for of_small, signed, other in files:
        tampering.flip(of_small, every)
        tampering.flip(signed, max(len(signed.content) // _FLIPS_OF_LARGE, 1) * every)
        tampering.edit_verdict(signed)
        tampering.append(signed)
        tampering.transplant(signed, other)
        for said, credential in (("under their root", forger), ("with our root in their chain", beside_ours)):
            content = signer.forged(first, signed.mime, credential)
            tampering.look(_FORGED, f"{signed.mime}, {said}", content)
        tampering.save_again(signed)
    return tampering


def ledger_figures(folder: Path, rows: int, progress: Callable[[int, int], None]) -> LedgerFigures:
    """Write a ledger of so many verdicts, and verify it.

    Args:
        folder: where to; it must exist.
        rows: how many.
        progress: called with how many are written, and of how many.

    Raises:
        LedgerBroken: what was written does not hold.
    """
    with closing(Memory(f"sqlite:///{folder / 'ledger.db'}")) as memory:
        begun = time.perf_counter()
        for start in range(0, rows, _ROWS_AT_ONCE):
            memory.record_verdicts([Held(_verdict()) for _ in range(min(_ROWS_AT_ONCE, rows - start))], None)
            progress(min(start + _ROWS_AT_ONCE, rows), rows)
        written, cpu = time.perf_counter(), time.process_time()
        found = memory.verify()
        return LedgerFigures(found.rows, time.process_time() - cpu, time.perf_counter() - written, written - begun)


# --- what is said -----------------------------------------------------------------------------------------------


def _verdict() -> Verdict:
    """A verdict of full length: five works near it, and one to credit."""
    return Verdict(
        image="images[0]",
        pixels_sha256=_SNAPSHOT,
        at=datetime.now(UTC),
        decision=Decision.ACCEPT,
        rule="default",
        explanation="nothing protected is near",
        evidence=(),
        nearest=tuple(
            Neighbour(work=_work(number), row=number, signal=Signal.COPY, similarity=0.3 - number / 31)
            for number in range(_NEAREST)
        ),
        credits=(Credit(**_work(_NEAREST).model_dump(include=set(Credit.model_fields))),),
        index_snapshot=_SNAPSHOT,
        policy_sha256=_SNAPSHOT,
        calibration="uncalibrated",
    )


def _work(number: int) -> Work:
    return Work(
        work_id=f"bench-{number}",
        bank="bench",
        title=f"Work number {number}",
        creator=f"Creator {number}",
        rights_holder=f"Holder {number}",
        licence="CC-BY-4.0",
    )


def _context() -> GenerationContext:
    """A run with an adapter, as a pipeline from a hub would give it."""
    return GenerationContext(
        pipeline="StableDiffusionPipeline",
        model_id="organisation/model",
        model_revision="0" * 40,
        weights_sha256=_SNAPSHOT,
        scheduler="DDIMScheduler",
        adapters=(Adapter(name="style", weight=0.8, sha256=_SNAPSHOT),),
        prompts={"prompt": "a red fox"},
        guidance_scale=7.5,
        steps=40,
        seed=1,
    )
