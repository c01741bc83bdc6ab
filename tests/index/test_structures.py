"""Search structures are derived: made when needed, kept, extended, purged, and made again when they do not hold."""

from datetime import timedelta

import numpy as np
import pytest
from stored import HEADER, asked, ids, made_index, made_up

from guardrail.index import FolderIndex, verify_index
from guardrail.records import Signal


@pytest.fixture
def few_are_many(monkeypatch):
    monkeypatch.setattr("guardrail.index.structures.EXACT_UP_TO", 50)


def nearest(index, number):
    found = index.search(asked(made_up([number])), 1)[0]
    return next(near.work.work_id for near in found if near.signal is Signal.COPY)


def held(index):
    """How many vectors the approximate structure holds, and how many are compared all."""
    structures = index.pinned().structures
    approximate = structures.approximate.get("copy")
    return (len(approximate) if approximate else 0), sum(len(chunk.scan) for chunk in structures.vectors["copy"])


@pytest.mark.usefixtures("few_are_many")
def test_prepared_structure_is_taken_from_the_cache_by_the_next_who_opens_it(tmp_path):
    index = made_index(tmp_path / "index", range(80))
    assert held(index) == (0, 80)
    assert index.prepare() == ("copy",)
    assert held(index) == held(FolderIndex(tmp_path / "index")) == (80, 0)
    assert index.prepare() == ()
    assert [nearest(index, number) for number in (0, 40, 79)] == ["work-0", "work-40", "work-79"]


@pytest.mark.usefixtures("few_are_many")
def test_what_is_added_later_is_compared_all_until_it_grew_four_times(tmp_path):
    index = made_index(tmp_path / "index", range(60))
    index.prepare()
    index.put(made_up(range(100, 250)))
    assert held(index) == held(FolderIndex(tmp_path / "index")) == (60, 150)
    assert nearest(index, 249) == "work-249"
    assert not index.pinned().structures.needs_training()
    index.put(made_up(range(300, 350)))
    index.pinned()
    index._training.join()
    assert held(index) == (260, 0)
    assert [nearest(index, number) for number in (0, 249, 349)] == ["work-0", "work-249", "work-349"]
    assert held(FolderIndex(tmp_path / "index")) == (260, 0)


@pytest.mark.usefixtures("few_are_many")
def test_withdrawn_rows_are_not_found_through_the_structure_and_leave_it_when_compacted(tmp_path):
    index = made_index(tmp_path / "index", range(80))
    index.prepare()
    index.withdraw([("default", f"work-{number}") for number in range(0, 80, 2)])
    assert nearest(index, 2) != "work-2"
    assert nearest(index, 3) == "work-3"
    index.compact()
    assert held(index) == held(FolderIndex(tmp_path / "index")) == (40, 0)
    assert nearest(index, 3) == "work-3"
    assert verify_index(tmp_path / "index")[1] == ()


@pytest.mark.usefixtures("few_are_many")
@pytest.mark.parametrize("name", ["copy.ivf", "copy.ivf.json"])
def test_damaged_structure_is_named_and_made_again(tmp_path, name):
    index = made_index(tmp_path / "index", range(80))
    index.prepare()
    path = tmp_path / "index" / "cache" / name
    path.write_bytes(path.read_bytes()[:-9])
    (damage,) = verify_index(tmp_path / "index")[1]
    assert "copy.ivf" in str(damage)
    again = FolderIndex(tmp_path / "index")
    assert held(again) == (0, 80)
    assert nearest(again, 79) == "work-79"
    again.prepare()
    assert verify_index(tmp_path / "index")[1] == ()


@pytest.mark.usefixtures("few_are_many")
def test_structure_of_another_build_is_not_taken(tmp_path):
    index = made_index(tmp_path / "index", range(80))
    index.prepare()
    later = HEADER.model_copy(update={"built_at": HEADER.built_at + timedelta(seconds=1)})
    made_index(tmp_path / "other", range(100, 190), later).prepare()
    for name in ("copy.ivf", "copy.ivf.json"):
        (tmp_path / "index" / "cache" / name).write_bytes((tmp_path / "other" / "cache" / name).read_bytes())
    again = FolderIndex(tmp_path / "index")
    assert held(again) == (0, 80)
    assert nearest(again, 79) == "work-79"


def test_rows_far_apart_are_taken_in_the_order_asked_for(tmp_path):
    index = made_index(tmp_path / "index", range(50))
    index.put(made_up(range(50, 70)))
    index.withdraw([("default", "work-9")])
    index.seal()
    index.put(made_up(range(70, 75)))
    index.compact()
    index.put(made_up(range(80, 83)))
    state = index.pinned().state
    rows = np.random.default_rng(0).permutation([row for row in range(78) if row != 9])
    numbers = [*range(75), 80, 81, 82]
    expected = made_up([numbers[row] for row in rows]).arrays["copy"]
    assert np.array_equal(state.take("copy", rows), expected)
    assert len(ids(index)) == 77
