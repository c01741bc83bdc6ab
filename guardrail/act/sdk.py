"""The one place that speaks to c2pa: build and read manifests with settings that fetch nothing from the network.

Contexts, signers, builders and readers of c2pa die in a forked process, so every call here makes its own.
"""

import base64
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import c2pa

from guardrail.act import manifest_store
from guardrail.act.keys import Signing
from guardrail.act.signers import algorithm_of, checked_signature, in_memory, within
from guardrail.act.stamping import with_time_stamp
from guardrail.carriers import ParentFile

__all__ = ["ANCHOR_LIST", "BINDING_LABEL", "PARENT_ID", "TIME_STAMP_LIST", "Reading", "TimeStamp", "embed", "read"]

ANCHOR_LIST = "urn:guardrail:anchors"  # the name c2pa gives back when a signature chains up to one of our anchors
PARENT_ID = "parent"  # what actions call the parent ingredient by, in their `parameters.ingredientIds`
TIME_STAMP_LIST = "urn:guardrail:time-stamp-anchors"  # the same for time stamp servers
BINDING_LABEL = "c2pa.hash.data"  # c2pa's own: the hash that binds the manifest to the file
_PARENT = {"relationship": "parentOf", "label": PARENT_ID}
_STAMP_FAULTS = frozenset(  # C2PA's codes of a time stamp that proves nothing
    {"timeStamp.mismatch", "timeStamp.malformed", "timeStamp.outsideValidity", "timeStamp.untrusted"}
)
_BYTES = re.compile(r"b64'([A-Za-z0-9+/=]*)'")
_LARGEST_MANIFEST_MIB = 16  # of a compressed manifest, once decompressed; ours are some KiB


@dataclass(frozen=True, slots=True)
class TimeStamp:
    """What a time stamp in a manifest says.

    Attributes:
        at: when the server says it saw the signature.
        authority: common name in the server's certificate, where c2pa gives it; anybody can choose it.
        trusted: it holds, and its certificate leads to one of the time stamp anchors we gave.
    """

    at: datetime
    authority: str | None
    trusted: bool


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
        informational: C2PA validation codes of what is neither; a time stamp that does not hold is among them.
        chain: the certificates in the active manifest's signature, DER, leaf first; `anchor_of` says whose they are.
        time_stamp: what a time stamp server put its name to, if there is a time stamp.
        ingredients: what the active manifest says it was made from, with the validation of each.
        binding: the hash that binds the manifest to the file, as hex; a file's own sha256 is no identity.
        excluded: (first byte, length) of what that hash leaves out.
    """

    state: str
    trusted_by: str | None
    manifest_id: str | None
    signer: str | None
    generator: Mapping[str, Any]
    assertions: Mapping[str, Any]
    success: tuple[str, ...]
    failures: tuple[str, ...]
    informational: tuple[str, ...] = ()
    chain: tuple[bytes, ...] = ()
    time_stamp: TimeStamp | None = None
    ingredients: tuple[Mapping[str, Any], ...] = ()
    binding: str | None = None
    excluded: tuple[tuple[int, int], ...] = ()


def embed(
    content: bytes, mime: str, manifest: Mapping[str, Any], signing: Signing, parent: ParentFile | None = None
) -> bytes:
    """The file with a signed manifest in it.

    Args:
        content: the whole file, without a manifest.
        mime: `image/png`, `image/jpeg` or `image/webp`.
        manifest: its definition; actions call the parent by `PARENT_ID`.
        signing: the credential.
        parent: the file it was made from, which becomes its `parentOf` ingredient with all its manifests; no title,
            no thumbnail.

    Raises:
        c2pa.C2paError: c2pa takes neither the file, the manifest, the parent nor the credential; or who signs or puts
            the time to it raises, is too slow or gives something else.
    """
    failures: list[Exception] = []

    def build() -> bytes:
        signed = io.BytesIO()
        with (
            c2pa.Context.from_dict(_settings(signing.anchors)) as context,
            _signer(signing, failures) as signer,
            c2pa.Builder(dict(manifest), context) as builder,
        ):
            if parent is not None:
                builder.add_ingredient(_PARENT, parent.mime, io.BytesIO(parent.content))
            builder.sign(signer, mime, io.BytesIO(content), signed)
        if signing.time_stamp is None:
            return signed.getvalue()
        return with_time_stamp(signed.getvalue(), mime, signing.time_stamp, signing.within_s)

    if not signing.asks_others:
        return build()
    try:
        return within(signing.within_s, build)
    except (TimeoutError, ValueError, c2pa.C2paError) as error:
        raise c2pa.C2paError.Signature(_why(signing, failures, error)) from (failures or [error])[0]


def _signer(signing: Signing, failures: list[Exception]) -> c2pa.Signer:
    """The SDK's signer; what goes wrong in a function that signs is kept, because the SDK drops it."""
    try:
        algorithm = algorithm_of(signing.leaf)
        if signing.sign_with is None and signing.time_stamp is None:
            return c2pa.Signer.from_info(c2pa.C2paSignerInfo(algorithm, signing.chain, signing.key, None))
        # for a function the SDK leaves room in the signature, where the time stamp finds its place
        sign_with = signing.sign_with or in_memory(signing.key or b"", signing.leaf)
    except ValueError as error:
        raise c2pa.C2paError.Signature(f"{signing.source!r} holds {error}") from error

    def ask(content: bytes) -> bytes:
        try:
            return checked_signature(sign_with, signing.leaf, content)
        except Exception as error:  # noqa: BLE001 - users' code raises anything; it is told, and no image leaves
            failures.append(error)
            return b""  # which the SDK takes for a failure

    return c2pa.Signer.from_callback(ask, algorithm, signing.chain.decode())


def _why(signing: Signing, failures: Sequence[Exception], error: Exception) -> str:
    """What a signer or a time stamp server did not do, in words."""
    if failures:
        return f"the signer of {signing.source!r}: {type(failures[0]).__name__}: {failures[0]}"
    asked = [f"the signer of {signing.source!r}"] if signing.sign_with else []
    asked += [f"the time stamp server {signing.time_stamp.place}"] if signing.time_stamp else []
    return f"{' and '.join(asked)}: found {error}, expected an answer within {signing.within_s:g} s"


def read(
    content: bytes,
    mime: str,
    anchors: Sequence[bytes],
    own_leaves: Sequence[bytes] = (),
    time_stamp_anchors: Sequence[bytes] = (),
) -> Reading:
    """Read and validate what manifest a file holds.

    Args:
        content: the whole file.
        mime: such as `image/png`.
        anchors: PEM root certificates; nothing else is trusted.
        own_leaves: PEM certificates of signers that are trusted by themselves, even when they have expired.
        time_stamp_anchors: PEM root certificates of the time stamp servers to believe.

    Raises:
        c2pa.C2paError.ManifestNotFound: there is none.
        c2pa.C2paError: it cannot be parsed.
    """
    with (
        c2pa.Context.from_dict(_settings(anchors, own_leaves, time_stamp_anchors)) as context,
        c2pa.Reader(mime, io.BytesIO(content), context=context) as reader,
    ):
        # only the second form gives every assertion as it was written: the first turns lists of numbers into text
        found = _reading(json.loads(reader.json()), json.loads(reader.crjson()))
    if found.manifest_id is None:
        return found
    return replace(found, chain=manifest_store.signing_chain(content, mime, found.manifest_id))


def _settings(
    anchors: Sequence[bytes], own_leaves: Sequence[bytes] = (), time_stamp_anchors: Sequence[bytes] = ()
) -> dict[str, Any]:
    """Settings for builder and reader. c2pa ignores misspelt ones in silence: tests prove each by what it does."""
    lists = [{"trust_anchors": b"".join(anchors).decode(), "trust_uri": ANCHOR_LIST, "trust_kind": "manifest"}]
    if own_leaves:
        lists[0]["allowed_list"] = b"".join(own_leaves).decode()
    if time_stamp_anchors:
        servers = {"trust_anchors": b"".join(time_stamp_anchors).decode(), "trust_uri": TIME_STAMP_LIST}
        lists.append(servers | {"trust_kind": "tsa"})
    return {
        "version": 1,
        "trust": {"anchors": lists},
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
    assertions = as_written[0] if as_written else {}
    validation = store.get("validation_results", {})
    checks = validation.get("activeManifest", {})
    deltas = [delta.get("validationDeltas", {}) for delta in validation.get("ingredientDeltas", ())]
    return Reading(
        state=store.get("validation_state", "Invalid"),
        trusted_by=validation.get("trustListUri"),
        manifest_id=manifest_id,
        signer=active.get("signature_info", {}).get("common_name"),
        generator=next(iter(active.get("claim_generator_info", ())), {}),
        assertions=assertions,
        success=_codes(checks, "success"),
        failures=tuple(code for one in (checks, *deltas) for code in _codes(one, "failure")),
        informational=_codes(checks, "informational"),
        time_stamp=_time_stamp(plain, manifest_id, checks),
        ingredients=tuple(active.get("ingredients", ())),
        binding=_binding(assertions),
        excluded=_excluded(assertions),
    )


def _time_stamp(plain: Mapping[str, Any], manifest_id: str | None, checks: Mapping[str, Any]) -> TimeStamp | None:
    signature = [one.get("signature", {}) for one in plain.get("manifests", ()) if one.get("label") == manifest_id]
    said = signature[0].get("timeStampInfo") if signature else None
    try:
        at = datetime.fromisoformat(said["timestamp"]) if said else None
    except (KeyError, TypeError, ValueError):
        at = None
    if said is None or at is None:
        return None
    authority = said.get("certificateInfo", {}).get("subject", {}).get("CN")
    wrong = [code for code in (*_codes(checks, "informational"), *_codes(checks, "failure")) if code in _STAMP_FAULTS]
    passed = _codes(checks, "success")
    trusted = not wrong and "timeStamp.validated" in passed and "timeStamp.trusted" in passed
    return TimeStamp(at, authority, trusted)


def _binding(assertions: Mapping[str, Any]) -> str | None:
    """The hash of the hard binding; crjson writes bytes as `b64'...'`."""
    written = assertions.get(BINDING_LABEL, {}).get("hash")
    if not isinstance(written, str) or not (match := _BYTES.fullmatch(written)):
        return None
    try:
        return base64.b64decode(match[1], validate=True).hex()
    except ValueError:
        return None


def _excluded(assertions: Mapping[str, Any]) -> tuple[tuple[int, int], ...]:
    """What the hard binding leaves out, as it is written, in whatever order."""
    ranges = assertions.get(BINDING_LABEL, {}).get("exclusions")
    written = [one if isinstance(one, dict) else {} for one in ranges] if isinstance(ranges, list) else []
    return tuple((one.get("start", -1), one.get("length", -1)) for one in written)


def _codes(checks: Mapping[str, Any], outcome: str) -> tuple[str, ...]:
    return tuple(check["code"] for check in checks.get(outcome, ()))
