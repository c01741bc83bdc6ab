"""Where a file keeps its manifests, and who signed the active one: what c2pa does not give back."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import TypeAlias

import cbor2

__all__ = [
    "Piece",
    "active_manifest",
    "manifest_store",
    "pieces_of",
    "require_bound",
    "signature_at",
    "signing_chain",
]

Piece: TypeAlias = "slice[int, int, None]"

_LARGEST_STORE_BYTES = 2**26  # 64 MiB; ours are some KiB
_MOST_CERTIFICATES = 8  # in a chain; C2PA's own have two or three
_JPEG_MARKER_BYTES = 2
_X5CHAIN = 33  # RFC 9360: the header of a COSE signature that holds the certificates, leaf first
_COSE_SIGN1_PARTS = 4  # RFC 9052: protected header, unprotected header, payload, signature
_LABEL_OF_SIGNATURE = "c2pa.signature"
_LABEL_OF_ASSERTIONS = "c2pa.assertions"
_LABEL_OF_CLAIM = "c2pa.claim.v2"
_TYPE_ENDS = bytes.fromhex("00110010800000aa00389b71")  # of every type of C2PA's boxes, after four letters
_NAMED = 0x03  # toggles of a description: it can be asked for, and has a label
_PADS = frozenset({"pad", "pad2"})  # zeros in a signature that keep room in the file
_STAMPS = frozenset({"sigTst", "sigTst2"})  # time stamps of the signature


def signing_chain(content: bytes, mime: str, manifest_id: str) -> tuple[bytes, ...]:
    """The certificates in the signature of one manifest of a file, DER, leaf first; empty where none can be read.

    They are only named there: c2pa says whether the signature holds, and `anchor_of` whether they lead to an anchor.

    Args:
        content: the whole file.
        mime: `image/png`, `image/jpeg` or `image/webp`.
        manifest_id: the manifest's URN.
    """
    try:
        store = manifest_store(content, mime)
        start, end = signature_at(store, manifest_id)
        return _certificates(store[start:end])
    except (cbor2.CBORError, ValueError, TypeError, KeyError, IndexError, RecursionError, OverflowError):
        return ()  # a hostile or broken file has no chain, so nothing of ours


def manifest_store(content: bytes, mime: str) -> bytes:
    """The manifest store of a file, JUMBF, put together from its pieces; empty where there is none.

    Raises:
        ValueError: the store is larger than 64 MiB.
    """
    store = b"".join(content[piece] for piece in pieces_of(content, mime))
    if len(store) > _LARGEST_STORE_BYTES:
        raise ValueError(f"a manifest store of {len(store)} bytes")
    return store


def pieces_of(content: bytes, mime: str) -> list[Piece]:
    """Where in a file the pieces of its manifest store lie, in order.

    Args:
        content: the whole file.
        mime: `image/png`, `image/jpeg` or `image/webp`.
    """
    return list({"image/png": _png_pieces, "image/jpeg": _jpeg_pieces, "image/webp": _webp_pieces}[mime](content))


def active_manifest(store: bytes) -> str:
    """The URN of the active manifest of a store: its last one.

    Raises:
        ValueError: there is none.
    """
    labels = [
        _label(store, start, end)
        for kind, start, end in _boxes(store, *_first(store, (0, len(store)), None))
        if kind == b"jumb"
    ]
    if not labels:
        raise ValueError("no manifest")
    return labels[-1]


def signature_at(store: bytes, manifest_id: str) -> tuple[int, int]:
    """Where in a manifest store the signature of a manifest lies: its first byte, and that after its last.

    Raises:
        ValueError: it has none.
    """
    return _box_at(store, (manifest_id, _LABEL_OF_SIGNATURE))


def require_bound(store: bytes, manifest_id: str) -> None:
    """Require that a store holds what its signature binds and no more: nothing is carried along in it.

    The one place of a manifest that nothing binds is the unprotected header of its signature. Whoever takes the zeros
    out of there has room elsewhere in a file whose hash still holds; so no other box may be there, each description
    must say no more than its box's name, and the header may hold zeros and a time stamp alone. Manifests of files that
    it was made from must be named by it, and are bound by what names them.

    Args:
        store: as `manifest_store` gives it.
        manifest_id: the active manifest's URN.

    Raises:
        ValueError: it holds more, or cannot be read; it says what.
    """
    try:
        _require_bound(store, manifest_id)
    except (cbor2.CBORError, TypeError, LookupError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(f"a manifest store that cannot be read ({type(error).__name__})") from error


# --- files -------------------------------------------------------------------------------------------------


def _png_pieces(content: bytes) -> Iterator[Piece]:
    at = 8  # after the signature
    while at + 8 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        if content[at + 4 : at + 8] == b"caBX":
            yield slice(at + 8, at + 8 + length)
            return
        at += 12 + length


def _webp_pieces(content: bytes) -> Iterator[Piece]:
    at = 12  # after RIFF, size and WEBP
    while at + 8 <= len(content):
        length = int.from_bytes(content[at + 4 : at + 8], "little")
        if content[at : at + 4] == b"C2PA":
            yield slice(at + 8, at + 8 + length)
            return
        at += 8 + length + length % 2


def _jpeg_pieces(content: bytes) -> Iterator[Piece]:
    """APP11 segments of JPEG XT: `JP`, box instance, packet number, then in every packet the box's header again."""
    at, instance = _JPEG_MARKER_BYTES, None
    while at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] != 0xDA:  # up to the coded picture
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        segment = content[at + 4 : at + 2 + length]
        if content[at + 1] == 0xEB and segment[:2] == b"JP" and segment[12:16] == b"jumb":
            first = instance is None
            instance = segment[2:4] if first else instance
            if segment[2:4] == instance:
                yield slice(at + 4 + (8 if first else 16), at + 2 + length)
        at += 2 + length


# --- boxes -------------------------------------------------------------------------------------------------


def _boxes(store: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """The boxes in a stretch of JUMBF: type, and where the content is (ISO 19566-5, B; sizes of 32 and 64 bits)."""
    at = start
    while at + 8 <= end:
        size, header = int.from_bytes(store[at : at + 4], "big"), 8
        if size == 1:
            size, header = int.from_bytes(store[at + 8 : at + 16], "big"), 16
        size = size or end - at
        if size < header or at + size > end:
            raise ValueError("a box that is cut short")
        yield store[at + 4 : at + 8], at + header, at + size
        at += size


def _box_at(store: bytes, labels: tuple[str, ...]) -> tuple[int, int]:
    """Where the content of the box is that lies below the given labels, without its description."""
    within = _first(store, (0, len(store)), None)
    for label in labels:
        within = _first(store, within, label)
    for kind, start, end in _boxes(store, *within):
        if kind == b"cbor":
            return start, end
    raise ValueError(f"no box {labels}")


def _first(store: bytes, within: tuple[int, int], label: str | None) -> tuple[int, int]:
    """The first box of boxes, of this label."""
    for kind, start, end in _boxes(store, *within):
        if kind == b"jumb" and (label is None or _label(store, start, end) == label):
            return start, end
    raise ValueError(f"no box {label!r}")


def _label(store: bytes, start: int, end: int) -> str:
    """The label in a description box: 16 bytes of type, one of toggles, then text up to a zero byte."""
    for kind, begins, ends in _boxes(store, start, end):
        described = store[begins:ends]
        if kind != b"jumd" or not described[16] & 0x02:
            return ""
        return described[17:].split(b"\0", 1)[0].decode()
    return ""


def _certificates(signature: bytes) -> tuple[bytes, ...]:
    """`x5chain` of a COSE_Sign1; it is in the protected header since C2PA 2, and was in the other before."""
    parts = cbor2.load(io.BytesIO(signature))
    parts = getattr(parts, "value", parts)  # tag 18
    if not isinstance(parts, list | tuple) or len(parts) != _COSE_SIGN1_PARTS:
        raise ValueError("no COSE_Sign1")
    headers = (cbor2.loads(parts[0]) if parts[0] else {}, parts[1])
    found = [header[name] for header in headers for name in (_X5CHAIN, "x5chain") if name in header]
    chain = found[0] if isinstance(found[0], list) else [found[0]]
    if len(chain) > _MOST_CERTIFICATES or not all(isinstance(one, bytes) for one in chain):
        raise ValueError("no chain, or one that is too long")
    return tuple(chain)


# --- what a signature binds --------------------------------------------------------------------------------


def _require_bound(store: bytes, manifest_id: str) -> None:
    boxes = _whole(store, (0, len(store)))
    if [kind for kind, _, _ in boxes] != [b"jumb"]:
        raise ValueError("something beside the one box of its manifests")
    manifests = _named_boxes(store, boxes[0][1:], b"c2pa", "c2pa")
    if [*manifests][-1:] != [manifest_id]:
        raise ValueError("another manifest at the end of its store than the active one")
    parts = _named_boxes(store, manifests[manifest_id], b"c2ma", manifest_id)
    if parts.keys() != {_LABEL_OF_ASSERTIONS, _LABEL_OF_CLAIM, _LABEL_OF_SIGNATURE}:
        raise ValueError(f"a manifest of {sorted(parts)}")
    _named_boxes(store, parts[_LABEL_OF_ASSERTIONS], b"c2as", _LABEL_OF_ASSERTIONS)
    _only_content(store, parts[_LABEL_OF_CLAIM], b"c2cl", _LABEL_OF_CLAIM)
    _require_bare(_only_content(store, parts[_LABEL_OF_SIGNATURE], b"c2cs", _LABEL_OF_SIGNATURE))
    if unnamed := manifests.keys() - _named_from(store, manifests, manifest_id):
        raise ValueError(f"{len(unnamed)} manifests that nothing names")


def _whole(store: bytes, within: tuple[int, int]) -> list[tuple[bytes, int, int]]:
    """The boxes in a stretch of JUMBF, where they fill it."""
    boxes = list(_boxes(store, *within))
    if not boxes or boxes[-1][2] != within[1]:
        raise ValueError("bytes in its manifest store that are no box")
    return boxes


def _described(store: bytes, within: tuple[int, int], kind: bytes, label: str) -> list[tuple[bytes, int, int]]:
    """The boxes in a superbox after its description, which says its type and label and no more."""
    (named, start, end), *boxes = _whole(store, within)
    if named != b"jumd" or store[start:end] != kind + _TYPE_ENDS + bytes([_NAMED]) + label.encode() + b"\0":
        raise ValueError(f"a box {label!r} that is not described as C2PA does it")
    return boxes


def _named_boxes(store: bytes, within: tuple[int, int], kind: bytes, label: str) -> dict[str, tuple[int, int]]:
    """The superboxes in a superbox by label, where it holds nothing else and each once."""
    boxes = _described(store, within, kind, label)
    found = {_label(store, start, end): (start, end) for kind, start, end in boxes if kind == b"jumb"}
    if len(found) != len(boxes):
        raise ValueError(f"something in {label!r} that is not signed")
    return found


def _only_content(store: bytes, within: tuple[int, int], kind: bytes, label: str) -> bytes:
    """The content of a superbox that holds one box of CBOR."""
    boxes = _described(store, within, kind, label)
    if [kind for kind, _, _ in boxes] != [b"cbor"]:
        raise ValueError(f"something in {label!r} that is not signed")
    return store[boxes[0][1] : boxes[0][2]]


def _require_bare(signature: bytes) -> None:
    """Require that a COSE_Sign1 carries zeros and a time stamp alone beside what it signs."""
    cose = cbor2.loads(signature)
    if cbor2.dumps(cose) != signature:  # a key that is there twice, or bytes after it, would be read over
        raise ValueError("a signature that is not written as CBOR is")
    _, header, payload, _ = cose.value
    if payload is not None:
        raise ValueError("a signature with a content of its own")
    for name, held in header.items():
        if not (name in _PADS and _is_zeros(held)) and not (name in _STAMPS and _is_stamp(held)):
            raise ValueError("something in the signature's padding, which nothing binds")


def _is_zeros(held: object) -> bool:
    return isinstance(held, bytes) and not any(held)


def _is_stamp(held: Mapping[str, list[Mapping[str, object]]]) -> bool:
    """Whether it is one time stamp token and nothing beside it; whether that holds, c2pa says."""
    return held.keys() == {"tstTokens"} and [one.keys() for one in held["tstTokens"]] == [{"val"}]


def _named_from(store: bytes, manifests: Mapping[str, tuple[int, int]], manifest_id: str) -> set[str]:
    """The manifests that one names, itself, and those that these name."""
    named, waiting = {manifest_id}, [manifest_id]
    while waiting:
        start, end = manifests[waiting.pop()]
        told = store[start:end]
        new = [label for label in manifests.keys() - named if any(link in told for link in _links(label))]
        named.update(new)
        waiting += new
    return named


def _links(label: str) -> tuple[bytes, ...]:
    """How a manifest names another: in CBOR, in JSON, or as what a part of it lies in."""
    url = f"self#jumbf=/c2pa/{label}"
    return cbor2.dumps(url), f'{url}"'.encode(), f"{url}/".encode()
