"""A verdict, a run and an output in, the assertions of a manifest out, JSON-ready, by the manifest profile v1."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any

from guardrail.act.generation import GENERATION_LABEL, GenerationStatement
from guardrail.act.iscc import ISCC_ALGORITHM, iscc_bytes, picture_iscc
from guardrail.act.naming import hub_name
from guardrail.act.statements import (
    ActionsStatement,
    ActionStatement,
    AttributionStatement,
    ContentProfile,
    CreditStatement,
    DisclosureStatement,
    LimitStatement,
    MiningEntry,
    MiningStatement,
    NearestStatement,
    ReviewStatement,
    SoftBindingBlock,
    SoftBindingStatement,
    VerdictStatement,
)
from guardrail.records import Credit, Signal

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from guardrail.carriers import OutputPicture
    from guardrail.records import GenerationContext, Limits, Neighbour, ReviewDecision, Verdict, Watermark
    from guardrail.records.base import Record
    from guardrail.release_settings import ProvenanceSettings

__all__ = [
    "ACTIONS_LABEL",
    "ATTRIBUTION_LABEL",
    "DISCLOSURE_LABEL",
    "MINING_LABEL",
    "SOFT_BINDING_LABEL",
    "STATEMENTS",
    "VERDICT_LABEL",
    "actions_assertion",
    "assertion_schema",
    "attribution_assertion",
    "disclosure_assertion",
    "iscc_assertion",
    "mining_assertion",
    "verdict_assertion",
    "watermark_assertion",
]

ACTIONS_LABEL = "c2pa.actions.v2"
ATTRIBUTION_LABEL = "org.guardrail.attribution"
DISCLOSURE_LABEL = "c2pa.ai-disclosure"
MINING_LABEL = "cawg.training-mining"
SOFT_BINDING_LABEL = "c2pa.soft-binding"
VERDICT_LABEL = "org.guardrail.verdict"
STATEMENTS: dict[str, type[Record]] = {
    ACTIONS_LABEL: ActionsStatement,
    ATTRIBUTION_LABEL: AttributionStatement,
    DISCLOSURE_LABEL: DisclosureStatement,
    GENERATION_LABEL: GenerationStatement,
    MINING_LABEL: MiningStatement,
    SOFT_BINDING_LABEL: SoftBindingStatement,
    VERDICT_LABEL: VerdictStatement,
}
"""The record behind each assertion that guardrail makes."""

_TRAINED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
_COMPOSITE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
_WATERMARK_PARAMETER = "org.guardrail.watermark"  # C2PA 2.4, 18.15.4.7: own parameters have a dotted name
_SIMILARITY_DECIMALS = 6
_MOST_NEAREST = 5  # 10,000 of them would cost 635 KB in every file
_MOST_CREDITS = 10  # the ledger has them all; each is some 200 bytes here
_LONGEST_NAME = 200  # letters of a title, creator, holder or licence
_KEPT_NOTHING = 1.0  # strength of image to image at which a run starts from noise alone
_OF_SIGNALS = {Signal.PDQ: "pdq", Signal.PHASH: "phash", Signal.COPY: "copy_", Signal.TILE: "tile", Signal.CLIP: "clip"}


def assertion_schema(label: str) -> dict[str, Any]:
    """The JSON schema (2020-12) of what this version says under a label of `STATEMENTS`; they are published in docs."""
    schema = STATEMENTS[label].model_json_schema(mode="serialization", by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema | {"title": label}


def actions_assertion(output: OutputPicture, parent_id: str = "parent") -> dict[str, Any]:
    """What was done: created by a model, or opened and edited by one; then marked, where it is.

    Without a parent the picture was created (`trainedAlgorithmicMedia`). With one it was opened, which names the parent
    and no source type, and edited: `compositeWithTrainedAlgorithmicMedia`, or `trainedAlgorithmicMedia` where the run
    is known to have kept nothing of it (strength 1). A file that was only checked was opened and transcoded: who made
    it is for its own credentials to say.

    Args:
        output: as it leaves.
        parent_id: what the parent is called when it is added as an ingredient.

    Source: C2PA 2.4, 18.15.2, 18.15.5 and 18.28.3; IPTC's digital source types.
    """
    actions = [ActionStatement(action="c2pa.created", digital_source_type=_TRAINED)]
    if output.parent is not None and output.parent.is_output:
        actions = [
            ActionStatement(action="c2pa.opened", parameters={"ingredientIds": [parent_id]}),
            ActionStatement(action="c2pa.transcoded"),
        ]
    elif output.parent is not None:
        kept_nothing = output.parent.strength is not None and output.parent.strength >= _KEPT_NOTHING
        actions = [
            ActionStatement(action="c2pa.opened", parameters={"ingredientIds": [parent_id]}),
            ActionStatement(action="c2pa.edited", digital_source_type=_TRAINED if kept_nothing else _COMPOSITE),
        ]
    if (mark := output.watermark) is not None:
        marked = {_WATERMARK_PARAMETER: mark.algorithm}
        how = "c2pa.watermarked.bound" if mark.registered else "c2pa.watermarked.unbound"
        actions.append(ActionStatement(action=how, parameters=marked))
    return _said(ActionsStatement(actions=tuple(actions)))


def watermark_assertion(mark: Watermark) -> dict[str, Any]:
    """The soft binding of a mark that C2PA lists: its payload in the algorithm's own form, or in Base64."""
    value = (
        mark.binding or b64encode(bytes.fromhex(mark.payload.zfill(len(mark.payload) + len(mark.payload) % 2))).decode()
    )
    return _said(SoftBindingStatement(alg=mark.algorithm, blocks=(SoftBindingBlock(value=value),)))


def iscc_assertion(pixels: NDArray[np.uint8]) -> dict[str, Any]:
    """The soft binding by ISCC of uint8 (H, W, 3) pixels.

    Raises:
        ExtraMissing: the extra `iscc` is not installed.
    """
    block = SoftBindingBlock(value=iscc_bytes(picture_iscc(pixels)))
    return _said(SoftBindingStatement(alg=ISCC_ALGORITHM, blocks=(block,)))


def verdict_assertion(
    verdict: Verdict, detail: str = "full", limits: Limits | None = None, review: ReviewDecision | None = None
) -> dict[str, Any]:
    """What a signed file says of its verdict; no prompt, no path or file name, no explanation, which may quote them.

    Args:
        verdict: to accept, or to flag where a person let it out.
        detail: `full`, or `summary`, which leaves the nearest works out; at `none` a caller says nothing at all.
        limits: those that it was judged by, if they are to be told beside the nearest works.
        review: the decision of that person; neither they nor their note are named.
    """
    nearest = tuple(_nearest(near, limits) for near in verdict.nearest[:_MOST_NEAREST]) if detail == "full" else None
    statement = VerdictStatement(
        verdict_id=verdict.verdict_id,
        earlier_verdict_id=verdict.earlier_verdict_id,
        decision=verdict.decision,
        rule=verdict.rule,
        policy_sha256=verdict.policy_sha256,
        index_snapshot=verdict.index_snapshot,
        adapter_snapshots=tuple(sorted(set(verdict.adapter_snapshots.values()))),
        calibration=verdict.calibration,
        frames=len(verdict.frames),
        nearest=nearest,
        review=_review(review) if review is not None else None,
    )
    return _said(statement) | {"index_snapshot": verdict.index_snapshot}


def attribution_assertion(
    verdict: Verdict, shares: Mapping[str, float] | None = None, review: ReviewDecision | None = None
) -> dict[str, Any] | None:
    """Whom to credit: the works, holders and licences that the verdict names; None where there is nobody.

    Args:
        verdict: to accept, or to flag where a person let it out.
        shares: by `BANK/WORK_ID`, what each work contributed (0..1), where a plugin has measured it.
        review: the decision of that person; where it is to release with credit, the nearest work is credited too.
    """
    owed = _owed(verdict) if review is not None and review.outcome == "release_with_credit" else verdict.credits
    if not owed:
        return None
    told = tuple(_credit(credit, shares or {}) for credit in owed[:_MOST_CREDITS])
    return _said(AttributionStatement(credits=told, left_out=len(owed) - len(told)))


def disclosure_assertion(
    context: GenerationContext | None, settings: ProvenanceSettings, *, reviewed: bool = False
) -> dict[str, Any] | None:
    """Which model made the picture; None where neither a run nor the settings name one.

    A picture that a person let out (`reviewed`) was `human_validated`, whatever the settings declare.

    The name is that in the settings, or the model's on a hub, and never a path of this machine. The identifier is a
    package URL for a model of a hub, and otherwise the digest of the weights that ran.

    Source: C2PA 2.4, 18.28.
    """
    if context is None and not settings.model_name and not reviewed:
        return None
    hub = hub_name(context) if context is not None else ""
    level = "human_validated" if reviewed else settings.human_oversight
    statement = DisclosureStatement(
        model_type=settings.model_type,
        model_name=settings.model_name or hub or None,
        model_identifier=_identifier(context, hub),
        content_profile=ContentProfile(human_oversight_level=level) if level else None,
    )
    return _said(statement)


def mining_assertion(settings: ProvenanceSettings) -> dict[str, Any] | None:
    """Whether others may mine the picture or train on it, the same for all four kinds of use; None: said nothing of."""
    if not settings.training_mining:
        return None
    use = {"allowed": "allowed", "not_allowed": "notAllowed", "constrained": "constrained"}[settings.training_mining]
    terms = settings.training_mining_terms if use == "constrained" else ""
    entry = MiningEntry.model_validate({"use": use, "constraint_info": terms or None})
    kinds = ("cawg.data_mining", "cawg.ai_inference", "cawg.ai_generative_training", "cawg.ai_training")
    return _said(MiningStatement.model_validate({"entries": dict.fromkeys(kinds, entry)}))


def _identifier(context: GenerationContext | None, hub: str) -> str | None:
    if context is None:
        return None
    if hub:
        return f"pkg:huggingface/{hub}@{context.model_revision}"
    return f"sha256:{context.weights_sha256}" if context.weights_sha256 else None


def _nearest(near: Neighbour, limits: Limits | None) -> NearestStatement:
    """Work, signal, the one measure that the signal has, and its limits."""
    field = _OF_SIGNALS.get(near.signal)
    limit = getattr(limits, field).model_dump(exclude_none=True) if limits is not None and field else {}
    similarity = None if near.similarity is None else round(near.similarity, _SIMILARITY_DECIMALS)
    return NearestStatement(
        work_id=near.work.work_id,
        bank=near.work.bank,
        signal=near.signal,
        similarity=similarity,
        distance_bits=near.distance_bits,
        limit=LimitStatement(**limit) if limit else None,
    )


def _credit(credit: Credit, shares: Mapping[str, float]) -> CreditStatement:
    names = ("title", "creator", "rights_holder", "licence")
    told = {name: _shortened(getattr(credit, name)) for name in names}
    share = shares.get(f"{credit.bank}/{credit.work_id}")
    return CreditStatement(work_id=credit.work_id, bank=credit.bank, share=share, **told)


def _owed(verdict: Verdict) -> tuple[Credit, ...]:
    """Whom a person's release with credit names: those of the verdict, and the work that is nearest."""
    nearest = [near.work for near in verdict.nearest[:1]]
    named = {(one.bank, one.work_id) for one in verdict.credits}
    added = tuple(
        Credit(
            work_id=work.work_id,
            bank=work.bank,
            title=work.title,
            creator=work.creator,
            rights_holder=work.rights_holder,
            licence=work.licence,
        )
        for work in nearest
        if (work.bank, work.work_id) not in named
    )
    return verdict.credits + added


def _review(review: ReviewDecision) -> ReviewStatement:
    said = {"decision_id": review.decision_id, "outcome": review.outcome, "round": review.round, "at": review.at}
    return ReviewStatement.model_validate(said)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 3]}..."


def _said(statement: Record) -> dict[str, Any]:
    """A statement as JSON, without what is not said."""
    return statement.model_dump(mode="json", exclude_none=True, by_alias=True)
