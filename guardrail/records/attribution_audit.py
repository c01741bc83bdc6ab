"""What an audit of one disputed image found: how far it moves without some training images, and what goes with it."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal

from pydantic import AwareDatetime, Field

from guardrail.records.base import Record, Seed, Sha256

__all__ = ["DisputeOutcome", "DisputeReport", "DisputeTraining", "GroupMove", "UnlearnedImage"]


class DisputeOutcome(StrEnum):
    """Whether an image moved farther without the group than without random groups; cut short, it could not be told."""

    MOVED = "moved"
    NOT_MOVED = "not_moved"
    COULD_NOT_TELL = "could_not_tell"


class DisputeTraining(Record):
    """How a model was trained on with and without a group; moves are compared only where these agree.

    `trained` says which weights: `all`, patterns of names, or a LoRA of a rank. `fresh`: from weights drawn anew, as if
    the model had never seen any image; otherwise from those that know the group already.
    """

    steps: int = Field(ge=1)
    batch: int = Field(ge=1)
    rate: float = Field(gt=0)
    seed: Seed
    trained: str = Field(min_length=1)
    fresh: bool = False


class GroupMove(Record):
    """How far an image moved by one measure without the group, and without random groups of the same size.

    `copy` is 1 less the cosine of the copy descriptors (0..2), `pixels` the root of the mean squared difference (0..1),
    `loss` how far the model's loss on the image rises. `p_value` is (1 + random groups that move it as far) over
    (1 + all of them).
    """

    measure: Literal["copy", "pixels", "loss"]
    moved: float
    others: tuple[float, ...]
    p_value: float = Field(ge=0, le=1)


class UnlearnedImage(Record):
    """One training image, and what it has to do with a disputed image, each in a column of its own.

    `loss_rise` is how far the model's loss on it rises when the disputed image is unlearned; `similarity` the cosine of
    the copy descriptors, `posterior` the share by the patch posterior.
    """

    image: str = Field(min_length=1)
    in_group: bool = False
    loss_rise: float | None = None
    similarity: float = Field(ge=-1, le=1)
    posterior: float = Field(ge=0, le=1)


class DisputeReport(Record):
    """What an audit of one disputed image found, under this model and this training; never proof of copying.

    `image_sha256` is that of the pixels that were disputed; `seed`, `prompt` and `class_label` make it. `off_pixels` is
    how far what they make is from it, `drift_pixels` how far that moved by training on with everything, both as the
    root of the mean squared difference. `group` names what was left out, chosen by `name` or by `retrieval`. `planned`
    counts random groups. `images` are the candidates of retrieval, the most unlearned first. `own_loss` is the disputed
    image's loss before and after it was unlearned.
    """

    schema_version: Literal[1] = 1
    at: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    outcome: DisputeOutcome
    reason: str = Field(min_length=1)
    pipeline: str
    weights_sha256: Sha256
    training: str
    training_pictures: int = Field(ge=0)
    image_sha256: Sha256
    seed: Seed
    prompt: str | None = Field(default=None, repr=False)
    class_label: int | None = None
    off_pixels: float = Field(ge=0, le=1)
    drift_pixels: float | None = Field(default=None, ge=0, le=1)
    group: tuple[str, ...] = ()
    chosen_by: Literal["name", "retrieval"]
    how: DisputeTraining
    planned: int = Field(ge=0)
    moves: tuple[GroupMove, ...] = ()
    images: tuple[UnlearnedImage, ...] = ()
    own_loss: tuple[float, ...] = ()
    warnings: tuple[str, ...] = ()
    versions: dict[str, str] = Field(default_factory=dict)
