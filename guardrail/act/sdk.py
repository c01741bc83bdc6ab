"""The one place that speaks to c2pa: build and read manifests with settings that fetch nothing from the network.

Contexts, signers, builders and readers of c2pa die in a forked process, so every call here makes its own.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import c2pa

from guardrail.act.keys import Signing

__all__ = ["ANCHOR_LIST", "Reading", "embed", "read"]

ANCHOR_LIST = "urn:guardrail:anchors"  # the name c2pa gives back when a signature chains up to one of our anchors
_LARGEST_MANIFEST_MIB = 16  # of a compressed manifest, once decompressed; ours are some KiB


@dataclass(frozen=True, slots=True)
class Reading:
    """What c2pa found in a file.

    Attributes:
        state: `Invalid`, `Valid` (intact, signed by anybody) or `Trusted` (and by somebody on a list we gave).
        trusted_by: name of the list that made it trusted; empty for a certificate that was listed itself.
        manifest_id: URN of the active manifest.
        signer: common name in the signing certificate; anybody can choose it.
        generator: what the manifest says made it.
        assertions: of the active manifest, by label, with the hash binding.
        success: C2PA validation codes of the checks that passed, in order.
        failures: C2PA validation codes of the checks that failed, in order, those of ingredients too.
    """

    state: str
    trusted_by: str | None
    manifest_id: str | None
    signer: str | None
    generator: Mapping[str, Any]
    assertions: Mapping[str, Any]
    success: tuple[str, ...]
    failures: tuple[str, ...]


def embed(content: bytes, mime: str, manifest: Mapping[str, Any], signing: Signing) -> bytes:
    """The file with a signed manifest in it.

    Raises:
        c2pa.C2paError: c2pa takes neither the file, the manifest nor the credential.
    """
    signed = io.BytesIO()
    credential = c2pa.C2paSignerInfo(c2pa.C2paSigningAlg.ES256, signing.chain, signing.key, None)
    with (
        c2pa.Context.from_dict(_settings(signing.anchors)) as context,
        c2pa.Signer.from_info(credential) as signer,
        c2pa.Builder(dict(manifest), context) as builder,
    ):
        builder.sign(signer, mime, io.BytesIO(content), signed)
    return signed.getvalue()


def read(content: bytes, mime: str, anchors: Sequence[bytes], own_leaves: Sequence[bytes] = ()) -> Reading:
    """Read and validate what manifest a file holds.

    Args:
        content: the whole file.
        mime: such as `image/png`.
        anchors: PEM root certificates; nothing else is trusted.
        own_leaves: PEM certificates of signers that are trusted by themselves, even when they have expired.

    Raises:
        c2pa.C2paError.ManifestNotFound: there is none.
        c2pa.C2paError: it cannot be parsed.
    """
    with (
        c2pa.Context.from_dict(_settings(anchors, own_leaves)) as context,
        c2pa.Reader(mime, io.BytesIO(content), context=context) as reader,
    ):
        # only the second form gives every assertion as it was written: the first turns lists of numbers into text
        return _reading(json.loads(reader.json()), json.loads(reader.crjson()))


def _settings(anchors: Sequence[bytes], own_leaves: Sequence[bytes] = ()) -> dict[str, Any]:
    """Settings for builder and reader. c2pa ignores misspelt ones in silence: tests prove each by what it does."""
    ours = {"trust_anchors": b"".join(anchors).decode(), "trust_uri": ANCHOR_LIST, "trust_kind": "manifest"}
    if own_leaves:
        ours["allowed_list"] = b"".join(own_leaves).decode()
    return {
        "version": 1,
        "trust": {"anchors": [ours]},
        "core": {
            "allowed_network_hosts": [],  # no host at all
            "allow_redirects": False,
            "decode_identity_assertions": False,  # decoding these would fetch past the list of hosts
            "max_decompressed_manifest_size_in_mb": _LARGEST_MANIFEST_MIB,
        },
        "verify": {
            "verify_after_sign": False,  # we read back ourselves, and more strictly
            "verify_trust": True,
            "verify_timestamp_trust": True,
            "ocsp_fetch": False,
            "remote_manifest_fetch": False,
        },
        "builder": {"thumbnail": {"enabled": False}},
    }


def _reading(store: Mapping[str, Any], plain: Mapping[str, Any]) -> Reading:
    """The active manifest of a store, with its assertions from the store's other form."""
    manifest_id = store.get("active_manifest")
    active = store.get("manifests", {}).get(manifest_id, {})
    as_written = [one["assertions"] for one in plain.get("manifests", ()) if one.get("label") == manifest_id]
    validation = store.get("validation_results", {})
    checks = validation.get("activeManifest", {})
    deltas = [delta.get("validationDeltas", {}) for delta in validation.get("ingredientDeltas", ())]
    return Reading(
        state=store.get("validation_state", "Invalid"),
        trusted_by=validation.get("trustListUri"),
        manifest_id=manifest_id,
        signer=active.get("signature_info", {}).get("common_name"),
        generator=next(iter(active.get("claim_generator_info", ())), {}),
        assertions=as_written[0] if as_written else {},
        success=_codes(checks, "success"),
        failures=tuple(code for one in (checks, *deltas) for code in _codes(one, "failure")),
    )


def _codes(checks: Mapping[str, Any], outcome: str) -> tuple[str, ...]:
    return tuple(check["code"] for check in checks.get(outcome, ()))
