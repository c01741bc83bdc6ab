"""What is remembered of one judged image, and where its picture is kept while a case waits."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from guardrail.memory.pictures import Pictures
from guardrail.memory.tables import Case
from guardrail.records import Verdict

__all__ = ["Held", "forget_unnamed", "keep", "keep_again"]


@dataclass(frozen=True, slots=True)
class Held:
    """What is remembered of one judged image: its verdict, and the PNG to review where a person must look.

    Attributes:
        verdict: on it.
        png: of the very pixels that were judged; None where nobody has to look.
        pdq: their hash, 32 bytes, by which cases of nearly the same picture are shown as one; None where it has none.
        organisation: whose it is.
    """

    verdict: Verdict
    png: bytes | None = None
    pdq: bytes | None = None
    organisation: str = "default"


def keep(pictures: Pictures, judged: Sequence[Held]) -> list[str | None]:
    """Put the pictures of all that a person must look at into the store.

    Returns:
        Their digests; None for the others.

    Raises:
        MemoryUnwritable: one could not be kept.
    """
    return [None if held.png is None else pictures.put(held.png) for held in judged]


def keep_again(pictures: Pictures, judged: Sequence[Held], digests: Sequence[str | None]) -> None:
    """In the transaction that names them: put back what was taken away since, for nobody takes them away by now.

    Raises:
        MemoryUnwritable: one could not be kept.
    """
    for held, sha256 in zip(judged, digests, strict=True):
        if held.png is not None and sha256 is not None and not pictures.has(sha256):
            pictures.put(held.png)


def forget_unnamed(session: Session, pictures: Pictures, digests: Iterable[str | None]) -> None:
    """Delete pictures that no case names any more, at the end of the writing transaction that blanked their cases.

    Raises:
        MemoryUnwritable: one is still there; the transaction should not be committed.
    """
    asked = {one for one in digests if one}
    session.flush()
    named = set(session.scalars(select(Case.picture_sha256).where(Case.picture_sha256.in_(asked))))
    for sha256 in sorted(asked - named):
        pictures.delete(sha256)
