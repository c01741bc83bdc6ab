"""What an image is estimated to owe to training images and to adapters."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal
from uuid import uuid4

from pydantic import AwareDatetime, Field

from guardrail.records.base import Record, Seed, Sha256
from guardrail.records.works import Work

__all__ = [
    "AdapterShare",
    "Attribution",
    "AttributionMethod",
    "CreditShare",
    "Influence",
    "RegisteredAdapter",
]


class AttributionMethod(Record):
    """How influence was estimated; estimates are compared only where these agree.

    `function` is whose gradient stands for an image: `noise_norm`, the squared norm of the predicted noise, or `loss`,
    that of training. `draws` are the (timestep, noise) pairs an image was asked at, `counters` the numbers its gradient
    was sketched to, `damping` what was added to the eigenvalues. `images` were trained on, `decoys` were not.
    `weights_sha256` is that of the parameters that were differentiated. `named_by` says by what a training image was
    named: its p-value (`name_at_p` or below), the share of false ones among those named (`name_at_rate`), or both.
    """

    function: Literal["noise_norm", "loss"]
    draws: int = Field(ge=1)
    counters: int = Field(ge=1)
    seed: Seed
    damping: float = Field(gt=0)
    images: int = Field(ge=0)
    decoys: int = Field(ge=0)
    weights_sha256: Sha256
    named_by: Literal["both", "p_value", "rate"] = "both"
    name_at_p: float = Field(default=0.01, gt=0, lt=1)
    name_at_rate: float = Field(default=0.1, gt=0, lt=1)


class Influence(Record):
    """The estimated influence of one training image, or of a cluster of near-duplicates, on an image.

    `influence` is centred on the decoys' median, in units of their spread (1.4826 x the median absolute deviation),
    less what the image does to all others and all others do to this one. `p_value` is among the decoys, `q_value` the
    share of false ones if all up to it are named (Benjamini and Hochberg); None where there were no decoys. `named`: it
    passed, so that it may be told. `members` counts the near-duplicates credited as one, of which `work` is the most
    influential. `similarity` is the copy descriptor's and `posterior` the patch posterior's: how alike they are, which
    is another thing.
    """

    work: Work
    influence: float
    p_value: float | None = Field(default=None, ge=0, le=1)
    q_value: float | None = Field(default=None, ge=0, le=1)
    named: bool = False
    members: int = Field(default=1, ge=1)
    similarity: float | None = Field(default=None, ge=-1, le=1)
    posterior: float | None = Field(default=None, ge=0, le=1)


class CreditShare(Record):
    """The share of a rights holder in an image, 0..1, with a 95 % bootstrap interval.

    It is the part of the image's gradient, by squared length, that is made of those of the holder's named works.
    `bank` is set, and `holder` the same, where works have no holder. `works` counts clusters of near-duplicates.
    """

    holder: str
    bank: str = ""
    share: float = Field(ge=0, le=1)
    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)
    works: int = Field(ge=1)


class AdapterShare(Record):
    """The Shapley share of one adapter in an image: negative where the image came nearer without it.

    Shares of all adapters and of the base model add up to 1. `standard_error` is that of the permutations, None where
    every subset was asked; `draw_error` is how far the share would move with other draws, None of a single one.
    """

    name: str
    sha256: Sha256 | None = None
    holder: str = ""
    share: float
    standard_error: float | None = Field(default=None, ge=0)
    draw_error: float | None = Field(default=None, ge=0)


class Attribution(Record):
    """Estimated influence under one model and method, on one image: never proof that anything was copied.

    `influences` are the most influential, named or not, most first; where none is named, no single training image
    stands out. `agreement` is how far two halves of the draws agree on the most influential (Jaccard, 0..1), and
    `rank_agreement` on the order of all (Spearman). `decoys_needed` is how many it takes before any can be named, where
    there were too few (else 0). `shares` and `unattributed` add up to 1; `adapters` and `base_share` do so too, where
    adapters were on.
    """

    schema_version: Literal[1] = 1
    attribution_id: str = Field(default_factory=lambda: uuid4().hex, min_length=1)
    at: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    verdict_id: str | None = None
    method: AttributionMethod
    influences: tuple[Influence, ...] = ()
    agreement: float | None = Field(default=None, ge=0, le=1)
    rank_agreement: float | None = Field(default=None, ge=-1, le=1)
    decoys_needed: int = Field(default=0, ge=0)
    shares: tuple[CreditShare, ...] = ()
    unattributed: float = Field(default=1, ge=0, le=1)
    adapters: tuple[AdapterShare, ...] = ()
    base_share: float | None = None

    @property
    def named(self) -> tuple[Influence, ...]:
        """The training images that may be told; none is a normal answer."""
        return tuple(one for one in self.influences if one.named)


class RegisteredAdapter(Record):
    """An adapter whose holder is known: what its use is to be credited, and paid, to.

    `purpose` is `add` where it brings a style or work in, and `extract` where it takes one out (`extracts` says which
    work, as BANK/ID). `price` is for one released image that it was on for, in `currency` (ISO 4217).
    """

    name: str = Field(min_length=1)
    weights_sha256: Sha256
    holder: str = Field(min_length=1)
    licence: str = ""
    price: Decimal | None = Field(default=None, ge=0)
    currency: str = Field(default="", pattern="^([A-Z]{3})?$")
    purpose: Literal["add", "extract"] = "add"
    extracts: str = ""
    registered_at: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
