"""What the evidence on one image proves of each work, and how that lowers a likeness that nothing confirms."""

from collections.abc import Iterable
from dataclasses import dataclass

from guardrail.judge.gather import reached
from guardrail.records import (
    CopyMatch,
    Decision,
    Evidence,
    ExactMatch,
    GeometryMatch,
    HashMatch,
    InputMatch,
    Limits,
    MatchEvidence,
    PixelMatch,
    Unproved,
    Work,
)

__all__ = ["Proofs", "is_of_a_series"]


@dataclass(frozen=True, slots=True)
class Proofs:
    """The works of which a copy was proved, and those of which proof was looked for and not found.

    A work that stands in neither was not looked at closer, or could not be: nothing is lowered there.

    Attributes:
        limits: what counts as near.
        proved: bank and id of works with an exact match, or with a hash, pixels or local features at the block limit.
        unproved: bank and id of works at which a closer look had enough to go by and found nothing, or laid the
            image onto the work and found a part that differs.
    """

    limits: Limits
    proved: frozenset[tuple[str, str]]
    unproved: frozenset[tuple[str, str]]

    @classmethod
    def among(cls, evidence: Iterable[Evidence], limits: Limits) -> "Proofs":
        """What some evidence proves."""
        found = tuple(evidence)
        unproved = frozenset(
            _key(one.work)
            for one in found
            if isinstance(one, Unproved) or (isinstance(one, GeometryMatch) and is_of_a_series(one, limits))
        )
        proved = frozenset(_key(one.work) for one in found if isinstance(one, MatchEvidence) and _is_proof(one, limits))
        return cls(limits, proved, unproved)

    def has_proved(self, work: Work) -> bool:
        """Whether a copy of this work was proved."""
        return _key(work) in self.proved

    def reached(self, found: MatchEvidence | InputMatch) -> Decision:
        """The decision that evidence is enough for: by its limit, a block lowered to a flag where proof is missing."""
        if isinstance(found, InputMatch):
            return reached(found, self.limits)
        return Decision.FLAG if self.lowers(found) else reached(found, self.limits)

    def lowers(self, found: MatchEvidence) -> bool:
        """Whether evidence at its block limit stands alone against a closer look, and so only flags.

        A copy descriptor falls to any closer look; pixels and local features only to a part that differs.
        """
        if reached(found, self.limits) is not Decision.BLOCK or _key(found.work) in self.proved:
            return False
        if isinstance(found, CopyMatch):
            return _key(found.work) in self.unproved
        return is_of_a_series(found, self.limits)


def is_of_a_series(found: MatchEvidence, limits: Limits) -> bool:
    """Whether pixels were compared tile by tile and one tile is another: a picture of the same series, not the work."""
    if not isinstance(found, PixelMatch | GeometryMatch) or found.tile_l2 is None or limits.tile_l2_within is None:
        return False
    return found.tile_l2 > limits.tile_l2_within


def _is_proof(found: MatchEvidence, limits: Limits) -> bool:
    if isinstance(found, ExactMatch):
        return True
    if not isinstance(found, HashMatch | PixelMatch | GeometryMatch):
        return False
    return reached(found, limits) is Decision.BLOCK and not is_of_a_series(found, limits)


def _key(work: Work) -> tuple[str, str]:
    return work.bank, work.work_id
