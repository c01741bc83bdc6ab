"""What the figures of a disputed image say, in sentences; for the command, the page and the record."""

from __future__ import annotations

from collections.abc import Sequence

from guardrail.records import DisputeOutcome, DisputeReport, GroupMove
from guardrail.study.audit.wording import counted

__all__ = ["FEWEST_GROUPS", "MEASURES", "SAID", "cautions", "outcome_of", "reason_of"]

FEWEST_GROUPS = 9
"""Random groups; of fewer, even one that moves the image least of all is not rarer than one in ten."""

MEASURES = {"copy": "copy descriptor", "pixels": "pixels", "loss": "the model's loss on the image"}
SAID = {
    DisputeOutcome.MOVED: "the image moves when the group is left out",
    DisputeOutcome.NOT_MOVED: "the image does not move more than without random pictures",
    DisputeOutcome.COULD_NOT_TELL: "it could not be told",
}

_DECIDES = "copy"  # the measure that the outcome goes by, chosen before any was taken
_RARE = 0.1  # p-value at which the group moves the image; nine random groups reach it
_OFF_PIXELS = 0.02  # root of the mean squared difference at which two pictures are no longer one saved twice (JPEG)


def outcome_of(moves: Sequence[GroupMove]) -> DisputeOutcome:
    """Moved where the copy descriptor moved farther than without all but a tenth of the random groups."""
    decides = next((one for one in moves if one.measure == _DECIDES), None)
    if decides is None or len(decides.others) < FEWEST_GROUPS:
        return DisputeOutcome.COULD_NOT_TELL
    return DisputeOutcome.MOVED if decides.p_value <= _RARE else DisputeOutcome.NOT_MOVED


def reason_of(outcome: DisputeOutcome, moves: Sequence[GroupMove], size: int) -> str:
    """One sentence: how far it moved, and how many random groups moved it as far."""
    decides = next((one for one in moves if one.measure == _DECIDES), None)
    if decides is None:
        return "the trainings that can tell are not done yet; the same command goes on"
    as_far = sum(other >= decides.moved for other in decides.others)
    of = counted(len(decides.others), "random group")
    median = sorted(decides.others)[len(decides.others) // 2]
    figures = (
        f"without {counted(size, 'picture')} of the group it moved by {decides.moved:.3f} (copy descriptor), without "
        f"random ones by {median:.3f}; {as_far} of {of} of that size moved it as far (p = {decides.p_value:.2g})"
    )
    if outcome is DisputeOutcome.COULD_NOT_TELL:
        return f"{figures}; {FEWEST_GROUPS} random groups are the fewest that can tell"
    return figures


def cautions(report: DisputeReport) -> tuple[str, ...]:
    """What takes weight from the figures, a sentence each."""
    said = []
    if report.off_pixels > _OFF_PIXELS:
        said.append(
            f"the seed does not make the disputed image (off by {report.off_pixels:.3f}): what moves is the picture it "
            "does make; give the options it was made with, such as --call num_inference_steps=50"
        )
    farthest = next((max(one.moved, *one.others) for one in report.moves if one.measure == "pixels"), None)
    drift = report.drift_pixels
    if farthest is not None and drift is not None and not report.how.fresh and drift > farthest / 2:
        said.append(
            f"training on with every picture moved the image by {drift:.3f} already, against {farthest:.3f} at most "
            "without a group: train more gently, with fewer --steps or a lower --rate"
        )
    return tuple(said)
