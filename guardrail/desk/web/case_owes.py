"""What an image is estimated to owe to training images and adapters, in words and figures for its page and its file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guardrail.records import AdapterShare, Attribution, CreditShare, Influence

__all__ = ["InfluenceView", "OwesView", "ShareView", "owes_view"]

_NOT_FITTED = "Not estimated: no attribution of images to training pictures was computed for this model."
_UNKNOWN = "–"


@dataclass(frozen=True, slots=True)
class InfluenceView:
    """One training image, or a cluster of near-duplicates; likeness stands in columns of its own."""

    bank: str
    work_id: str
    title: str
    influence_text: str
    p_text: str
    q_text: str
    similarity_text: str
    posterior_text: str
    named: bool


@dataclass(frozen=True, slots=True)
class ShareView:
    """A share in percent: of a rights holder, of an adapter, or of nobody; a bar of `width` percent stands for it."""

    who: str
    text: str
    width: float
    negative: bool = False


@dataclass(frozen=True, slots=True)
class OwesView:
    """An estimate: its outcome in a sentence, the influences, the shares, and what it is not."""

    outcome: str
    estimated: bool = False
    influences: tuple[InfluenceView, ...] = ()
    shares: tuple[ShareView, ...] = ()
    adapters: tuple[ShareView, ...] = ()
    lines: tuple[str, ...] = ()
    method: str = ""


def owes_view(attributions: Sequence[Attribution]) -> OwesView:
    """The newest of the estimates that were made of an image; one that says so where none was."""
    if not attributions:
        return OwesView(_NOT_FITTED)
    from guardrail.study.attribution.report import headline, lines_of  # loads SciPy, which the desk starts without

    found = max(attributions, key=lambda one: one.at)
    unattributed = ShareView("nobody that can be named", f"{found.unattributed:.1%}", 100 * found.unattributed)
    words = headline(found)
    return OwesView(
        outcome=f"{words[:1].upper()}{words[1:]}.",
        estimated=True,
        influences=tuple(_influence(one) for one in found.influences),
        shares=(*(_share(one) for one in found.shares), unattributed) if found.influences else (),
        adapters=_adapters(found),
        lines=lines_of(found)[1:],
        method=_method(found),
    )


def _influence(one: Influence) -> InfluenceView:
    others = one.members - 1
    copies = f" and {others} near-duplicate{'s' if others > 1 else ''}" if others else ""
    return InfluenceView(
        bank=one.work.bank,
        work_id=one.work.work_id,
        title=f"{one.work.title or one.work.work_id}{copies}",
        influence_text=f"{one.influence:.1f}",
        p_text=_figure(one.p_value, "{:.2g}"),
        q_text=_figure(one.q_value, "{:.2g}"),
        similarity_text=_figure(one.similarity, "{:.2f}"),
        posterior_text=_figure(one.posterior, "{:.2f}"),
        named=one.named,
    )


def _figure(value: float | None, shape: str) -> str:
    return _UNKNOWN if value is None else shape.format(value)


def _share(one: CreditShare) -> ShareView:
    return ShareView(one.holder, f"{one.share:.1%} ({one.low:.1%} to {one.high:.1%})", 100 * one.share)


def _adapters(found: Attribution) -> tuple[ShareView, ...]:
    if found.base_share is None:
        return ()
    base = ShareView("the model without adapters", f"{found.base_share:.1%}", _width(found.base_share))
    return (*(_adapter(one) for one in found.adapters), base)


def _adapter(one: AdapterShare) -> ShareView:
    spread = "" if one.standard_error is None else f" ± {1.96 * one.standard_error:.1%}"
    who = f"{one.name} ({one.holder})" if one.holder else one.name
    return ShareView(who, f"{one.share:.1%}{spread}", _width(one.share), one.share < 0)


def _width(share: float) -> float:
    return min(100.0, 100 * abs(share))


def _method(found: Attribution) -> str:
    from guardrail.study.attribution.report import SAID

    method = found.method
    what = {"noise_norm": "the norm of the predicted noise", "loss": "the training loss"}[method.function]
    return (
        f"{SAID}: gradients of {what} over {method.draws} draws, {method.counters:,} numbers an image, "
        f"{method.images:,} training images and {method.decoys:,} decoys, made {found.at:%Y-%m-%d %H:%M} UTC"
    )
