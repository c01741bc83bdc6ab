"""What is claimed of a model's differential privacy, and what audits say of the claim."""

from typing import ClassVar, Literal

from pydantic import AwareDatetime, Field

from guardrail.records.base import Record, Sha256

__all__ = ["PrivacyAudit", "PrivacyClaim", "PrivacyStatement"]


class PrivacyClaim(Record):
    """A claim that training was (epsilon, delta)-differentially private, for one picture more or less.

    `made_by` says who claims it, `mechanism` on what ground, such as the training method and its accountant.
    `trained_share` is the probability with which a coin put each training and held-out picture into training, where one
    did: only then can an audit prove anything.
    """

    epsilon: float = Field(ge=0)
    delta: float = Field(default=0.0, ge=0, lt=1)
    made_by: str = ""
    mechanism: str = ""
    trained_share: float | None = Field(default=None, gt=0, lt=1)


class PrivacyAudit(Record):
    """What one audit proved about a claim: with this confidence epsilon is at least `epsilon_at_least`.

    `pictures` were put into training, or not, by a coin each; of `guesses` which, `right` were right.
    `could_prove` is what a perfect attack on as many pictures would have proved: a claim above it stands untested.
    """

    at: AwareDatetime
    weights_sha256: Sha256 | None = None
    epsilon_at_least: float = Field(ge=0)
    could_prove: float = Field(ge=0)
    confidence: float = Field(gt=0, lt=1)
    pictures: int = Field(ge=0)
    guesses: int = Field(ge=0)
    right: int = Field(ge=0)


class PrivacyStatement(Record):
    """A claim with its audits, oldest first; kept in `FILE` beside a model's weights, and signed into what it makes."""

    FILE: ClassVar[str] = "privacy_claim.json"
    schema_version: Literal[1] = 1
    claim: PrivacyClaim
    audits: tuple[PrivacyAudit, ...] = ()

    @property
    def standing(self) -> Literal["refuted", "not refuted", "untested"]:
        """Refuted where any audit proved more than is claimed; untested where none could have."""
        if any(audit.epsilon_at_least > self.claim.epsilon for audit in self.audits):
            return "refuted"
        tested = any(audit.could_prove > self.claim.epsilon for audit in self.audits)
        return "not refuted" if tested else "untested"
