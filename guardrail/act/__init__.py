"""A verdict in, the caller's output out: signed and written, or replaced by a card. The only room that imports c2pa."""

from typing import TYPE_CHECKING

from guardrail.lazy import lazy_names

if TYPE_CHECKING:
    from guardrail.act.apart import Caps, FilesApart
    from guardrail.act.assertions import (
        ACTIONS_LABEL,
        ATTRIBUTION_LABEL,
        DISCLOSURE_LABEL,
        MINING_LABEL,
        SOFT_BINDING_LABEL,
        STATEMENTS,
        VERDICT_LABEL,
        assertion_schema,
        attribution_assertion,
        disclosure_assertion,
        iscc_assertion,
        mining_assertion,
        verdict_assertion,
    )
    from guardrail.act.card import draw_card
    from guardrail.act.certificates import anchor_of
    from guardrail.act.encode import decode_image, encode_image, encode_png
    from guardrail.act.generation import GENERATION_LABEL, GenerationStatement, generation_assertion
    from guardrail.act.iscc import picture_iscc
    from guardrail.act.issuing import certify_key, make_development_keys, rotate_keys
    from guardrail.act.key_report import describe_keys
    from guardrail.act.keys import Signing, TimeStamping, load_anchors, load_signing, time_stamping
    from guardrail.act.naming import hub_name, plain_name
    from guardrail.act.prompt_proof import PromptProof, prove_prompt
    from guardrail.act.prompts import fields_saying, load_prompt_key, prompt_digest
    from guardrail.act.provenance import may_leave, sign
    from guardrail.act.release import describe_release, write_release
    from guardrail.act.rubric import RubricCheck, conformance_of
    from guardrail.act.signers import raw_signature
    from guardrail.act.verify import FileSeen, verify_file

__all__ = [
    "ACTIONS_LABEL",
    "ATTRIBUTION_LABEL",
    "DISCLOSURE_LABEL",
    "GENERATION_LABEL",
    "MINING_LABEL",
    "SOFT_BINDING_LABEL",
    "STATEMENTS",
    "VERDICT_LABEL",
    "Caps",
    "FileSeen",
    "FilesApart",
    "GenerationStatement",
    "PromptProof",
    "RubricCheck",
    "Signing",
    "TimeStamping",
    "anchor_of",
    "assertion_schema",
    "attribution_assertion",
    "certify_key",
    "conformance_of",
    "decode_image",
    "describe_keys",
    "describe_release",
    "disclosure_assertion",
    "draw_card",
    "encode_image",
    "encode_png",
    "fields_saying",
    "generation_assertion",
    "hub_name",
    "iscc_assertion",
    "load_anchors",
    "load_prompt_key",
    "load_signing",
    "make_development_keys",
    "may_leave",
    "mining_assertion",
    "picture_iscc",
    "plain_name",
    "prompt_digest",
    "prove_prompt",
    "raw_signature",
    "rotate_keys",
    "sign",
    "time_stamping",
    "verdict_assertion",
    "verify_file",
    "write_release",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "guardrail.act.assertions": (
            "ACTIONS_LABEL",
            "ATTRIBUTION_LABEL",
            "DISCLOSURE_LABEL",
            "MINING_LABEL",
            "SOFT_BINDING_LABEL",
            "STATEMENTS",
            "VERDICT_LABEL",
            "assertion_schema",
            "attribution_assertion",
            "disclosure_assertion",
            "iscc_assertion",
            "mining_assertion",
            "verdict_assertion",
        ),
        "guardrail.act.card": ("draw_card",),
        "guardrail.act.apart": ("Caps", "FilesApart"),
        "guardrail.act.certificates": ("anchor_of",),
        "guardrail.act.encode": ("decode_image", "encode_image", "encode_png"),
        "guardrail.act.generation": ("GENERATION_LABEL", "GenerationStatement", "generation_assertion"),
        "guardrail.act.iscc": ("picture_iscc",),
        "guardrail.act.issuing": ("certify_key", "make_development_keys", "rotate_keys"),
        "guardrail.act.key_report": ("describe_keys",),
        "guardrail.act.keys": ("Signing", "TimeStamping", "load_anchors", "load_signing", "time_stamping"),
        "guardrail.act.naming": ("hub_name", "plain_name"),
        "guardrail.act.prompt_proof": ("PromptProof", "prove_prompt"),
        "guardrail.act.prompts": ("fields_saying", "load_prompt_key", "prompt_digest"),
        "guardrail.act.provenance": ("may_leave", "sign"),
        "guardrail.act.release": ("describe_release", "write_release"),
        "guardrail.act.rubric": ("RubricCheck", "conformance_of"),
        "guardrail.act.signers": ("raw_signature",),
        "guardrail.act.verify": ("FileSeen", "verify_file"),
    },
)
