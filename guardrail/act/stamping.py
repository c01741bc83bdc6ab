"""A signed file in, the same file with a time stamp under its signature out.

The SDK could ask the server itself, but its HTTP client hangs in a forked process whose parent has used it. So the
signature is made with room to spare, and the time stamp put there afterwards: nothing else in the file changes.
"""

import urllib.error
import urllib.request
import zlib
from http.client import HTTPException
from time import monotonic
from typing import Any

import cbor2
import rfc3161_client as tsp

from guardrail.act.keys import TimeStamping
from guardrail.act.manifest_store import Piece, active_manifest, manifest_store, pieces_of, signature_at

__all__ = ["with_time_stamp"]

_LARGEST_ANSWER_BYTES = 2**16  # of a server; a token with a chain of certificates has some KiB
_READ_AT_ONCE = 2**12
_GRANTED = (0, 1)  # RFC 3161, 2.4.2: granted, granted with modifications
_STAMP = "sigTst2"  # C2PA 2.4, time stamps: the unprotected header they are kept in
_PAD, _PAD_TOO = "pad", "pad2"  # zeros that keep room
_MOST_LENGTH_BYTES = 4  # by which a byte string's own length grows, in CBOR, up to 4 GiB
_CRC_BYTES = 4


def with_time_stamp(content: bytes, mime: str, time_stamp: TimeStamping, within_s: float) -> bytes:
    """Have a server put the time to the signature of the active manifest.

    Args:
        content: the signed file, with room in its signature.
        mime: `image/png`, `image/jpeg` or `image/webp`.
        time_stamp: the server.
        within_s: seconds until its answer must have come.

    Raises:
        ValueError: the server does not answer, refuses, or answers something else; or there is no room.
    """
    store, pieces = manifest_store(content, mime), pieces_of(content, mime)
    start, end = signature_at(store, active_manifest(store))
    protected, unprotected, payload, signature = cbor2.loads(store[start:end]).value
    signed = cbor2.dumps(["CounterSignature", protected, b"", cbor2.dumps(signature)])
    token = _token(signed, time_stamp, within_s)
    headers = {name: value for name, value in unprotected.items() if name != _PAD}
    headers[_STAMP] = {"tstTokens": [{"val": token}]}
    stamped = _of_length([protected, headers, payload, signature], end - start)
    return _put(content, mime, pieces, start, stamped)


def _token(signed: bytes, time_stamp: TimeStamping, within_s: float) -> bytes:
    """The token for these bytes, which the server never sees: only their digest."""
    builder = tsp.TimestampRequestBuilder().data(signed).hash_algorithm(tsp.HashAlgorithm.SHA256)
    asked = builder.nonce(nonce=True).cert_request(cert_request=True).build()
    answer = tsp.decode_timestamp_response(_post(asked.as_bytes(), time_stamp, within_s))
    if answer.status not in _GRANTED:
        raise ValueError(f"a refusal (status {answer.status} {' '.join(answer.status_string)})")
    found = answer.tst_info
    if found.nonce != asked.nonce or found.message_imprint.message != asked.message_imprint.message:
        raise ValueError("the answer to another question")
    return bytes(answer.time_stamp_token())


def _post(query: bytes, time_stamp: TimeStamping, within_s: float) -> bytes:
    ends = monotonic() + within_s
    request = urllib.request.Request(  # noqa: S310 - `time_stamping` lets http and https in alone
        time_stamp.url, query, {"Content-Type": "application/timestamp-query", "Accept": "application/timestamp-reply"}
    )
    answer = b""
    try:
        with urllib.request.urlopen(request, timeout=within_s) as reply:  # noqa: S310
            while part := reply.read1(_READ_AT_ONCE):
                answer += part
                if len(answer) > _LARGEST_ANSWER_BYTES:
                    raise ValueError(f"an answer of more than {_LARGEST_ANSWER_BYTES} bytes")
                if monotonic() > ends:
                    raise TimeoutError("an answer that does not end")
    except urllib.error.HTTPError as error:
        error.close()
        raise ValueError(f"HTTP status {error.code}") from error
    except OSError as error:  # urllib's own among them
        raise ValueError(f"no answer ({type(error).__name__}: {getattr(error, 'reason', error)})") from error
    except HTTPException as error:  # its words may quote the address, and a password in it
        raise ValueError(f"no answer ({type(error).__name__})") from error
    return answer


def _of_length(parts: list[Any], length: int) -> bytes:
    """A COSE_Sign1 of just this length, by zeros in its unprotected header."""
    protected, headers, payload, signature = parts
    for more in ({}, {_PAD_TOO: b""}):  # an empty second header helps where the length of the zeros leaves a gap
        bare = headers | {_PAD: b""} | more
        room = length - len(_encoded(protected, bare, payload, signature))
        for size in range(room, max(room - _MOST_LENGTH_BYTES, 0) - 1, -1):
            made = _encoded(protected, bare | {_PAD: bytes(size)}, payload, signature)
            if len(made) == length:
                return made
    raise ValueError("a time stamp that finds no room in the signature")


def _encoded(*parts: object) -> bytes:
    return cbor2.dumps(cbor2.CBORTag(18, list(parts)))  # 18: COSE_Sign1 (RFC 9052)


def _put(content: bytes, mime: str, pieces: list[Piece], start: int, new: bytes) -> bytes:
    """The file with some bytes of its manifest store replaced, from a place in the store on."""
    changed, at = bytearray(content), 0
    for piece in pieces:
        length = piece.stop - piece.start
        first, last = max(start - at, 0), min(start + len(new) - at, length)
        if first < last:
            changed[piece.start + first : piece.start + last] = new[at + first - start : at + last - start]
        at += length
    if mime == "image/png":
        (piece,) = pieces
        checked = zlib.crc32(changed[piece.start - _CRC_BYTES : piece.stop])  # type and content of the chunk
        changed[piece.stop : piece.stop + _CRC_BYTES] = checked.to_bytes(_CRC_BYTES, "big")
    return bytes(changed)
