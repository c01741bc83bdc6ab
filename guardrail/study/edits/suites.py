"""All edits by name, and the named suites of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from guardrail.study.edits.base import Edit
from guardrail.study.edits.collage import COLLAGE
from guardrail.study.edits.geometric import GEOMETRIC
from guardrail.study.edits.overlays import OVERLAYS
from guardrail.study.edits.photometric import PHOTOMETRIC
from guardrail.study.edits.reencoding import REENCODING
from guardrail.study.edits.style import STYLE
from guardrail.study.edits.thorn import THORN, THORN_SIDE_PX

__all__ = ["EDITS", "SUITES", "Suite"]

_EVERY = (*PHOTOMETRIC, *GEOMETRIC, *OVERLAYS, *COLLAGE, *REENCODING, *STYLE, *THORN)

EDITS: Mapping[str, Edit] = MappingProxyType({edit.name: edit for edit in _EVERY})
"""Every edit by name, family by family."""


@dataclass(frozen=True, slots=True)
class Suite:
    """Edits that are measured together.

    Attributes:
        edits: their names.
        intensity: 0..100, where no other is asked for.
        side_px: the longer side that works and copies are brought down to first.
    """

    edits: tuple[str, ...]
    intensity: float = 50.0
    side_px: int = 512


_DEFAULT = (
    "brightness",
    "hue",
    "greyscale",
    "posterise",
    "noise",
    "blur",
    "crop",
    "quarter_crop",
    "rotate",
    "quarter_turn",
    "mirror",
    "pad",
    "caption",
    "logo",
    "collage",
    "jpeg",
    "latent",
    "paint",
)

SUITES: Mapping[str, Suite] = MappingProxyType(
    {
        "default": Suite(_DEFAULT),
        "all": Suite(tuple(edit.name for edit in _EVERY if edit.family != "thorn")),
        "thorn": Suite(tuple(edit.name for edit in THORN), intensity=100.0, side_px=THORN_SIDE_PX),
    }
)
"""Suites by name: `default` has some of each kind, `all` has all but Thorn's, `thorn` has Thorn's eleven."""
