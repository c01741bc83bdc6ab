import numpy as np
import pytest
from pulled import World

from guardrail.records import Work
from guardrail.study.attribution.hubs import Baseline
from guardrail.study.attribution.naming import NamingRule, named
from guardrail.study.attribution.shares import cluster_shares, group_influence, holder_of, shares_of

RULE = NamingRule("rate")


def shared(world, parts, works=None, seed=0):
    pulls, references = world.measured(parts)
    baseline = Baseline.of(references, world.decoys, world.labels)
    found = named(baseline, pulls.influence, RULE)
    return shares_of(pulls, baseline, found, works or world.works(), seed)


def test_shares_and_the_rest_add_up_to_one():
    for seed in range(5):
        world = World(seed=seed)
        works = world.works(_3="Ada", _9="Ben", _4="Ada")
        found = shared(world, world.asked((3, 0.6), (9, 0.5), (4, 0.3), (70, 0.3)), works)
        assert sum(one.share for one in found.by_holder) + found.unattributed == pytest.approx(1, abs=1e-9)
        assert 0 < found.unattributed < 1
        assert {one.holder for one in found.by_holder} >= {"Ada", "Ben"}


def test_share_is_what_the_row_makes_up_of_what_sets_the_gradient_apart():
    """Worked out by hand, draw by draw, for one part."""
    world = World()
    parts = world.asked((3, 0.8), parts=1)
    pulls, references = world.measured(parts)
    baseline = Baseline.of(references, world.decoys, world.labels)
    found = cluster_shares(pulls, baseline, np.arange(120) == 3)
    common = world.rows[world.decoys].mean(axis=0)
    apart = parts[0] - common
    made = pulls.influence * ((world.rows - common) @ apart) / (apart @ apart)
    assert found[3] == pytest.approx(made[3] - np.median(made[world.decoys]))
    assert found[3] > 0.2
    assert not found[np.arange(120) != 3].any()


def test_a_picture_that_owes_nothing_is_left_unattributed():
    world = World()
    found = [shared(world, world.asked(parts=2)) for _ in range(20)]
    wholly = [one for one in found if one.by_holder == () and one.unattributed == 1]
    assert len(wholly) >= 16  # a tenth may be named by chance


def test_more_of_a_work_is_a_larger_share():
    world = World(seed=2)
    works = world.works(_5="Ada")
    found = [shared(world, world.asked((5, weight)), works).by_holder for weight in (0.1, 0.3, 1.0)]
    shares = [sum(one.share for one in of if one.holder == "Ada") for of in found]
    assert shares == sorted(shares)
    assert shares[-1] > 2 * shares[0]


def test_share_shrinks_far_less_than_the_training_set_grows():
    large = World(training=100, decoys=60, seed=1)
    small = World(training=40, decoys=60, seed=1)
    small.rows = np.vstack([large.rows[:40], large.rows[100:]])
    parts = large.asked((5, 1.0))
    shares = [shared(world, parts, world.works(_5="Ada")).by_holder[0].share for world in (small, large)]
    assert shares[1] > 0.6 * shares[0] > 0.1  # as part of all, it would be .4


def test_ten_copies_count_once():
    alone, copied = World(seed=4), World(seed=4)
    copied.copy(20, 10)
    found = [shared(world, world.asked((20, 1.0)), world.works(_20="Ada")) for world in (alone, copied)]
    works = copied.works(**{f"_{row}": "Ada" for row in range(20, 30)})
    all_ten = shared(copied, copied.asked((20, 1.0)), works)
    assert [one.works for one in all_ten.by_holder if one.holder == "Ada"] == [1]
    once = next(one.share for one in found[0].by_holder if one.holder == "Ada")
    ten = next(one.share for one in all_ten.by_holder if one.holder == "Ada")
    assert ten < 2 * once


def test_a_cluster_of_several_holders_is_parted_evenly():
    world = World(seed=4)
    world.copy(20, 4)
    works = world.works(_20="Ada", _21="Ada", _22="Ada", _23="Ben")
    found = {one.holder: one for one in shared(world, world.asked((20, 1.0)), works).by_holder}
    assert found["Ada"].share == pytest.approx(found["Ben"].share)
    assert (found["Ada"].works, found["Ben"].works) == (1, 1)


def test_works_without_a_holder_are_those_of_their_bank():
    assert holder_of(Work(work_id="1", bank="stock")) == ("stock", "stock")
    assert holder_of(Work(work_id="1", bank="stock", rights_holder="Ada")) == ("Ada", "")
    world = World()
    found = shared(world, world.asked((3, 1.0)))
    assert [(one.holder, one.bank) for one in found.by_holder] == [("stock", "stock")]


def test_interval_holds_the_share_and_is_the_same_for_the_same_seed():
    world = World()
    parts = world.asked((3, 0.6), (9, 0.5), noise=0.6)
    works = world.works(_3="Ada", _9="Ben")
    found = shared(world, parts, works, seed=1)
    assert all(one.low <= one.share <= one.high for one in found.by_holder)
    assert found == shared(world, parts, works, seed=1)
    assert found != shared(world, parts, works, seed=2)


@pytest.mark.parametrize("parts", [2, 5, 10])
def test_nine_intervals_in_ten_hold_the_mean_of_other_draws(parts):
    world = World(seed=6)
    works = world.works(_3="Ada")
    mean = world.asked((3, 0.8), noise=0.0, parts=1)
    drawn = []
    for seed in range(40):
        noise = world.chance.normal(size=(parts, mean.shape[1])) @ world.basis * 0.3 * np.sqrt(parts)
        drawn.append(next(one for one in shared(world, mean + noise, works, seed).by_holder if one.holder == "Ada"))
    usual = np.mean([one.share for one in drawn])
    assert np.mean([one.low <= usual <= one.high for one in drawn]) >= 0.85
    assert np.mean([one.high - one.low for one in drawn]) < 0.5


def test_noisier_draws_have_wider_intervals():
    widths = []
    for noise in (0.1, 0.8):
        world = World(seed=6)
        found = shared(world, world.asked((3, 1.0), noise=noise), world.works(_3="Ada")).by_holder
        widths += [one.high - one.low for one in found if one.holder == "Ada"]
    assert widths[1] > 2 * widths[0]


def test_influence_of_groups_is_the_sum_over_members():
    influences = np.array([[1.0, 2.0, 4.0, 8.0], [-1.0, 0.0, 1.0, 2.0]])
    assert group_influence(influences, np.array([1, 0, 1, -1])).tolist() == [[2.0, 5.0], [0.0, 0.0]]
    assert group_influence(influences, np.array([-1, -1, -1, -1])).shape == (2, 0)


def test_a_picture_without_a_gradient_is_left_unattributed():
    world = World()
    pulls, references = world.measured(np.tile(world.rows[world.decoys].mean(axis=0), (3, 1)))
    baseline = Baseline.of(references, world.decoys, world.labels)
    assert not cluster_shares(pulls, baseline, np.arange(120) < 2).any()
