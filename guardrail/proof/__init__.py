"""An image and a work's preview in, how the one lies upon the other out; the only room that imports cv2."""

from guardrail.proof.features import Features, features_of
from guardrail.proof.geometry import Alignment, align
from guardrail.proof.laying import detail_apart, lay_whole
from guardrail.proof.tiles import compare_aligned, compare_viewed, tile_distances

__all__ = [
    "Alignment",
    "Features",
    "align",
    "compare_aligned",
    "compare_viewed",
    "detail_apart",
    "features_of",
    "lay_whole",
    "tile_distances",
]
