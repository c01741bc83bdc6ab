"""Bytes in, a signature out: by a key in memory, or by whoever keeps the key; checked before it is used."""

import threading
from collections.abc import Callable
from typing import TypeVar

import c2pa
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

__all__ = ["algorithm_of", "checked_signature", "in_memory", "raw_signature", "within"]

Answer = TypeVar("Answer")

_MOST_GIVEN_UP = 8  # calls that were given up and still run; with so many no more are begun
_HASHES = {"ES256": hashes.SHA256(), "ES384": hashes.SHA384(), "PS256": hashes.SHA256()}
_COORDINATE_BYTES = {"ES256": 32, "ES384": 48}  # of r and of s
_PSS = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
_given_up: list[threading.Thread] = []


def algorithm_of(leaf: x509.Certificate) -> c2pa.C2paSigningAlg:
    """What the key of a leaf signs with: ES256, ES384, PS256 or Ed25519.

    Raises:
        ValueError: none of these.
    """
    key = leaf.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return c2pa.C2paSigningAlg.ES256
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP384R1):
        return c2pa.C2paSigningAlg.ES384
    if isinstance(key, rsa.RSAPublicKey):
        return c2pa.C2paSigningAlg.PS256
    if isinstance(key, ed25519.Ed25519PublicKey):
        return c2pa.C2paSigningAlg.ED25519
    raise ValueError(f"a key of the kind {type(key).__name__}")


def raw_signature(der: bytes, leaf: x509.Certificate) -> bytes:
    """An ECDSA signature as COSE wants it, r and s one after the other, of one in DER, as key services give it.

    Args:
        der: the signature.
        leaf: the certificate of its key, which says how long r and s are.

    Raises:
        ValueError: it is no such signature, or the key is not on P-256 or P-384.
    """
    length = _COORDINATE_BYTES.get(algorithm_of(leaf).name)
    if length is None:
        raise ValueError(f"a key that signs with {algorithm_of(leaf).name}, whose signatures are handed on as they are")
    try:
        r, s = utils.decode_dss_signature(der)
    except ValueError as error:
        raise ValueError(f"found {len(der)} bytes, expected an ECDSA signature in DER ({error})") from error
    return r.to_bytes(length, "big") + s.to_bytes(length, "big")


def in_memory(pem: bytes, leaf: x509.Certificate) -> Callable[[bytes], bytes]:
    """A function that signs with a key in memory, as those of keys that are kept elsewhere do.

    Raises:
        ValueError: it is no key, or c2pa signs with no such key.
    """
    key = serialization.load_pem_private_key(pem, password=None)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        by_hash = ec.ECDSA(_HASHES[algorithm_of(leaf).name])
        return lambda content: raw_signature(key.sign(content, by_hash), leaf)
    if isinstance(key, rsa.RSAPrivateKey):
        return lambda content: key.sign(content, _PSS, hashes.SHA256())
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign
    raise ValueError(f"a key of the kind {type(key).__name__}")


def checked_signature(sign_with: Callable[[bytes], bytes], leaf: x509.Certificate, content: bytes) -> bytes:
    """What a signer gives for some bytes, if that is a signature by the key of the leaf.

    Raises:
        ValueError: it is none.
        Exception: whatever the signer raises.
    """
    signature = sign_with(content)
    if not isinstance(signature, bytes):
        raise ValueError(f"found {type(signature).__name__}, expected bytes")  # noqa: TRY004 - the signer's fault
    algorithm = algorithm_of(leaf).name
    if not _holds(signature, leaf, content, algorithm):
        raise ValueError(
            f"found {len(signature)} bytes that are no {algorithm} signature by the key of the certificate, expected "
            "one (ECDSA as r and s one after the other: `raw_signature` makes it of DER)"
        )
    return signature


def _holds(signature: bytes, leaf: x509.Certificate, content: bytes, algorithm: str) -> bool:
    key = leaf.public_key()
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            length = _COORDINATE_BYTES[algorithm]
            if len(signature) != 2 * length:
                return False
            r, s = (int.from_bytes(half, "big") for half in (signature[:length], signature[length:]))
            key.verify(utils.encode_dss_signature(r, s), content, ec.ECDSA(_HASHES[algorithm]))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, content, _PSS, _HASHES[algorithm])
        else:
            assert isinstance(key, ed25519.Ed25519PublicKey), "algorithm_of knows no other"
            key.verify(signature, content)
    except InvalidSignature:
        return False
    return True


def within(seconds: float, call: Callable[[], Answer]) -> Answer:
    """What a call returns, if it does so in time; one that does not is left to itself in its own thread.

    Raises:
        TimeoutError: it did not, or eight former ones have not come back yet.
        Exception: what the call raises.
    """
    _given_up[:] = [thread for thread in _given_up if thread.is_alive()]
    if len(_given_up) >= _MOST_GIVEN_UP:
        raise TimeoutError(f"{len(_given_up)} former calls have not come back yet")
    answers: list[Answer] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(call())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            errors.append(error)

    thread = threading.Thread(target=run, name="guardrail signing", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not answers:
        _given_up.append(thread)
        raise TimeoutError(f"no answer within {seconds:g} s")
    return answers[0]
