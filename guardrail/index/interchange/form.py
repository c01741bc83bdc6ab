"""What a hash list says: its head, one line a work, its foot; and the canonical text of each."""

import base64
import json
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, AwareDatetime, Field

from guardrail.records import Disposition, EmbedderSpec, Sampling
from guardrail.records.base import Record, Sha256

__all__ = [
    "FORMAT",
    "VERSION",
    "Former",
    "ListFoot",
    "ListHead",
    "ListSigner",
    "ListedWork",
    "Vectors",
    "WithdrawnWork",
    "canonical",
    "decoded_vectors",
    "encoded_vectors",
    "require_hash",
]

FORMAT, VERSION = "guardrail-hash-list", 1
_LONGEST_TEXT = 4096  # characters of a title or an id
_UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters, and halves of surrogate pairs
_MOST = 2**53 - 1  # the largest whole number that every JSON reader holds exactly

Vectors = Literal["copy", "tiles", "clip"]


def _writable(text: str) -> str:
    if found := _UNWRITABLE.search(text):
        raise ValueError(f"the character U+{ord(found[0]):04X}, which no name or title may hold")
    return text


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"a date outside the calendar ({error})") from error


def require_hash(text: str) -> str:
    """A hash as hex text, unless it is that of a flat picture.

    Raises:
        ValueError: it is all zeros, which every blank image comes near.
    """
    if not text.strip("0"):
        raise ValueError("the hash of a flat picture, all zeros: every blank image would match it")
    return text


Text = Annotated[str, Field(max_length=_LONGEST_TEXT), AfterValidator(_writable)]
Name = Annotated[str, Field(min_length=1, max_length=_LONGEST_TEXT), AfterValidator(_writable)]
Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]
PdqHex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$"), AfterValidator(require_hash)]
PhashHex = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class ListSigner(Record):
    """Who signs a list: a name for people, and certificates in PEM, the leaf first, the anchor left out."""

    name: Text
    chain: str = Field(max_length=65_536)


class Former(Record):
    """The list that a delta goes on from, by the digest in its foot, and the snapshot it was made of."""

    sha256: Sha256
    snapshot: Sha256


class ListHead(Record):
    """The first line of a list: what it is of, and what its hashes and vectors were made with.

    `origin` is the same for every list of one index (and bank). `works` and `withdrawn` count the lines that follow.
    """

    kind: Literal["head"] = "head"
    format: Literal["guardrail-hash-list"] = "guardrail-hash-list"
    version: Literal[1] = 1
    origin: str = Field(pattern=r"^[0-9a-f]{32}$")
    bank: Name | None = None
    snapshot: Sha256
    built_at: Moment
    made_at: Moment
    since: Former | None = None
    works: int = Field(ge=0, le=_MOST)
    withdrawn: int = Field(ge=0, le=_MOST)
    hashes: dict[str, str]
    embedders: dict[Literal["copy", "clip"], EmbedderSpec]
    sampling: Sampling
    vectors: tuple[Vectors, ...] = ()
    signer: ListSigner | None = None


class ListedWork(Record):
    """One work of a list: whose it is, and its hashes; no path and no file name.

    `pdq` and `phash` are hex, most significant bit first, as ThreatExchange and `imagehash` write them. `vectors` are
    base64 of little-endian float16, row after row.
    """

    kind: Literal["work"] = "work"
    bank: Name
    work_id: Name
    disposition: Disposition
    title: Text = ""
    creator: Text = ""
    rights_holder: Text = ""
    licence: Text = ""
    opted_out_at: Moment | None = None
    expires_at: Moment | None = None
    multiplicity: int = Field(default=1, ge=1, le=_MOST)
    pdq: PdqHex | None = None
    phash: PhashHex | None = None
    file_sha256: Sha256 | None = None
    pixels_sha256: Sha256 | None = None
    vectors: dict[Vectors, str] = Field(default_factory=dict)

    def line(self) -> dict[str, Any]:
        """What is written of it: what says nothing is left out."""
        return {"kind": "work", "disposition": str(self.disposition)} | self.model_dump(
            mode="json", exclude_defaults=True, exclude={"disposition"}
        )


class WithdrawnWork(Record):
    """One work that a former list had and that counts no more."""

    kind: Literal["withdrawn"] = "withdrawn"
    bank: Name
    work_id: Name


class ListFoot(Record):
    """The last line of a list: the digest of all lines before it, and the signature of that digest, in base64."""

    kind: Literal["foot"] = "foot"
    lines: int = Field(ge=1, le=_MOST)
    sha256: Sha256
    signature: str | None = Field(default=None, max_length=4096)


def canonical(line: dict[str, Any]) -> bytes:
    """A line as it is digested: JSON with sorted keys and no spaces, UTF-8, and a line feed.

    It is what RFC 8785 makes of it, since keys are ASCII and there are no fractions.
    """
    return json.dumps(line, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def encoded_vectors(rows: NDArray[np.float16]) -> str:
    """Vectors as text: base64 of little-endian float16."""
    return base64.b64encode(np.ascontiguousarray(rows, "<f2").tobytes()).decode()


def decoded_vectors(text: str, shape: tuple[int, ...]) -> NDArray[np.float16]:
    """Vectors from text.

    Raises:
        ValueError: it is not base64, or of another length than `shape`.
    """
    content = base64.b64decode(text, validate=True)
    expected = 2 * int(np.prod(shape))
    if len(content) != expected:
        raise ValueError(f"{len(content)} bytes of vectors, expected {expected}")
    vectors = np.frombuffer(content, "<f2").astype(np.float16).reshape(shape)
    lengths = np.linalg.norm(vectors.astype(np.float32), axis=-1)
    if not np.allclose(lengths, 1, atol=2e-3):  # of float16; NaN is not close to anything
        raise ValueError("vectors that are not of unit length")
    return vectors
