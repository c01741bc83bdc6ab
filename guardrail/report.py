"""What a guard says of one call, for its caller: verdicts, and the way to release what was accepted."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from guardrail.errors import ReleaseFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guardrail.carriers import ParentFile, Picture
    from guardrail.errors import GuardrailError
    from guardrail.records import Attribution, GenerationContext, RemedyTried, ReviewDecision, Verdict

__all__ = ["Accepted", "Releases", "Report", "require_names"]


class Releases(Protocol):
    """What signs and writes the accepted images of a report: the guard that made it."""

    def release(
        self,
        report: Report,
        folder: Path,
        names: Sequence[str] | None,
        *,
        overwrite: bool,
        failures: dict[int, GuardrailError] | None,
    ) -> list[Path | None]:
        """See `Report.save`."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """An image that was accepted, or flagged and then released by a person.

    Attributes:
        picture: the pixels that were judged; None when they are not at hand.
        verdict: on them.
        context: how the model was run.
        known: the pictures the run was given, fingerprinted (`RunFacts.known`).
        parent: the file with credentials that it was made from.
        review: the decision of the person who releases it, where it was flagged.
    """

    picture: Picture | None
    verdict: Verdict
    context: GenerationContext | None
    known: Any = None
    parent: ParentFile | None = None
    review: ReviewDecision | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What the guard says of one call.

    Attributes:
        verdicts: one for each image, in the order they were returned.
        context: how the model was run; None for images that came without a run.
        guard: the guard that judged.
        pictures: the pixels that were judged, the guard's own copies; None for an image that is withheld.
        attempts: verdicts on images that were generated again, oldest first; none of those images was released.
        remedies: what was tried to make them anew, in order, and what did not fit.
        known: the pictures the run was given, fingerprinted (`RunFacts.known`).
        parent: the file with credentials that the images were made from, where the run was given one.
        attributions: what each image is estimated to owe to training images, None where that was not estimated; empty
            where the settings do not ask for it.
    """

    verdicts: tuple[Verdict, ...]
    context: GenerationContext | None
    guard: Releases = field(repr=False)
    pictures: tuple[Picture | None, ...] = field(repr=False)
    attempts: tuple[Verdict, ...] = ()
    remedies: tuple[RemedyTried, ...] = ()
    known: Any = field(default=None, repr=False)
    parent: ParentFile | None = field(default=None, repr=False)
    attributions: tuple[Attribution | None, ...] = field(default=(), repr=False)

    def accepted(self, at: int) -> Accepted:
        """The image at a place, with what releasing it needs."""
        return Accepted(self.pictures[at], self.verdicts[at], self.context, self.known, self.parent)

    def save(
        self,
        folder: str | Path,
        *,
        names: Sequence[str] | None = None,
        overwrite: bool = False,
        failures: dict[int, GuardrailError] | None = None,
    ) -> list[Path | None]:
        """Write every accepted image: encoded once, signed, read back, entered in the ledger, then released.

        What is written are the pixels that were judged, whatever happened to the caller's copies since.

        Args:
            folder: where to; made when missing.
            names: file names without ending, one for each image, no two the same; default `image-0000-` and the start
                of the verdict's id, which no other call gives.
            overwrite: replace files that are there.
            failures: where given, an image that cannot be released is noted there by its place and the rest goes on;
                otherwise the first failure raises.

        Returns:
            The path of each image's file, in order; None where the image was not accepted or not released.

        Raises:
            ReleaseFailed: an image could not be signed, read back or written; that file is not there.
            MemoryUnwritable: the ledger could not be written; that file is not there.
            KeysMissing: there is no signing key.
        """
        return self.guard.release(self, Path(folder), names, overwrite=overwrite, failures=failures)


def require_names(names: Sequence[str], count: int) -> None:
    """Require one plain file name for each image.

    Raises:
        ReleaseFailed: there are too few or too many, one leads elsewhere, or two are the same.
    """
    if len(names) != count:
        raise ReleaseFailed("all", f"{len(names)} names were given for {count} images")
    for name in names:
        if not name or name in (".", "..") or any(sign in name for sign in "/\\\0"):
            raise ReleaseFailed("all", f"{name!r} is no plain file name")
    if len({name.casefold() for name in names}) < count:
        raise ReleaseFailed("all", "two images were given the same name")
