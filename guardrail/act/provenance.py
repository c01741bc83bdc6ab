"""An accepted picture and what is to be said of it in, a signed file out, once all of it has been read back."""

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from c2pa import C2paError

from guardrail import __version__
from guardrail.act import own, sdk
from guardrail.act.assertions import (
    ACTIONS_LABEL,
    DISCLOSURE_LABEL,
    MINING_LABEL,
    SOFT_BINDING_LABEL,
    VERDICT_LABEL,
    actions_assertion,
    watermark_assertion,
)
from guardrail.act.container import require_one_run, without_manifest
from guardrail.act.keys import Signing
from guardrail.act.manifest_store import manifest_store, require_bound
from guardrail.carriers import OutputPicture, ParentFile, SignedImage
from guardrail.errors import ReleaseFailed
from guardrail.records import Decision, ReviewDecision, Verdict

__all__ = ["ACTIONS_LABEL", "INGREDIENT_LABEL", "VERDICT_LABEL", "may_leave", "sign"]

INGREDIENT_LABEL = "c2pa.ingredient.v3"
"""c2pa's own: the file that a picture was made from."""

_OWN_LABEL = re.compile(r"[a-z0-9][a-z0-9_-]*(?:\.[a-z0-9][a-z0-9_-]*)+")  # a name turned round: org.example.note
_STANDARDS = ("c2pa.", "cawg.")  # whose labels mean what a standard says, and may move c2pa to do something
_FOR_ALL = frozenset({DISCLOSURE_LABEL, MINING_LABEL, SOFT_BINDING_LABEL})  # of those, what a plugin may say
_GENERATOR = {"name": "guardrail", "version": __version__, "specVersion": "2.4.0"}
_INGREDIENTS = {"ingredientIds", "ingredients"}  # what we call the parent by, and what c2pa makes of it


def sign(output: OutputPicture, verdict: Verdict, assertions: Mapping[str, Any], signing: Signing) -> SignedImage:
    """Sign an accepted picture and prove that the signed file says what it should.

    The manifest holds what was done (`actions_assertion`), what is handed in, the soft binding of a listed watermark,
    and the parent as an ingredient, where there is one; no thumbnail. Nothing is fetched from the network but the time
    stamp that the credential asks for. Safe in threads and after a fork. Costs and sizes: docs/provenance.md.

    Args:
        output: the file, and its pixels, which must be what it decodes to: it is not decoded again. Signing puts the
            manifest in and changes nothing else, which is checked byte by byte.
        verdict: why it was accepted.
        assertions: JSON-ready content by C2PA assertion label; no prompt text.
        signing: the credential.

    Raises:
        KeysUnusable: the certificate has expired, or is not valid yet.
        ReleaseFailed: the verdict is not to accept, or the file could not be signed, or when read back it is not
            trusted under our anchor, says something else, or differs in more than its manifest.
    """
    if not may_leave(verdict, output.review):
        raise ReleaseFailed(verdict.image, f"its verdict is {verdict.decision.value!r}, and only accepted images leave")
    signing.require_usable(datetime.now(UTC))
    claims = _claims(output, verdict, assertions)
    time_stamp_anchors = signing.time_stamp.anchors if signing.time_stamp else ()
    try:
        content = sdk.embed(output.content, output.mime, _manifest(claims), signing, output.parent)
        reading = sdk.read(content, output.mime, signing.anchors, (), time_stamp_anchors)
    except C2paError as error:
        raise ReleaseFailed(verdict.image, f"signing failed: {error}") from error
    except Exception as error:  # a crash of the SDK withholds this image and no other; its words may be anything
        raise ReleaseFailed(verdict.image, f"signing failed: {type(error).__name__}") from error
    if fault := own.fault_of(reading, signing, datetime.now(UTC)):
        raise ReleaseFailed(verdict.image, f"read back, {fault}")
    _require_faithful(verdict.image, reading, claims, output.parent)
    _require_same_file(verdict.image, output, content, reading)
    if reading.manifest_id is None or reading.binding is None:
        raise ReleaseFailed(verdict.image, "read back, its manifest has no name or is not bound to the file")
    return SignedImage(content, reading.manifest_id, verdict, output.mime, reading.binding)


def may_leave(verdict: Verdict, review: ReviewDecision | None = None) -> bool:
    """Whether an image may be signed: it was accepted, or it was flagged and a person let it out."""
    if verdict.decision is Decision.FLAG:
        return review is not None and review.lets_out
    return verdict.decision is Decision.ACCEPT


def _claims(output: OutputPicture, verdict: Verdict, assertions: Mapping[str, Any]) -> dict[str, Any]:
    """All assertions by label, as JSON will give them back; a second one of a label has `__1` after it."""
    if taken := sorted(str(label) for label in assertions if not _may_be_said(str(label))):
        raise ReleaseFailed(verdict.image, f"a plugin says {taken}, which only guardrail says")
    said = {ACTIONS_LABEL: actions_assertion(output, sdk.PARENT_ID), **assertions}
    if output.watermark is not None and output.watermark.registered:
        label = f"{SOFT_BINDING_LABEL}__1" if SOFT_BINDING_LABEL in said else SOFT_BINDING_LABEL
        said[label] = watermark_assertion(output.watermark)
    try:
        claims: dict[str, Any] = json.loads(json.dumps(said, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ReleaseFailed(verdict.image, f"an assertion is not JSON: {error}") from error
    return claims


def _may_be_said(label: str) -> bool:
    """Whether a plugin may use a label: one of its own in small letters, or one of the few of a standard."""
    own = _OWN_LABEL.fullmatch(label) is not None and "__" not in label and not label.startswith(_STANDARDS)
    return own or label in _FOR_ALL


def _manifest(claims: Mapping[str, Any]) -> dict[str, Any]:
    stated = [
        {"label": label.partition("__")[0], "data": content, "created": True} for label, content in claims.items()
    ]
    return {"claim_generator_info": [_GENERATOR], "assertions": stated}


def _require_faithful(image: str, reading: sdk.Reading, claims: Mapping[str, Any], parent: ParentFile | None) -> None:
    """Require that the manifest says just what was put in, and nothing else."""
    expected = claims.keys() | {sdk.BINDING_LABEL} | ({INGREDIENT_LABEL} if parent is not None else set())
    if reading.assertions.keys() != expected:
        raise ReleaseFailed(image, f"read back, it holds {sorted(reading.assertions)}, not {sorted(expected)}")
    read = dict(reading.assertions) | {ACTIONS_LABEL: reading.assertions[ACTIONS_LABEL]}
    if parent is not None:
        read[ACTIONS_LABEL] = _as_put_in(image, read[ACTIONS_LABEL])
        _require_parent(image, reading, parent)
    changed = [label for label, content in claims.items() if not _says(read[label], content)]
    if changed:
        raise ReleaseFailed(image, f"read back, {changed} says something else than was put in")
    if not _GENERATOR.items() <= reading.generator.items():
        raise ReleaseFailed(image, f"read back, its generator is {dict(reading.generator)}, not {_GENERATOR}")


def _as_put_in(image: str, actions: Mapping[str, Any]) -> dict[str, Any]:
    """The actions that were read, with the parent called as we call it, where c2pa puts a link to the ingredient."""
    opened, *others = actions.get("actions") or [{}]
    linked = opened.get("parameters", {}).get("ingredients") or [{}]
    if len(linked) != 1 or not str(linked[0].get("url", "")).endswith(f"/{INGREDIENT_LABEL}"):
        raise ReleaseFailed(image, f"read back, its first action leads to {linked}, not to {INGREDIENT_LABEL}")
    rest = {name: value for name, value in opened["parameters"].items() if name not in _INGREDIENTS}
    return {**actions, "actions": [{**opened, "parameters": {**rest, "ingredientIds": [sdk.PARENT_ID]}}, *others]}


def _require_parent(image: str, reading: sdk.Reading, parent: ParentFile) -> None:
    """Require that the parent's own manifest was taken along, with what c2pa found on it, good or bad."""
    said = reading.assertions[INGREDIENT_LABEL]
    link = said.get("activeManifest", {}).get("url", "")
    try:
        active = sdk.read(parent.content, parent.mime, ()).manifest_id
    except C2paError as error:
        raise ReleaseFailed(image, f"the file it was made from has no manifest that can be read: {error}") from error
    kept = active is not None and link.endswith(f"/{active}") and "validationResults" in said
    if said.get("relationship") != "parentOf" or not kept:
        raise ReleaseFailed(image, f"read back, its parent is {link or 'nothing'}, where {active} was expected")


def _says(read: Any, put_in: Any) -> bool:
    """Whether two JSON values are the same; c2pa's JSON reader may change the last bit of a float."""
    if isinstance(put_in, dict):
        return (
            isinstance(read, dict)
            and read.keys() == put_in.keys()
            and all(_says(read[key], put_in[key]) for key in put_in)
        )
    if isinstance(put_in, list):
        return isinstance(read, list) and len(read) == len(put_in) and all(map(_says, read, put_in))
    if isinstance(put_in, float):
        return isinstance(read, int | float) and math.isclose(read, put_in, rel_tol=1e-12)
    return type(read) is type(put_in) and bool(read == put_in)


def _require_same_file(image: str, output: OutputPicture, content: bytes, reading: sdk.Reading) -> None:
    """Require that all but the manifest is the given file, and the manifest no more than is signed."""
    try:
        require_one_run(content, output.mime, reading.excluded)
        require_bound(manifest_store(content, output.mime), reading.manifest_id or "")
        same = without_manifest(content, output.mime) == output.content
    except ValueError as error:
        raise ReleaseFailed(image, f"read back, it is not put together as c2pa does it: {error}") from error
    if not same:
        raise ReleaseFailed(image, "read back, more than its manifest differs from the file that was given")
