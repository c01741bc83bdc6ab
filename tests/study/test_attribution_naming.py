import numpy as np
import pytest
import torch
from pulled import World
from scipy.stats import false_discovery_control

from guardrail.study.attribution.hubs import Baseline, Values
from guardrail.study.attribution.naming import (
    NamingRule,
    decoys_needed,
    false_rates,
    named,
    p_values,
    pooled_p_values,
)
from guardrail.study.attribution.pulls import measured, without_self

RULES = ("p_value", "rate", "both")


def test_p_value_counts_decoys_as_high_and_the_image_itself():
    found = p_values(np.array([5.0, 3.0, 2.5, 0.0]), np.array([1.0, 3.0, 2.0]))
    assert found.tolist() == [1 / 4, 2 / 4, 2 / 4, 4 / 4]


def test_ties_count_against_naming():
    assert p_values(np.array([3.0]), np.array([3.0, 3.0, 1.0])).tolist() == [3 / 4]


def test_false_rates_are_those_of_benjamini_and_hochberg():
    p_value = np.random.default_rng(0).uniform(size=200) ** 3
    p_value[7] = p_value[8]
    assert false_rates(p_value) == pytest.approx(false_discovery_control(p_value, method="bh"))
    assert false_rates(np.empty(0)).tolist() == []


def test_pooled_p_value_is_the_rank_in_the_table_of_pictures_and_decoys():
    world = World(training=30, decoys=25)
    baseline = world.baseline()
    values = baseline.values(world.influence(world.asked((3, 0.3))))
    found = pooled_p_values(baseline, values)
    for cluster, value in enumerate(values.clusters):
        column = np.append(baseline.over_clusters[:, cluster], np.float32(value)) >= np.float32(value)
        rest = np.append(baseline.over_decoys, values.decoys) >= value
        assert found[cluster] == pytest.approx((column.sum() + rest.sum()) / (column.size + rest.size))
        assert column.size + rest.size == 26 + 25 + 25 * 24  # the table, less each decoy on itself


@pytest.mark.parametrize("tailed", [False, True])
def test_unrelated_pictures_name_at_most_what_the_rule_allows(tailed):
    images, pictures = dict.fromkeys(RULES, 0.0), dict.fromkeys(RULES, 0)
    worlds, asked = 5, 30
    for seed in range(worlds):
        world = World(training=120, decoys=60, seed=seed, tailed=tailed)
        baseline = world.baseline()
        for _ in range(asked):
            influence = world.influence(world.asked())
            for by in RULES:
                found = named(baseline, influence, NamingRule(by, at_p=0.05))
                images[by] += found.named.mean()
                pictures[by] += found.named.any()
    count = worlds * asked
    assert images["p_value"] / count <= 0.05 + 0.01
    assert pictures["rate"] / count <= 0.1 + 0.05  # all are false: at most a tenth, and two standard errors
    assert pictures["both"] <= pictures["rate"]


def test_decoys_that_are_taken_for_training_images_are_named_at_most_at_the_rate():
    # Real gradients: a network trained on N images; decoys held out stand among the training images.
    training, decoys = 100, 100
    gradients, pictures = _trained_gradients(training, decoys)
    taken = 40  # decoys that are passed off as training images
    is_decoy = np.arange(len(gradients)) >= training + taken
    damping = 0.1 * float((gradients**2).sum(axis=1).mean())
    pulls, references = measured(gradients, is_decoy, pictures, damping)  # each picture as a part: influence is linear
    baseline = Baseline.of(references, is_decoy, np.arange(len(gradients)))
    found = [named(baseline, influence, NamingRule("p_value", at_p=0.05)) for influence in pulls.influences]
    rates = [one.named[training : training + taken].mean() for one in found]
    assert np.mean(rates) <= 0.05 + 0.01


def test_an_image_that_a_picture_is_made_of_is_named_and_nothing_else():
    world = World(training=120, decoys=60)
    found = named(world.baseline(), world.influence(world.asked((17, 1.0))), NamingRule("rate"))
    assert np.flatnonzero(found.named).tolist() == [17]
    assert found.decoys_needed == 0
    assert found.values.decoys.max() < found.limit <= found.values.clusters[17]


def test_one_decoy_fewer_than_needed_names_nothing():
    for decoys, names in ((99, 1), (98, 0)):
        world = World(training=40, decoys=decoys)
        influence = world.influence(world.asked((5, 1.0)))
        found = named(world.baseline(), influence)
        assert found.named.sum() == names
        assert found.decoys_needed == (0 if names else 99)


def test_decoys_needed_for_the_rate_are_about_the_root_of_ten_for_each_image():
    needed = decoys_needed(World(training=120, decoys=20).baseline(), NamingRule("rate"))
    assert needed == 35  # 35 * 35 + 35 + 1 >= 1,200 > 34 * 34 + 34 + 1
    for decoys in (34, 35):
        world = World(training=120, decoys=decoys)
        found = named(world.baseline(), world.influence(world.asked((5, 1.0))), NamingRule("rate"))
        assert found.named.any() == (decoys == 35)


@pytest.mark.parametrize("decoys", [0, 1, 19])
def test_decoys_needed_for_the_rate_are_told_where_there_are_no_references_yet(decoys):
    assert decoys_needed(World(training=120, decoys=decoys).baseline(), NamingRule("rate")) == 35


def test_fewer_references_than_decoys_take_more_decoys():
    world = World(training=120, decoys=30)
    asked = np.flatnonzero(world.decoys)[:20]
    references = without_self(world.rows[asked] @ world.rows.T @ world.solved, asked)
    baseline = Baseline.of(references, world.decoys, world.labels)
    assert baseline.references == 20
    assert decoys_needed(baseline, NamingRule("rate")) == 58  # 1 + 58 * 21 >= 1,200 > 1 + 57 * 21


def test_without_decoys_nothing_is_named_and_there_is_no_p_value():
    world = World(training=30, decoys=0)
    found = named(world.baseline(), world.influence(world.asked((5, 1.0))))
    assert not found.named.any()
    assert not len(found.p_value) and not len(found.q_value)
    assert found.decoys_needed == 99
    assert int(found.values.clusters.argmax()) == 5


def test_both_names_what_either_alone_names():
    world = World(training=60, decoys=100)
    influence = world.influence(world.asked((5, 0.4), (6, 0.2)))
    each = {by: named(world.baseline(), influence, NamingRule(by)).named for by in RULES}
    assert each["both"].any()
    assert (each["both"] == (each["p_value"] & each["rate"])).all()


def test_without_references_the_pooled_p_value_is_that_of_the_picture():
    world = World(training=30, decoys=10)
    baseline, values = world.baseline(), Values(np.array([1.0, 9.0]), np.arange(10.0))
    assert baseline.references == 0
    two = Baseline(
        cluster=np.array([0, 1] + [-1] * 10),
        decoys=np.arange(2, 12),
        centre=np.zeros(12),
        spread=np.ones(12),
        over_clusters=np.empty((0, 2), np.float32),
        over_decoys=np.empty(0),
        references=0,
    )
    assert pooled_p_values(two, values).tolist() == p_values(values.clusters, values.decoys).tolist()


def _trained_gradients(training, decoys, side=6, pictures=30):
    """Gradients of the noise that a small network predicts: of what it was trained on, of decoys, of other pictures."""
    generator = torch.Generator().manual_seed(0)
    images = torch.nn.functional.interpolate(
        torch.rand((training + decoys + pictures, 1, 3, 3), generator=generator), size=side, mode="bilinear"
    ).flatten(1)
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Linear(side * side + 1, 48), torch.nn.SiLU(), torch.nn.Linear(48, side * side)
    )
    parameters = list(network.parameters())
    steps = torch.optim.Adam(parameters, 3e-3)

    def predicted(clean, times, noise):
        noisy = torch.cat([(1 - times) * clean + times * noise, times], dim=1)
        return network(noisy)

    for _ in range(300):
        clean = images[torch.randint(0, training, (64,), generator=generator)]
        times, noise = torch.rand((64, 1), generator=generator), torch.randn(clean.shape, generator=generator)
        loss = (predicted(clean, times, noise) - noise).square().mean()
        steps.zero_grad()
        loss.backward()
        steps.step()
    times = ((torch.arange(10.0) + 0.5) / 10)[:, None]
    rows = []
    for image in images:
        noise = torch.randn((10, side * side), generator=generator)
        value = predicted(image.expand(10, -1), times, noise).square().sum(1).mean()
        rows.append(torch.cat([part.flatten() for part in torch.autograd.grad(value, parameters)]))
    all_rows = torch.stack(rows).double().numpy()
    return all_rows[: training + decoys], all_rows[training + decoys :]
