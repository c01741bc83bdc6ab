"""What a manifest may say, one record for each assertion label; the published JSON schemas are made from these."""

from typing import Any, Literal, Self

from pydantic import AwareDatetime, ConfigDict, Field, model_validator

from guardrail.records import Decision, ReviewRound, Signal
from guardrail.records.base import Record, Sha256

__all__ = [
    "ActionStatement",
    "ActionsStatement",
    "AttributionStatement",
    "ContentProfile",
    "CreditStatement",
    "DisclosureStatement",
    "LimitStatement",
    "MiningEntry",
    "MiningStatement",
    "NearestStatement",
    "ReviewStatement",
    "SoftBindingBlock",
    "SoftBindingStatement",
    "VerdictStatement",
]


class ActionStatement(Record):
    """One thing that was done to the picture. C2PA 2.4, 18.15."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    action: Literal[
        "c2pa.created",
        "c2pa.opened",
        "c2pa.edited",
        "c2pa.transcoded",
        "c2pa.watermarked.bound",
        "c2pa.watermarked.unbound",
    ]
    digital_source_type: (
        Literal[
            "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
            "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia",
        ]
        | None
    ) = Field(default=None, alias="digitalSourceType")
    parameters: dict[str, Any] | None = None


class ActionsStatement(Record):
    """`c2pa.actions.v2`: all that was done, beginning with how the picture came about. C2PA 2.4, 18.15."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    actions: tuple[ActionStatement, ...] = Field(min_length=1)
    all_actions_included: Literal[True] = Field(default=True, alias="allActionsIncluded")


class ContentProfile(Record):
    """How far people were involved. C2PA 2.4, 18.28."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    human_oversight_level: Literal["fully_autonomous", "prompt_guided", "human_validated"] = Field(
        alias="humanOversightLevel"
    )


class DisclosureStatement(Record):
    """`c2pa.ai-disclosure`: the model that made the picture. C2PA 2.4, 18.28."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True, protected_namespaces=())

    model_type: str = Field(alias="modelType", pattern=r"^[\w-]+(\.[\w-]+)+$")
    model_name: str | None = Field(default=None, alias="modelName")
    model_identifier: str | None = Field(default=None, alias="modelIdentifier")
    content_profile: ContentProfile | None = Field(default=None, alias="contentProfile")


class LimitStatement(Record):
    """From where on a likeness by one signal flags and blocks; what is missing never does."""

    flag_above: float | None = Field(default=None, ge=-1, le=1)
    block_above: float | None = Field(default=None, ge=-1, le=1)
    flag_within_bits: int | None = Field(default=None, ge=0)
    block_within_bits: int | None = Field(default=None, ge=0)


class NearestStatement(Record):
    """A work that is near, by one signal, whether it reached a limit or not."""

    work_id: str
    bank: str
    signal: Signal
    similarity: float | None = Field(default=None, ge=-1, le=1)
    distance_bits: int | None = Field(default=None, ge=0)
    limit: LimitStatement | None = None


class ReviewStatement(Record):
    """That a person looked at a flagged picture and let it leave; it names nobody. `decision_id` is in the ledger."""

    decision_id: str
    outcome: Literal["release", "release_with_credit", "not_a_match"]
    round: ReviewRound
    at: AwareDatetime


class VerdictStatement(Record):
    """`org.guardrail.verdict`: why the picture was let out.

    `verdict_id` and `earlier_verdict_id` are rows of the ledger; the earlier verdict is that on the picture as it was
    generated, where it was marked or compressed since. `frames` counts the frames of a video that the verdict is on
    besides this one. `nearest` is there at detail `full` alone. It holds no prompt, no name or path of a file, and no
    explanation, which may quote them. A picture that was flagged has left by a person's decision: `review`.
    """

    schema_version: Literal[1] = 1
    verdict_id: str
    earlier_verdict_id: str | None = None
    decision: Literal[Decision.ACCEPT, Decision.FLAG]
    rule: str
    policy_sha256: Sha256
    index_snapshot: Sha256 | None
    adapter_snapshots: tuple[Sha256, ...] = ()
    calibration: str
    frames: int = Field(default=0, ge=0)
    nearest: tuple[NearestStatement, ...] | None = Field(default=None, max_length=5)
    review: ReviewStatement | None = None

    @model_validator(mode="after")
    def _flagged_ones_were_reviewed(self) -> Self:
        if self.decision is Decision.FLAG and self.review is None:
            raise ValueError("a flagged picture leaves by a person's decision only")
        return self


class CreditStatement(Record):
    """A licensed work that the picture comes near; `share` (0..1) is what it contributed, where that was measured."""

    work_id: str
    bank: str
    title: str = ""
    creator: str = ""
    rights_holder: str = ""
    licence: str = ""
    share: float | None = Field(default=None, ge=0, le=1)


class AttributionStatement(Record):
    """`org.guardrail.attribution`: whom to credit."""

    schema_version: Literal[1] = 1
    credits: tuple[CreditStatement, ...] = Field(min_length=1)
    left_out: int = Field(default=0, ge=0, description="credits that are in the ledger, and not here for their number")


class MiningEntry(Record):
    """Whether one kind of use is allowed."""

    use: Literal["allowed", "notAllowed", "constrained"]
    constraint_info: str | None = None


class MiningStatement(Record):
    """`cawg.training-mining`: whether others may mine the picture or train on it. CAWG 1.1."""

    entries: dict[
        Literal["cawg.data_mining", "cawg.ai_inference", "cawg.ai_generative_training", "cawg.ai_training"], MiningEntry
    ]


class SoftBindingBlock(Record):
    """The value of a binding over the whole picture: Base64, or as its algorithm writes it (TrustMark: `1*` and bits).

    C2PA asks for a byte string; c2pa's JSON interface has none, and its own reader takes text.
    """

    scope: dict[str, Any] = Field(default_factory=dict, max_length=0)
    value: str = Field(pattern=r"^(1\*[01]+|[A-Za-z0-9+/]+={0,2})$")


class SoftBindingStatement(Record):
    """`c2pa.soft-binding`: what finds the manifest again from the pixels. C2PA 2.4, 18.10."""

    alg: str = Field(pattern=r"^[A-Za-z]{2,63}(\.[A-Za-z0-9-]+)+$")
    blocks: tuple[SoftBindingBlock, ...] = Field(min_length=1)
