"""False alarms on pictures that share a hand with works: how groups are split, and figures against counts by hand."""

import pytest

from guardrail.records import Decision
from guardrail.study.style import Arm, Cause, JudgedPicture, measure_style, style_groups

TABLE = {
    f"{maker}-{at}.png": maker for maker, count in (("ann", 5), ("bo", 2), ("cy", 9), ("one", 1)) for at in range(count)
}
TABLE |= {"nobody-0.png": "", "nobody-1.png": ""}


def split(table=TABLE, **other):
    return style_groups(table, **{"groups": 10, "each": 6, "seed": 0, **other})


def judged(file, group, own, other, **about):
    """One picture in both arms; what is said of it holds for the arm with its group."""
    decisions = {Cause.NONE: Decision.ACCEPT}
    return [
        JudgedPicture(file, group, Arm.OWN, decisions.get(own, Decision.FLAG), own, **about),
        JudgedPicture(file, group, Arm.OTHER, decisions.get(other, Decision.FLAG), other),
    ]


N, U, P, F = Cause.NONE, Cause.UNPROVED, Cause.PROVED, Cause.FAINT


@pytest.fixture(scope="module")
def figures():
    seen = judged("a0", "ann", U, N, signals=("copy", "pdq"), by_own_group=True) + judged(
        "a1", "ann", U, N, signals=("copy",)
    )
    seen += judged("b0", "bo", N, U) + judged("b1", "bo", P, U) + judged("c0", "cy", F, F) + judged("c1", "cy", U, U)
    seen += [
        JudgedPicture("d0", "dee", Arm.OWN, Decision.BLOCK, U),
        JudgedPicture("d0", "dee", Arm.OTHER, Decision.ACCEPT, N),
    ]
    return measure_style(seen, "uncalibrated")


def test_half_of_every_group_is_indexed_and_no_file_is_on_both_sides():
    groups = {one.name: one for one in split()}
    assert {name: (len(one.indexed), len(one.judged)) for name, one in groups.items()} == {
        "ann": (3, 2),
        "bo": (1, 1),
        "cy": (3, 3),
    }
    files = [file for one in groups.values() for file in (*one.indexed, *one.judged)]
    assert len(files) == len(set(files))
    assert all(TABLE[file] == one.name for one in groups.values() for file in (*one.indexed, *one.judged))


def test_split_does_not_depend_on_the_order_of_the_table_and_does_on_the_seed():
    assert split(dict(reversed(TABLE.items()))) == split()
    assert any(split(seed=seed) != split() for seed in range(1, 5))


def test_groups_take_turns_between_both_indexes_and_are_bounded():
    assert [one.side for one in split()] == [0, 1, 0]
    assert split(groups=2) == split()[:2]


def test_proved_copies_do_not_count_among_those_that_could_be_false_alarms(figures):
    assert (figures.own.pictures, figures.own.proved.value) == (7, 1 / 7)
    assert (figures.own.unproved.value, figures.own.unproved.over) == (4 / 6, 6)
    assert (figures.other.unproved.value, figures.other.unproved.over) == (3 / 7, 7)


def test_all_that_was_not_accepted_is_counted_by_its_cause(figures):
    assert figures.own.flagged.value == 6 / 7
    assert (figures.own.faint.value, figures.own.blocked.value) == (1 / 7, 1 / 7)
    assert (figures.own.unproved_blocked.value, figures.own.unproved_blocked.over) == (1 / 6, 6)
    assert (figures.own.by_own_group, figures.own.signals) == (1, {"copy": 2, "pdq": 1})


def test_arms_are_compared_by_pictures_and_by_groups_without_proved_ones(figures):
    assert (figures.only_own, figures.only_other) == (3, 1)  # a0, a1, d0; b0: b1 is a copy in truth
    assert (figures.groups_more, figures.groups_fewer) == (2, 1)
    assert figures.chance == 1.0  # two against one is what a coin does


def test_five_groups_against_none_are_told_from_chance():
    seen = [one for at in range(5) for one in judged(f"x{at}", f"maker-{at}", U, N)]
    assert measure_style(seen, "any").chance == pytest.approx(2 / 2**5)


def test_interval_is_not_empty_where_nothing_was_flagged():
    quiet = measure_style(judged("x", "ann", N, N) + judged("y", "bo", N, N), "any").own.unproved
    assert (quiet.value, quiet.low) == (0, 0)
    assert quiet.high == pytest.approx(1 - 0.025**0.5)  # Clopper and Pearson 1934, for 0 of 2


@pytest.mark.parametrize("wrong", ["once", "twice"])
def test_picture_that_is_not_in_both_arms_once_is_refused(wrong):
    seen = judged("x", "ann", N, N)
    with pytest.raises(ValueError, match="expected each in both arms, once"):
        measure_style(seen[:1] if wrong == "once" else seen + seen[:1], "any")
