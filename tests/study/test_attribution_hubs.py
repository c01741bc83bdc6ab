import numpy as np
import pytest
from pulled import World

from guardrail.attribution_errors import AttributionImpossible
from guardrail.study.attribution.hubs import LEAST_REFERENCES, Baseline, centre_and_spread
from guardrail.study.attribution.naming import NamingRule, named
from guardrail.study.attribution.pulls import Pulls, measured, without_self


def hub_world(seed=0):
    """A training image with a long gradient; where much is damped, it is influential on everything."""
    world = World(training=100, decoys=60, seed=seed)
    world.damped = 10.0
    world.rows[11] *= 4 * np.sqrt((world.rows**2).sum(axis=1).mean() / (world.rows[11] ** 2).sum())
    return world


def share_named(worlds, row, **settings):
    """How often a row is named on pictures that owe it nothing, at a p-value of .05."""
    found = []
    for world in worlds:
        baseline = world.baseline(**settings)
        asked = [world.influence(world.asked(parts=1)) for _ in range(30)]
        found += [named(baseline, influence, NamingRule("p_value", at_p=0.05)).named[row] for influence in asked]
    return np.mean(found)


def test_a_hub_stands_out_everywhere_unless_it_is_held_against_itself():
    assert share_named([hub_world(seed) for seed in range(6)], 11, hubs=False) > 0.15
    assert share_named([hub_world(seed) for seed in range(6)], 11) <= 0.09


def test_a_hub_is_named_on_a_picture_that_is_made_of_it():
    world = hub_world()
    found = named(world.baseline(), world.influence(world.asked((11, 1.0))), NamingRule("rate"))
    assert np.flatnonzero(found.named).tolist() == [11]


def test_copies_of_an_unrelated_image_are_named_no_more_often_than_one():
    worlds = [World(training=60, decoys=60, seed=seed) for seed in range(12)]
    for world in worlds:
        world.copy(20, 10)
    assert share_named(worlds, 20, hubs=False) > 0.09  # the sum of ten varies more than single decoys do
    assert share_named(worlds, 20) <= 0.08


def test_ten_copies_share_one_influence_and_are_named_as_one():
    world = World(training=100, decoys=60, seed=3)
    world.copy(20, 10)
    pulls, references = world.measured(world.asked((20, 0.5)))
    alone = Baseline.of(references, world.decoys, np.arange(160)).values(pulls.influence)
    together = Baseline.of(references, world.decoys, world.labels)
    values = together.values(pulls.influence)
    assert together.clusters == 91
    assert pulls.influence[20:30].sum() > 5 * pulls.influence[20:30].max()
    assert values.clusters[20] > alone.clusters[20:30].max()
    assert int(values.clusters.argmax()) == 20


def test_values_do_not_depend_on_the_units_of_a_picture():
    world = World(training=40, decoys=30)
    baseline = world.baseline()
    influence = world.influence(world.asked((3, 0.5)))
    assert baseline.values(7 * influence).clusters == pytest.approx(baseline.values(influence).clusters)


def test_what_all_training_images_have_in_common_makes_none_stand_out():
    world = World(training=100, decoys=60)
    baseline = world.baseline()
    plain = world.influence(world.asked((3, 1.0)))
    raised = plain + np.where(world.decoys, 0.0, 3 * np.std(plain[world.decoys]))
    before, after = baseline.values(plain), baseline.values(raised)
    assert after.shift > before.shift + 1
    assert (after.decoys == before.decoys).all()
    assert np.median(after.clusters) <= 1e-9
    assert centre_and_spread(after.clusters[None])[1] <= 1 + 1e-9
    rule = NamingRule("rate")
    assert named(baseline, raised, rule).named.sum() <= 3
    assert int(after.clusters.argmax()) == 3


def test_training_images_that_lie_lower_than_decoys_are_not_raised():
    world = World(training=100, decoys=60)
    lowered = world.influence(world.asked()) - np.where(world.decoys, 0.0, 10.0)
    values = world.baseline().values(lowered)
    assert values.shift == 0
    assert np.median(values.clusters) < 0


def test_a_decoy_that_is_a_training_image_is_left_out_with_its_own_reference():
    world = World(training=40, decoys=30)
    world.rows[45], world.labels[45] = world.rows[4], 4
    world.rows[51], world.labels[51] = world.rows[50], 50  # and two decoys that are one
    baseline = world.baseline()
    assert 45 not in baseline.decoys and 51 not in baseline.decoys and 50 in baseline.decoys
    assert len(baseline.decoys) == 28
    assert baseline.references == 28
    values = baseline.values(world.influence(world.asked((4, 1.0))))
    assert len(values.decoys) == 28
    assert values.decoys.max() < values.clusters[4]


@pytest.mark.parametrize("decoys", [LEAST_REFERENCES - 1, LEAST_REFERENCES])
def test_too_few_references_correct_nothing(decoys):
    baseline = World(training=40, decoys=decoys).baseline()
    assert baseline.references == (decoys if decoys == LEAST_REFERENCES else 0)
    assert (baseline.spread == 1).all() == (decoys < LEAST_REFERENCES)


def test_spread_of_rows_that_are_nearly_all_one_value_is_not_zero():
    centre, spread = centre_and_spread(np.array([[1.0, 1.0, 1.0, 5.0], [2.0, 2.0, 2.0, 2.0], [1.0, 2.0, 3.0, np.nan]]))
    assert centre.tolist() == [1.0, 2.0, 2.0]
    assert spread == pytest.approx([1.0, 1.0, 1.4826])


def test_plain_influence_is_that_of_the_smaller_matrix():
    world = World(training=30, decoys=20)
    parts = world.asked()
    pulls, references = measured(world.rows, world.decoys, parts, 0.3)
    kernel = world.rows.T @ world.rows + 0.3 * np.eye(world.rows.shape[1])
    assert pulls.influences == pytest.approx(np.linalg.solve(kernel, parts.T).T @ world.rows.T, abs=1e-8)
    assert pulls.influence == pytest.approx(np.linalg.solve(kernel, parts.mean(0)) @ world.rows.T, abs=1e-8)
    asked = np.linalg.solve(kernel, world.rows[world.decoys].T).T @ world.rows.T
    assert references == pytest.approx(without_self(asked, np.arange(30, 50)), abs=1e-8, nan_ok=True)
    assert np.isnan(references).sum() == 20


def test_pulls_that_do_not_fit_or_are_not_finite_are_refused():
    good = np.zeros((2, 5))
    with pytest.raises(AttributionImpossible, match="ask all parts"):
        Pulls(good, good[:, :4], np.zeros((2, 2)))
    with pytest.raises(AttributionImpossible, match="fit the gradients again"):
        Pulls(good + np.nan, good, np.zeros((2, 2)))


def test_references_that_do_not_fit_are_refused():
    world = World(training=30, decoys=20)
    references = world.measured(world.asked())[1]
    with pytest.raises(AttributionImpossible, match="ask the references about all rows"):
        Baseline.of(references[:, :-1], world.decoys, world.labels)
    with pytest.raises(AttributionImpossible):
        Baseline.of(np.where(np.isnan(references), np.inf, references), world.decoys, world.labels)
