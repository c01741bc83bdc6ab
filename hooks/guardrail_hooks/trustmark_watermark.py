"""Puts the watermark TrustMark into accepted images and finds it again, where the settings name `trustmark`."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from guardrail.carriers import Marked
from guardrail.hookspecs import hookimpl
from guardrail.records import Verdict, Watermark, WatermarkFound
from guardrail.settings import Settings

_NAME = "trustmark"


@hookimpl
def watermark_image(pixels: NDArray[np.uint8], verdict: Verdict, settings: Settings) -> Marked | None:
    """Put in the mark of this installation (32 bits) and a digest of the verdict's id (29 bits).

    Raises:
        ExtraMissing, WeightsUnusable: the networks cannot be run.
        SettingsInvalid: the mark is not eight hex digits.
    """
    if settings.watermark.name != _NAME:
        return None
    from guardrail.act.marks import MARK_BITS, own_mark
    from guardrail.act.trustmark import (  # torch, the package
        TRUSTMARK_BITS,
        TRUSTMARK_REGISTERED,
        open_trustmark,
        soft_binding_of,
    )

    networks = open_trustmark(settings.watermark.weights, settings.watermark.weights_sha256)
    left = TRUSTMARK_BITS - MARK_BITS
    image = int.from_bytes(hashlib.sha256(verdict.verdict_id.encode()).digest()) >> (256 - left)
    payload = f"{int(own_mark(settings, make=True), 16) << left | image:016x}"
    marked = networks.mark(pixels, payload)
    said = Watermark(
        algorithm=networks.algorithm,
        payload=payload,
        bits=TRUSTMARK_BITS,
        bits_found=TRUSTMARK_BITS if networks.read(marked) == payload else 0,
        registered=networks.algorithm in TRUSTMARK_REGISTERED,
        binding=soft_binding_of(payload),
    )
    return Marked(marked, said)


@hookimpl
def find_watermark(pixels: NDArray[np.uint8], settings: Settings) -> WatermarkFound | None:
    """Read a payload, and compare its first 32 bits with the mark of this installation.

    The code corrects up to five wrong bits or finds no payload at all, so that all 61 bits are found, or none.

    Raises:
        ExtraMissing, WeightsUnusable: the networks cannot be run.
        SettingsInvalid: there is no mark to look for.
    """
    if settings.watermark.name != _NAME:
        return None
    from guardrail.act.marks import MARK_BITS, own_mark
    from guardrail.act.trustmark import TRUSTMARK_BITS, open_trustmark

    mark = own_mark(settings)
    networks = open_trustmark(settings.watermark.weights, settings.watermark.weights_sha256)
    payload = networks.read(pixels)
    present = bool(payload) and int(payload, 16) >> (TRUSTMARK_BITS - MARK_BITS) == int(mark, 16)
    return WatermarkFound(
        algorithm=networks.algorithm,
        present=present,
        payload=payload,
        bits=TRUSTMARK_BITS,
        bits_found=TRUSTMARK_BITS if present else 0,
    )
