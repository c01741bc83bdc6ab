import numpy as np
import pytest
from pulled import World

from guardrail.study.attribution.checking import NamingCheck, check_naming
from guardrail.study.attribution.naming import NamingRule


def checked(world, rule=None):
    return check_naming(world.measured(world.asked())[1], world.decoys, world.labels, rule)


def test_decoys_are_named_at_most_at_the_rate_that_was_asked_for():
    found = [checked(World(training=60, decoys=100, seed=seed), NamingRule("p_value", at_p=0.05)) for seed in range(4)]
    assert all(one.pictures == 100 for one in found)
    assert np.mean([one.decoys_named for one in found]) <= 0.05 + 0.01
    assert np.mean([one.images_named for one in found]) <= 0.05 + 0.01
    assert np.mean([one.decoys_named for one in found]) > 0.02  # it counts something


def test_few_pictures_that_owe_nothing_name_anything():
    found = [checked(World(training=60, decoys=100, seed=seed), NamingRule("rate")) for seed in range(4)]
    assert sum(one.naming for one in found) <= 0.1 * 400 + 2 * 6


def test_a_training_image_that_is_told_with_pictures_it_has_nothing_to_do_with_is_counted():
    world = World(training=60, decoys=100)
    references = world.measured(world.asked())[1]
    references[:, 7] = np.random.default_rng(0).permutation(np.r_[np.zeros(60), np.full(40, 1e3)])
    found = check_naming(references, world.decoys, world.labels, NamingRule("p_value", at_p=0.05))
    assert found.naming >= 40


def test_decoys_that_are_copies_of_each_other_do_not_name_one_another():
    world = World(training=40, decoys=60)
    world.rows[41], world.labels[41] = world.rows[40], 40
    assert checked(world, NamingRule("p_value", at_p=0.05)).decoys_named <= 0.08


@pytest.mark.parametrize("decoys", [0, 1, 20])
def test_too_few_decoys_check_nothing(decoys):
    assert checked(World(training=30, decoys=decoys)) == NamingCheck(0, 0, 0.0, 0.0)


def test_the_same_seed_holds_out_the_same_decoys():
    world = World(training=40, decoys=60)
    references = world.measured(world.asked())[1]
    rule = NamingRule("p_value", at_p=0.05)
    found = [check_naming(references, world.decoys, world.labels, rule, seed) for seed in (3, 3, 4)]
    assert found[0] == found[1] != found[2]
