"""What the figures of a disputed image say: the outcome, the sentence, and what takes weight from it."""

import pytest

from guardrail.desk.attribute_audit_words import cautions, outcome_of, reason_of
from guardrail.records import DisputeReport, DisputeTraining, GroupMove
from guardrail.study.attribution.retraining import chance_of


def move(measure, moved, *others):
    return GroupMove(measure=measure, moved=moved, others=others, p_value=chance_of(moved, others))


def said(moves, **more):
    how = DisputeTraining(steps=1, batch=1, rate=1e-4, seed=0, trained="all", fresh=more.pop("fresh", False))
    outcome, digest = outcome_of(moves), "0" * 64
    facts = {"pipeline": "m", "weights_sha256": digest, "training": "t", "training_pictures": 9, "image_sha256": digest}
    rest = {"seed": 0, "off_pixels": 0.0, "chosen_by": "name", "how": how, "planned": 9, "moves": tuple(moves)}
    return DisputeReport(outcome=outcome, reason=reason_of(outcome, moves, 2), **(facts | rest | more))


@pytest.mark.parametrize(
    ("moved", "others", "outcome"),
    [
        (0.5, [0.1] * 9, "moved"),
        (0.1, [0.1] * 9, "not_moved"),
        (0.5, [0.1] * 8 + [0.6], "not_moved"),
        (0.5, [0.1] * 18 + [0.6], "moved"),
        (0.5, [0.1] * 8, "could_not_tell"),
    ],
)
def test_outcome_goes_by_the_copy_descriptor_and_its_random_groups(moved, others, outcome):
    assert outcome_of([move("copy", moved, *others), move("pixels", 0.0, *others)]) == outcome


def test_nothing_measured_could_not_be_told():
    assert outcome_of([]) == "could_not_tell"
    assert "the same command goes on" in reason_of(outcome_of([]), [], 3)


def test_reason_counts_the_groups_that_move_it_as_far():
    reason = said([move("copy", 0.5, *[0.1] * 8, 0.7)]).reason
    assert "without 2 pictures of the group it moved by 0.500" in reason
    assert "1 of 9 random groups of that size moved it as far (p = 0.2)" in reason


def test_seed_that_makes_another_image_is_a_caution():
    assert "does not make the disputed image" in cautions(said([], off_pixels=0.021))[0]
    assert cautions(said([], off_pixels=0.02)) == ()


def test_training_that_moves_the_image_by_itself_is_a_caution_but_not_from_new_weights():
    moves = [move("copy", 0.1, *[0.1] * 9), move("pixels", 0.1, *[0.05] * 8, 0.3)]
    assert cautions(said(moves, drift_pixels=0.15)) == ()
    assert "0.300 at most" in cautions(said(moves, drift_pixels=0.16))[0]
    assert cautions(said(moves, drift_pixels=0.16, fresh=True)) == ()
