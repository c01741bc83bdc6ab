"""What is due to whom for what was released."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal

from pydantic import AwareDatetime, Field

from guardrail.records.base import Record, Sha256

__all__ = [
    "AdapterUse",
    "CopyRate",
    "CreditReport",
    "ExtractionReport",
    "PricedUse",
    "UnregisteredUse",
    "WeightsUsed",
    "WorkUse",
]


class WeightsUsed(Record):
    """At which weights an adapter was on; None where no run says one."""

    low: float | None = None
    mean: float | None = None
    high: float | None = None


class PricedUse(Record):
    """Released images at one price: those that were released while it held; a price of None is none agreed."""

    price: Decimal | None = Field(default=None, ge=0)
    images: int = Field(ge=1)


class AdapterUse(Record):
    """What one registered adapter was used for: `images` that were released with it on, and `amount` due for them.

    It is counted per holder and currency, so that one that changed hands is there twice. `prices` add up to `amount`.
    `share` is the mean of its Shapley shares over the `attributed` images, those of which one was kept; None where none
    was. `extracts` is the work that an adapter with the purpose `extract` takes out.
    """

    holder: str
    name: str
    weights_sha256: Sha256
    licence: str = ""
    purpose: Literal["add", "extract"] = "add"
    extracts: str = ""
    images: int = Field(ge=1)
    weights: WeightsUsed = WeightsUsed()
    share: float | None = None
    attributed: int = Field(default=0, ge=0)
    prices: tuple[PricedUse, ...] = ()
    amount: Decimal = Field(default=Decimal(0), ge=0)
    currency: str = Field(default="", pattern="^([A-Z]{3})?$")


class UnregisteredUse(Record):
    """Released images with an adapter that nobody had registered by then, so that nothing is due to anybody known.

    `weights_sha256` is None where a run could not read it. `registered_since` says that it is registered now.
    """

    name: str
    weights_sha256: Sha256 | None = None
    kind: str = "lora"
    images: int = Field(ge=1)
    weights: WeightsUsed = WeightsUsed()
    registered_since: bool = False


class WorkUse(Record):
    """Released images that come near one licensed work, of which its maker is credited."""

    holder: str
    bank: str
    work_id: str
    title: str = ""
    creator: str = ""
    licence: str = ""
    images: int = Field(ge=1)


class CreditReport(Record):
    """What was released in a time, and what is due for it: nothing in it is a payment.

    `images` were released and stand. Of `runs_unknown` nobody knows how they were made, of `adapters_unread` not all
    adapters could be read: both are in no line of adapters. `erased` counts releases whose rows were erased, at any
    time. `amounts` are due in each currency, `extractions` those adapters that take a work out.
    """

    schema_version: Literal[1] = 1
    organisation: str = "default"
    since: AwareDatetime | None = None
    until: AwareDatetime
    made_at: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    images: int = Field(ge=0)
    without_adapters: int = Field(ge=0)
    runs_unknown: int = Field(default=0, ge=0)
    adapters_unread: int = Field(default=0, ge=0)
    erased: int = Field(default=0, ge=0)
    adapters: tuple[AdapterUse, ...] = ()
    extractions: tuple[AdapterUse, ...] = ()
    unregistered: tuple[UnregisteredUse, ...] = ()
    works: tuple[WorkUse, ...] = ()
    amounts: dict[str, Decimal] = Field(default_factory=dict)


class CopyRate(Record):
    """How many of the pictures generated from the same seeds were found to be copies of a work, and the 95 % interval.

    The interval is that of Clopper and Pearson.
    """

    copies: int = Field(ge=0)
    generated: int = Field(ge=1)
    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)


class ExtractionReport(Record):
    """What an adapter that is to take a work out of a model did: the same seeds with it and without.

    `with_adapter` and `without` are copy rates by the guard's own check, `p_value` that of their difference (McNemar's
    exact test, one-sided: with the adapter there are fewer). `known_with` and `known_without` say how far the model's
    denoising loss of the work's picture lies below that of knowing nothing; `known_error` is the standard error of
    their difference over the draws. `share` is the adapter's Shapley share in the work's picture, negative where it
    takes the work out; None where the model knows too little of the picture for shares. `took_out` says that the copy
    rate fell (p-value below .05) or that there was none and the model knows less of the picture (2 standard errors).
    """

    schema_version: Literal[1] = 1
    model: str
    adapter: str
    weights_sha256: Sha256 | None = None
    weight: float
    work: str
    seed: int = Field(ge=0)
    draws: int = Field(ge=1)
    with_adapter: CopyRate
    without: CopyRate
    p_value: float = Field(ge=0, le=1)
    known_with: float
    known_without: float
    known_error: float = Field(ge=0)
    share: float | None = None
    took_out: bool
    warnings: tuple[str, ...] = ()
    made_at: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
