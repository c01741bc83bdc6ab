"""A verdict in, the caller's output out: signed and written, or replaced by a card. The only room that imports c2pa."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from guardrail.act.card import draw_card
    from guardrail.act.encode import encode_png
    from guardrail.act.keys import Signing, load_anchors, load_signing, make_development_keys
    from guardrail.act.provenance import VERDICT_LABEL, sign, verdict_assertion
    from guardrail.act.release import describe_release, write_release
    from guardrail.act.verify import verify_file

__all__ = [
    "VERDICT_LABEL",
    "Signing",
    "describe_release",
    "draw_card",
    "encode_png",
    "load_anchors",
    "load_signing",
    "make_development_keys",
    "sign",
    "verdict_assertion",
    "verify_file",
    "write_release",
]

_HOMES = {
    "card": ("draw_card",),
    "encode": ("encode_png",),
    "keys": ("Signing", "load_anchors", "load_signing", "make_development_keys"),
    "provenance": ("VERDICT_LABEL", "sign", "verdict_assertion"),
    "release": ("describe_release", "write_release"),
    "verify": ("verify_file",),
}
_HOME_OF = {name: f"guardrail.act.{home}" for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Load a public name when it is first used: drawing a card or encoding a picture does not load c2pa."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'guardrail.act' has no attribute {name!r}; see guardrail.act.__all__")
    found: object = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
