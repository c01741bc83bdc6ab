"""An accepted picture and its verdict in, a signed file out, once all of it has been read back."""

import io
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from c2pa import C2paError
from PIL import Image

from guardrail import __version__
from guardrail.act import sdk
from guardrail.act.keys import Signing
from guardrail.carriers import SignedImage
from guardrail.errors import ReleaseFailed
from guardrail.records import Credit, Decision, Neighbour, Verdict

__all__ = ["ACTIONS", "ACTIONS_LABEL", "VERDICT_LABEL", "sign", "verdict_assertion"]

VERDICT_LABEL = "org.guardrail.verdict"
ACTIONS_LABEL = "c2pa.actions.v2"
_BINDING_LABEL = "c2pa.hash.data"  # c2pa's own: the hash that binds the manifest to the file
_PNG_HEADER_BYTES = 33  # signature and IHDR; c2pa puts its chunk right after
_SIMILARITY_DECIMALS = 6
_MOST_NEAREST = 5  # 10,000 of them would cost 635 KB in every file
_GENERATOR = {"name": "guardrail", "version": __version__, "specVersion": "2.4.0"}
ACTIONS = {
    "actions": [
        {
            "action": "c2pa.created",
            "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
        }
    ],
    "allActionsIncluded": True,
}


def sign(png: bytes, verdict: Verdict, assertions: Mapping[str, Any], signing: Signing) -> SignedImage:
    """Sign an accepted picture and prove that the signed file says what it should.

    The manifest holds one `c2pa.created` action, what is handed in, and the verdict (`verdict_assertion`, unless what
    is handed in says it in other words); no thumbnail, no ingredient. Nothing is fetched from the network. Safe in
    threads and after a fork. At 512x512 it adds about 3 KB.

    Args:
        png: the picture, as `encode_png` made it.
        verdict: why it was accepted.
        assertions: JSON-ready content by C2PA assertion label; no prompt text.
        signing: the credential.

    Raises:
        KeysUnusable: the certificate has expired, or is not valid yet.
        ReleaseFailed: the verdict is not to accept, or the file could not be signed, or when read back it is not
            trusted under our anchor, says something else, or shows other pixels.
    """
    if verdict.decision is not Decision.ACCEPT:
        raise ReleaseFailed(verdict.image, f"its verdict is {verdict.decision.value!r}, and only accepted images leave")
    signing.require_usable(datetime.now(UTC))
    claims = _claims(verdict, assertions)
    try:
        content = sdk.embed(png, "image/png", _manifest(claims), signing)
        reading = sdk.read(content, "image/png", signing.anchors)
    except C2paError as error:
        raise ReleaseFailed(verdict.image, f"signing failed: {error}") from error
    _require_faithful(verdict.image, reading, claims)
    _require_same_pixels(verdict.image, png, content)
    assert reading.manifest_id is not None, "a trusted manifest has a name"
    return SignedImage(content, reading.manifest_id, verdict)


def verdict_assertion(verdict: Verdict) -> dict[str, Any]:
    """What a signed file says of its verdict, JSON-ready.

    It holds no prompt, no path or file name of the image, and no explanation, which may quote them.
    """
    return {
        "schema_version": 1,
        "verdict_id": verdict.verdict_id,
        "decision": verdict.decision.value,
        "rule": verdict.rule,
        "policy_sha256": verdict.policy_sha256,
        "index_snapshot": verdict.index_snapshot,
        "calibration": verdict.calibration,
        "nearest": [_nearest(neighbour) for neighbour in verdict.nearest[:_MOST_NEAREST]],
        "credits": [_credit(credit) for credit in verdict.credits],
    }


def _nearest(neighbour: Neighbour) -> dict[str, Any]:
    """Work, signal, and the one measure that the signal has."""
    said: dict[str, Any] = {
        "work_id": neighbour.work.work_id,
        "bank": neighbour.work.bank,
        "signal": neighbour.signal.value,
    }
    if neighbour.similarity is not None:
        return said | {"similarity": round(neighbour.similarity, _SIMILARITY_DECIMALS)}
    return said | {"distance_bits": neighbour.distance_bits}


def _credit(credit: Credit) -> dict[str, str]:
    return {"title": credit.title, "creator": credit.creator, "licence": credit.licence}


def _claims(verdict: Verdict, assertions: Mapping[str, Any]) -> dict[str, Any]:
    """All assertions by label, as JSON will give them back."""
    taken = {ACTIONS_LABEL, _BINDING_LABEL} & assertions.keys()
    if taken:
        raise ReleaseFailed(verdict.image, f"a plugin says {sorted(taken)}, which only guardrail says")
    said = {VERDICT_LABEL: verdict_assertion(verdict), **assertions, ACTIONS_LABEL: ACTIONS}
    try:
        claims: dict[str, Any] = json.loads(json.dumps(said, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ReleaseFailed(verdict.image, f"an assertion is not JSON: {error}") from error
    return claims


def _manifest(claims: Mapping[str, Any]) -> dict[str, Any]:
    stated = [{"label": label, "data": content, "created": True} for label, content in claims.items()]
    return {"claim_generator_info": [_GENERATOR], "assertions": stated}


def _require_faithful(image: str, reading: sdk.Reading, claims: Mapping[str, Any]) -> None:
    """Require that the manifest is ours and says just what was put in."""
    if reading.state != "Trusted" or reading.trusted_by != sdk.ANCHOR_LIST or reading.failures:
        found = f"{reading.state} ({', '.join(reading.failures) or 'no failed check'})"
        raise ReleaseFailed(image, f"read back, its manifest is {found}, where Trusted under our anchor was expected")
    if reading.assertions.keys() != claims.keys() | {_BINDING_LABEL}:
        raise ReleaseFailed(image, f"read back, it holds {sorted(reading.assertions)}, not {sorted(claims)}")
    changed = [label for label, content in claims.items() if not _says(reading.assertions[label], content)]
    if changed:
        raise ReleaseFailed(image, f"read back, {changed} says something else than was put in")
    if not _GENERATOR.items() <= reading.generator.items():
        raise ReleaseFailed(image, f"read back, its generator is {dict(reading.generator)}, not {_GENERATOR}")


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


def _require_same_pixels(image: str, png: bytes, content: bytes) -> None:
    """Require that the signed file is the given one with one chunk more, and that it decodes.

    The same coded bytes decode to the same pixels, so one decoding serves instead of two.
    """
    length = int.from_bytes(content[_PNG_HEADER_BYTES : _PNG_HEADER_BYTES + 4], "big")
    manifest_ends = _PNG_HEADER_BYTES + 12 + length
    if content[:_PNG_HEADER_BYTES] + content[manifest_ends:] != png:
        raise ReleaseFailed(image, "read back, its pixels are not those that were given")
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as picture:
            picture.load()
    except Exception as error:  # decoders raise anything on broken bytes; whatever it is, nothing leaves
        raise ReleaseFailed(image, f"read back, it cannot be decoded: {error!r}") from error
