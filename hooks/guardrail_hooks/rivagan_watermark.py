"""Puts the watermark RivaGAN into accepted images and finds it again, where the settings name `rivagan`."""

import numpy as np
from numpy.typing import NDArray

from guardrail.carriers import Marked
from guardrail.hookspecs import hookimpl
from guardrail.records import Watermark, WatermarkFound
from guardrail.settings import Settings

_NAME = "rivagan"


@hookimpl
def watermark_image(pixels: NDArray[np.uint8], settings: Settings) -> Marked | None:
    """Put in the mark of this installation (`guardrail.act.marks`), made when there is none.

    Raises:
        ExtraMissing, WeightsUnusable: the networks cannot be run.
        SettingsInvalid: the mark is not eight hex digits.
    """
    if settings.watermark.name != _NAME:
        return None
    from guardrail.act.marks import MARK_BITS, bits_of, own_mark
    from guardrail.act.rivagan import RIVAGAN_ALGORITHM, open_rivagan  # onnxruntime is loaded where it is used

    networks = open_rivagan(settings.watermark.weights)
    payload = own_mark(settings, make=True)
    bits = bits_of(payload, MARK_BITS)
    marked = networks.mark(pixels, bits)
    agreeing = int((networks.read(marked) == bits).sum())
    said = Watermark(algorithm=RIVAGAN_ALGORITHM, payload=payload, bits=MARK_BITS, bits_found=agreeing)
    return Marked(marked, said)


@hookimpl
def find_watermark(pixels: NDArray[np.uint8], settings: Settings) -> WatermarkFound | None:
    """Read 32 bits and compare them with the mark of this installation: present where 27 agree.

    Raises:
        ExtraMissing, WeightsUnusable: the networks cannot be run.
        SettingsInvalid: there is no mark to look for.
    """
    if settings.watermark.name != _NAME:
        return None
    from guardrail.act.marks import MARK_BITS, bits_of, hex_of, own_mark
    from guardrail.act.rivagan import RIVAGAN_ALGORITHM, RIVAGAN_PRESENT_BITS, open_rivagan

    wanted = bits_of(own_mark(settings), MARK_BITS)
    found = open_rivagan(settings.watermark.weights).read(pixels)
    agreeing = int((found == wanted).sum())
    return WatermarkFound(
        algorithm=RIVAGAN_ALGORITHM,
        present=agreeing >= RIVAGAN_PRESENT_BITS,
        payload=hex_of(found),
        bits=MARK_BITS,
        bits_found=agreeing,
    )
