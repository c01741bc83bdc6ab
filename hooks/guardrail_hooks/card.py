"""Draws the card that is shown in place of a withheld image."""

from PIL import Image

from guardrail.act import draw_card
from guardrail.hookspecs import hookimpl
from guardrail.records import Verdict


@hookimpl
def replace_image(size_px: tuple[int, int], verdict: Verdict) -> Image.Image:
    """A notice with what happened and by which rule; a plain pattern where it is too small for words."""
    return draw_card(size_px, verdict)
