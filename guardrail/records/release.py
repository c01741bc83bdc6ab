"""What left, how it was marked, and what a file that comes back is found to be."""

from typing import Literal

from pydantic import AwareDatetime, Field

from guardrail.records.base import Record, Sha256

__all__ = ["ImageMime", "Release", "ReleaseIntent", "Watermark", "WatermarkFound"]

ImageMime = Literal["image/png", "image/jpeg", "image/webp"]


class Watermark(Record):
    """An invisible mark that was put into an image's pixels and found again in what leaves.

    `algorithm` is its name in the list of soft binding algorithms that C2PA keeps where it is `registered` there, and
    its own otherwise. `payload` is the bits that were put in, as hex, most significant first; `bits` is their number,
    of which `bits_found` agree when read back. `binding` is how a soft binding writes the payload, where the algorithm
    has a form of its own for that; Base64 of its bytes otherwise.
    """

    algorithm: str
    payload: str = Field(pattern=r"^[0-9a-f]*$")
    bits: int = Field(ge=0)
    bits_found: int = Field(ge=0)
    registered: bool = False
    binding: str = ""


class WatermarkFound(Record):
    """A mark that a plugin looked for in an image: whether it is ours, by so many of its bits."""

    algorithm: str
    present: bool
    payload: str = Field(default="", pattern=r"^[0-9a-f]*$")
    bits: int = Field(ge=0)
    bits_found: int = Field(ge=0)


class ReleaseIntent(Record):
    """An accepted image that is about to be signed, entered in the ledger before anything is written.

    `part` is the name, beside `file`, under which it is written before it gets its own.
    """

    schema_version: Literal[1] = 1
    intent_id: str
    verdict_id: str
    file: str
    part: str
    pixels_sha256: Sha256
    at: AwareDatetime


class Release(Record):
    """A signed file that left: where to, its bytes, and the manifest in it.

    What identifies it is `manifest_id` and `binding_sha256`, the digest that binds the manifest to the file; its own
    sha256 changes with filling that nothing protects. `pixels_sha256` is that of the pixels the file decodes to.
    `decision_id` is that of the person's decision by which a flagged image left.
    """

    schema_version: Literal[1] = 1
    verdict_id: str
    intent_id: str | None = None
    file: str
    file_sha256: Sha256
    manifest_id: str
    at: AwareDatetime
    mime: ImageMime = "image/png"
    binding_sha256: Sha256 | None = None
    pixels_sha256: Sha256 | None = None
    iscc: str = ""
    watermark: Watermark | None = None
    decision_id: str | None = None
