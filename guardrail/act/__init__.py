"""A verdict in, the caller's output out: signed and written, or replaced by a card. The only room that imports c2pa."""

from typing import TYPE_CHECKING

from guardrail.lazy import lazy_names

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

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "guardrail.act.card": ("draw_card",),
        "guardrail.act.encode": ("encode_png",),
        "guardrail.act.keys": ("Signing", "load_anchors", "load_signing", "make_development_keys"),
        "guardrail.act.provenance": ("VERDICT_LABEL", "sign", "verdict_assertion"),
        "guardrail.act.release": ("describe_release", "write_release"),
        "guardrail.act.verify": ("verify_file",),
    },
)
