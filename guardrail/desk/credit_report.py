"""The usage ledger and the register of adapters in, what is due to whom out: as a record, a table or CSV."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

from guardrail.memory import AdapterEntry, Memory, UsedImage
from guardrail.records import (
    Adapter,
    AdapterUse,
    Credit,
    CreditReport,
    PricedUse,
    RegisteredAdapter,
    UnregisteredUse,
    WeightsUsed,
    WorkUse,
)

__all__ = ["credit_report", "csv_of"]

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # cells that spreadsheets would run begin so
_COLUMNS = (
    "line",
    "holder",
    "name",
    "sha256_or_work",
    "licence",
    "images",
    "weight_low",
    "weight_mean",
    "weight_high",
    "share_mean",
    "share_images",
    "price",
    "amount",
    "currency",
    "extracts",
    "since",
    "until",
)


class _Line(NamedTuple):
    """What uses are counted by."""

    holder: str
    weights_sha256: str
    purpose: str
    currency: str


@dataclass(slots=True)
class _Counted:
    """What was counted of one adapter."""

    said: RegisteredAdapter | None = None
    seen: Adapter | None = None
    images: int = 0
    weights: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    prices: Counter[Decimal | None] = field(default_factory=Counter)

    def weights_used(self) -> WeightsUsed:
        if not self.weights:
            return WeightsUsed()
        mean = sum(self.weights) / len(self.weights)
        return WeightsUsed(low=min(self.weights), mean=mean, high=max(self.weights))


@dataclass(slots=True)
class _Sums:
    """All that is counted in a time."""

    images: int = 0
    without_adapters: int = 0
    runs_unknown: int = 0
    adapters_unread: int = 0
    registered: dict[_Line, _Counted] = field(default_factory=dict)
    unregistered: dict[tuple[str, str | None], _Counted] = field(default_factory=dict)
    works: dict[tuple[str, str], Counter[Credit]] = field(default_factory=dict)


def credit_report(
    memory: Memory,
    since: datetime | None = None,
    until: datetime | None = None,
    organisation: str = "default",
) -> CreditReport:
    """What was released in a time with which adapters and near which licensed works, and what is due for it.

    A use is priced by what the register said when the image was released: by the last row of the adapter that stands
    before the release's row in the ledger. Adapters are known by their digest alone, never by a name.

    Args:
        memory: the ledger.
        since: that and later; aware. Default: from the beginning.
        until: before that; aware. Default: now.
        organisation: whose images, and whose register.

    Raises:
        MemoryUnwritable: the ledger cannot be read.
        LedgerBroken: a row was edited.
    """
    until = until or datetime.now(UTC)
    register = _Register(memory.adapters.entries(organisation))
    sums = _Sums()
    for image in memory.usage.images(since, until, organisation):
        _count(image, register, sums)
    uses = [_use(line, one) for line, one in sorted(sums.registered.items())]
    amounts: dict[str, Decimal] = {}
    for one in uses:
        if one.currency:
            amounts[one.currency] = amounts.get(one.currency, Decimal(0)) + one.amount
    return CreditReport(
        organisation=organisation,
        since=since,
        until=until,
        images=sums.images,
        without_adapters=sums.without_adapters,
        runs_unknown=sums.runs_unknown,
        adapters_unread=sums.adapters_unread,
        erased=memory.usage.erased(),
        adapters=tuple(one for one in uses if one.purpose == "add"),
        extractions=tuple(one for one in uses if one.purpose == "extract"),
        unregistered=_unregistered(sums, register),
        works=_works(sums),
        amounts=dict(sorted(amounts.items())),
    )


class _Register:
    """What was said of each adapter, by its digest, in the order of the ledger."""

    def __init__(self, entries: Sequence[AdapterEntry]) -> None:
        self._by_digest: dict[str, list[AdapterEntry]] = {}
        for one in entries:
            self._by_digest.setdefault(one.adapter.weights_sha256, []).append(one)

    def at(self, weights_sha256: str | None, sequence: int | None = None) -> RegisteredAdapter | None:
        """What held at a row of the ledger, or holds now; None where nothing did."""
        entries = self._by_digest.get(weights_sha256 or "", [])
        held = [one for one in entries if sequence is None or one.sequence < sequence]
        return held[-1].adapter if held and held[-1].change == "registered" else None


def _count(image: UsedImage, register: _Register, sums: _Sums) -> None:
    sums.images += 1
    for credit in image.credits:
        sums.works.setdefault((credit.bank, credit.work_id), Counter())[credit] += 1
    if image.run is None:
        sums.runs_unknown += 1
        return
    sums.adapters_unread += image.run.is_unread("adapters")
    sums.without_adapters += not image.run.adapters and not image.run.is_unread("adapters")
    for laid in _by_adapter(image.run.adapters):
        adapter = laid[0]
        said = register.at(adapter.sha256, image.sequence)
        if said is None:
            counted = sums.unregistered.setdefault((adapter.name, adapter.sha256), _Counted())
        else:
            line = _Line(said.holder, said.weights_sha256, said.purpose, said.currency)
            counted = sums.registered.setdefault(line, _Counted())
            counted.said = said
            counted.prices[said.price] += 1
        counted.seen = adapter
        counted.images += 1
        counted.weights += [one.weight for one in laid if one.weight is not None]
        counted.shares += _share_of(adapter, image)


def _by_adapter(adapters: Iterable[Adapter]) -> list[list[Adapter]]:
    """Adapters as laid over parts: one that lies over two parts is one use."""
    found: dict[tuple[str, str], list[Adapter]] = {}
    for one in adapters:
        key = ("sha256", one.sha256) if one.sha256 else ("name", f"{one.kind} {one.name}")
        found.setdefault(key, []).append(one)
    return list(found.values())


def _share_of(adapter: Adapter, image: UsedImage) -> list[float]:
    """Its Shapley share in an image, where one was kept: found by its digest, or by name where that has none."""
    for one in image.shares or ():
        same = one.sha256 == adapter.sha256 if one.sha256 and adapter.sha256 else one.name == adapter.name
        if same:
            return [one.share]
    return []


def _use(line: _Line, one: _Counted) -> AdapterUse:
    said = one.said
    assert said is not None, "a registered use has its entry"
    prices = sorted(one.prices.items(), key=lambda priced: (priced[0] is None, priced[0] or Decimal(0)))
    return AdapterUse(
        holder=line.holder,
        name=said.name,
        weights_sha256=line.weights_sha256,
        licence=said.licence,
        purpose=said.purpose,
        extracts=said.extracts,
        images=one.images,
        weights=one.weights_used(),
        share=sum(one.shares) / len(one.shares) if one.shares else None,
        attributed=len(one.shares),
        prices=tuple(PricedUse(price=price, images=images) for price, images in prices),
        amount=sum(((price or Decimal(0)) * images for price, images in prices), Decimal(0)),
        currency=line.currency,
    )


def _unregistered(sums: _Sums, register: _Register) -> tuple[UnregisteredUse, ...]:
    order = sorted(sums.unregistered.items(), key=lambda item: (-item[1].images, item[0][0], item[0][1] or ""))
    return tuple(
        UnregisteredUse(
            name=name,
            weights_sha256=digest,
            kind=one.seen.kind if one.seen else "lora",
            images=one.images,
            weights=one.weights_used(),
            registered_since=register.at(digest) is not None,
        )
        for (name, digest), one in order
    )


def _works(sums: _Sums) -> tuple[WorkUse, ...]:
    """Works by holder; of one that was described in several ways, the commonest."""
    found = []
    for (bank, work_id), said in sums.works.items():
        credit = said.most_common(1)[0][0]
        found.append(
            WorkUse(
                holder=credit.rights_holder or credit.creator,
                bank=bank,
                work_id=work_id,
                title=credit.title,
                creator=credit.creator,
                licence=credit.licence,
                images=said.total(),
            )
        )
    return tuple(sorted(found, key=lambda one: (one.holder, -one.images, one.bank, one.work_id)))


# --- CSV ------------------------------------------------------------------------------------------------------------


def csv_of(report: CreditReport) -> Iterator[str]:
    """A report as lines of CSV with a head: a line for each adapter and price, each unknown adapter and each work.

    Cells that a spreadsheet would run as a formula begin with an apostrophe.
    """
    yield _line(_COLUMNS)
    time = {"since": report.since.isoformat() if report.since else "", "until": report.until.isoformat()}
    for use in (*report.adapters, *report.extractions):
        for at, priced in enumerate(use.prices):
            yield _line(_cells(_of_adapter(use, priced, is_first=at == 0) | time))
    for unknown in report.unregistered:
        weights = _of_weights(unknown.weights)
        said = {"line": "unregistered", "name": unknown.name, "sha256_or_work": unknown.weights_sha256}
        yield _line(_cells(said | {"images": unknown.images} | weights | time))
    for work in report.works:
        said = {"line": "work", "holder": work.holder, "name": work.title, "licence": work.licence}
        yield _line(_cells(said | {"sha256_or_work": f"{work.bank}/{work.work_id}", "images": work.images} | time))


def _of_adapter(use: AdapterUse, priced: PricedUse, *, is_first: bool) -> dict[str, object]:
    """A line; weights and shares are of all images of the adapter, and stand in its first."""
    figures = {**_of_weights(use.weights), "share_mean": use.share, "share_images": use.attributed} if is_first else {}
    due = None if priced.price is None else priced.price * priced.images
    return {
        "line": "extraction" if use.purpose == "extract" else "adapter",
        "holder": use.holder,
        "name": use.name,
        "sha256_or_work": use.weights_sha256,
        "licence": use.licence,
        "images": priced.images,
        **figures,
        "price": priced.price,
        "amount": due,
        "currency": use.currency,
        "extracts": use.extracts,
    }


def _of_weights(weights: WeightsUsed) -> dict[str, object]:
    return {"weight_low": weights.low, "weight_mean": weights.mean, "weight_high": weights.high}


def _cells(said: dict[str, object]) -> list[str]:
    return [_cell(said.get(name)) for name in _COLUMNS]


def _cell(value: object) -> str:
    """A number as it is, whatever its sign; of text no formula."""
    text = "" if value is None else str(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(_FORMULA) else text


def _line(cells: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue()
