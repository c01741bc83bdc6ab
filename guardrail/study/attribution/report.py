"""Arrays and works in, the record of what an image is estimated to owe out, and the words in which it is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from guardrail.attribution_errors import AttributionImpossible
from guardrail.records import Attribution, AttributionMethod, Influence, Work
from guardrail.study.attribution.checking import NamingCheck
from guardrail.study.attribution.hubs import Baseline
from guardrail.study.attribution.naming import Named, NamingRule, named
from guardrail.study.attribution.pulls import Pulls
from guardrail.study.attribution.shares import shares_of
from guardrail.study.attribution.stability import stability

__all__ = ["SAID", "Likeness", "ReportRule", "attributed", "check_line", "headline", "lines_of"]

SAID = "estimated influence under this model and method"
"""What every figure of influence is, in the words that go with it everywhere."""

_FIRM = 0.5  # Jaccard: two thirds of the most influential by one half of the draws are so by the other half
_LOOSE = 0.2  # a third; as far as two good methods agree with each other (TRAK and D-TRAK, 1,000 of 5,000)

Array = NDArray[np.float64]


class ReportRule(NamedTuple):
    """What a report holds.

    Attributes:
        naming: when a cluster is named.
        shown: the most influential that are kept, named or not; those named are kept in any case.
        top: how many the halves of the draws are to agree on.
        seed: of the bootstrap, and of the ways to halve the draws.
    """

    naming: NamingRule = NamingRule()
    shown: int = 20
    top: int = 20
    seed: int = 0


class Likeness(NamedTuple):
    """How alike the image and the N training images are, which is told beside influence and never mixed into it.

    Attributes:
        similarity: float (N,), cosine of copy descriptors, -1..1; None where nobody looked.
        posterior: float (N,), of the patch posterior, 0..1, together 1 at most; None where nobody looked.
    """

    similarity: NDArray[np.floating] | None = None
    posterior: NDArray[np.floating] | None = None


def attributed(
    pulls: Pulls,
    baseline: Baseline,
    works: Sequence[Work],
    method: AttributionMethod,
    rule: ReportRule | None = None,
    likeness: Likeness | None = None,
) -> Attribution:
    """What one image is estimated to owe to training images.

    Args:
        pulls: of the image.
        baseline: of the index.
        works: of the N training images, in the order of their rows.
        method: how the gradients were made; the naming rule is entered into it.
        rule: what the report holds; default: `ReportRule()`.
        likeness: of the image and the N training images.

    Returns:
        The record, with influences by falling value, without verdict and adapters (`model_copy(update=...)` adds them).

    Raises:
        AttributionImpossible: there are not as many works or likenesses as training images.
    """
    rule, likeness = rule or ReportRule(), likeness or Likeness()
    training = np.flatnonzero(baseline.cluster >= 0)
    for what, given in {"works": works, "similarities": likeness.similarity, "posteriors": likeness.posterior}.items():
        if given is not None and len(given) != len(training):
            each = "give one for each training image"
            raise AttributionImpossible(what, str(len(given)), str(len(training)), each)
    found = named(baseline, pulls.influence, rule.naming)
    shares = shares_of(pulls, baseline, found, works, rule.seed)
    halves = stability(pulls.influences, rule.top, rule.seed, lambda half: baseline.values(half).clusters)
    order = np.argsort(-found.values.clusters, kind="stable")
    told = [at for place, at in enumerate(order.tolist()) if place < rule.shown or found.named[at]]
    return Attribution(
        method=_entered(method, rule.naming),
        influences=tuple(_told(at, found, _members(at, pulls, baseline, training), works, likeness) for at in told),
        agreement=halves.jaccard if halves else None,
        rank_agreement=halves.rank_agreement if halves else None,
        shares=shares.by_holder,
        unattributed=shares.unattributed,
        decoys_needed=found.decoys_needed,
    )


def headline(attribution: Attribution) -> str:
    """The outcome in one sentence."""
    count = len(attribution.named)
    if not count and attribution.decoys_needed:
        return (
            f"no training image can be named: {attribution.method.decoys:,} decoys are too few, "
            f"{attribution.decoys_needed:,} are needed"
        )
    if not count:
        return "no single training image stands out"
    return "1 training image stands out" if count == 1 else f"{count:,} training images stand out"


def lines_of(attribution: Attribution) -> tuple[str, ...]:
    """The report in lines for a person: the outcome, who stands out, the shares, how firm it is, and what it is not."""
    lines = [headline(attribution)]
    lines += [_named_line(one) for one in attribution.named]
    lines += [
        f"{one.holder}: {one.share:.1%} ({one.low:.1%} to {one.high:.1%}) of the picture's pull on the model"
        for one in attribution.shares
    ]
    if attribution.shares:
        lines.append(f"unattributed: {attribution.unattributed:.1%}")
    if attribution.agreement is not None:
        lines.append(_agreement_line(attribution.agreement))
    lines.append(_rule_line(attribution.method))
    lines.append(f"{SAID}: no proof that anything was copied, and another method may rank otherwise")
    return tuple(lines)


def check_line(check: NamingCheck) -> str:
    """How often something is named falsely, in one sentence."""
    if not check.pictures:
        return "false naming cannot be counted: there are too few decoys to hold any out"
    return (
        f"on {check.pictures:,} decoys asked about as pictures, anything was named for {check.naming:,} "
        f"({check.naming / check.pictures:.1%}); "
        f"of decoys passed off as training images {check.decoys_named:.2%} were named"
    )


def _named_line(one: Influence) -> str:
    copies = f", {one.members} near-duplicates counted as one" if one.members > 1 else ""
    alike = "" if one.similarity is None else f"; similarity {one.similarity:.2f}, which is another thing"
    return (
        f"{one.work.bank}/{one.work.work_id}: influence {one.influence:.1f} x the decoys' spread, "
        f"p {one.p_value:.2g}, q {one.q_value:.2g}{copies}{alike}"
    )


def _agreement_line(agreement: float) -> str:
    firm = "firm" if agreement >= _FIRM else "loose" if agreement >= _LOOSE else "weak, ask with more draws"
    return f"two halves of the draws agree on the most influential by a Jaccard index of {agreement:.2f}: {firm}"


def _rule_line(method: AttributionMethod) -> str:
    at_p = f"p <= {method.name_at_p:g} among {method.decoys:,} decoys"
    at_rate = f"at most {method.name_at_rate:.0%} of those named false"
    asked = {"p_value": at_p, "rate": at_rate, "both": f"{at_p}, and {at_rate}"}[method.named_by]
    return f"named are those of {method.images:,} training images that pass {asked}"


def _entered(method: AttributionMethod, rule: NamingRule) -> AttributionMethod:
    """The method with the naming rule that was used."""
    entered = {"named_by": rule.by, "name_at_p": rule.at_p, "name_at_rate": rule.at_rate}
    return AttributionMethod.model_validate(method.model_dump() | entered)


def _members(cluster: int, pulls: Pulls, baseline: Baseline, training: NDArray[np.intp]) -> NDArray[np.intp]:
    """The training images of a cluster, 0..N-1, the most influential first."""
    members = np.flatnonzero(baseline.cluster[training] == cluster)
    return members[np.argsort(-pulls.influence[training[members]], kind="stable")]


def _told(
    cluster: int, found: Named, members: NDArray[np.intp], works: Sequence[Work], likeness: Likeness
) -> Influence:
    similarity, posterior = likeness
    return Influence(
        work=works[int(members[0])],
        influence=float(found.values.clusters[cluster]),
        p_value=float(found.p_value[cluster]) if len(found.p_value) else None,
        q_value=float(found.q_value[cluster]) if len(found.q_value) else None,
        named=bool(found.named[cluster]),
        members=len(members),
        similarity=None if similarity is None else float(np.clip(similarity[members].max(), -1, 1)),
        posterior=None if posterior is None else float(np.clip(posterior[members].sum(), 0, 1)),
    )
