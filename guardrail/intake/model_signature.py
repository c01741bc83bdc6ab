"""A model's folder and its signature in, whether somebody we trust signed these very files out.

The signature is one of the OpenSSF Model Signing specification, as the package `model-signing` makes them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from guardrail.extras import need
from guardrail.records import ModelSignature

if TYPE_CHECKING:
    from guardrail.intake.model_files import PartFiles
    from guardrail.settings import ModelSettings

__all__ = ["check_signature", "signature_of"]

log = logging.getLogger("guardrail.intake")

_LONGEST_REASON = 300  # letters: a model may have thousands of files that differ


_checked: dict[tuple[Any, ...], ModelSignature] = {}
_checked_lock = threading.Lock()


def _forget_all() -> None:
    """In a forked process: whoever held the lock is gone."""
    global _checked_lock
    _checked_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def signature_of(parts: Sequence[PartFiles], asked: ModelSettings) -> ModelSignature:
    """The signature of the model whose parts ran; `failed` where their weights are not those in its files.

    It is checked once, and again when a file in the model's folder has another size or time.

    Args:
        parts: what was found of each part that makes pictures.
        asked: the signature that the settings ask for.
    """
    other = next((part for part in parts if part.state != "as_in_files"), None)
    if other is not None or not parts:
        return _failed(f"weights that are {other.state}: {other.reason}" if other else "weights that are found nowhere")
    loaded = [file for part in parts for file in part.files]
    folder = (asked.folder or _model_folder(loaded)).absolute()
    try:
        state = (folder, asked, *_facts_of(folder, asked))
    except OSError as error:
        return _failed(f"files that cannot be read: {error}")
    with _checked_lock:
        if state not in _checked:
            _checked.clear()
            _checked[state] = check_signature(folder, loaded, asked)
        return _checked[state]


def check_signature(folder: Path, loaded: Iterable[Path], asked: ModelSettings) -> ModelSignature:
    """Say whether a model's folder is as it was signed, and the files that were loaded are among those signed.

    Every file of the folder is read: about a second for a gigabyte. Nothing is fetched from the network. Of a
    certificate the signing time is not known: one that expired since, or was withdrawn, still holds.

    Args:
        folder: the model's.
        loaded: the files with the weights that ran.
        asked: the signature, and the public key or certificates to trust.

    Returns:
        `verified` with who signed; `failed` with the reason, whatever went wrong.
    """
    try:
        verifying = need("model_signing.verifying", extra="model-signing", purpose="check the signature of a model")
        if asked.signature is None:
            return _failed("no signature that is asked for")
        config = verifying.Config()
        if asked.public_key is not None:
            config.use_elliptic_key_verifier(public_key=asked.public_key)
        else:
            config.use_certificate_verifier(certificate_chain=[asked.certificates])
        bundle = json.loads(asked.signature.read_text(encoding="utf-8"))
        config.verify(folder, asked.signature)
        unsigned = [file for file in loaded if not _is_among(file, folder, bundle)]
        if unsigned:
            return _failed(f"{len(unsigned)} of the files that were loaded are not among those that were signed")
        return ModelSignature(outcome="verified", signed_by=_signer(bundle, asked.public_key))
    except Exception as error:  # whatever a verifier raises, the signature is not verified
        log.warning("the signature of the model in %s does not hold", folder, exc_info=error)
        return _failed(f"{type(error).__name__}: {error}"[:_LONGEST_REASON])


def _model_folder(loaded: Sequence[Path]) -> Path:
    """The folder of a whole model: the nearest one above its weights that says which pipeline it is, else theirs."""
    first = loaded[0].parent
    return next((folder for folder in (first, first.parent) if (folder / "model_index.json").is_file()), first)


def _facts_of(folder: Path, asked: ModelSettings) -> Iterator[tuple[str, int, int]]:
    """Name, size and time of each file that the check goes by."""
    own = (asked.signature, asked.public_key, asked.certificates)
    for file in (*sorted(folder.rglob("*")), *(one for one in own if one is not None)):
        facts = file.stat()
        yield str(file), facts.st_size, facts.st_mtime_ns


def _failed(reason: str) -> ModelSignature:
    return ModelSignature(outcome="failed", reason=reason)


def _is_among(file: Path, folder: Path, bundle: Any) -> bool:
    """Whether a signed statement names a file, or pieces of it; a signer may have left files out."""
    payload = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    names = {str(one["name"]) for one in payload["predicate"]["resources"]}
    own = file.absolute().relative_to(folder.absolute()).as_posix()
    return own in names or any(name.startswith(f"{own}:") for name in names)


def _signer(bundle: Any, public_key: Path | None) -> str:
    """Who signed: the name in their certificate, or the digest of their key."""
    if public_key is not None:
        key = serialization.load_pem_public_key(public_key.read_bytes())
        form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return f"key sha256:{hashlib.sha256(key.public_bytes(*form)).hexdigest()}"
    chain = bundle["verificationMaterial"]["x509CertificateChain"]["certificates"]
    leaf = x509.load_der_x509_certificate(base64.b64decode(chain[0]["rawBytes"]))
    names = leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(names[0].value) if names else leaf.subject.rfc4514_string()
