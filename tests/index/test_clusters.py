import hashlib
import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from stored import DIMENSIONS, HEADER, digest, made_index

from guardrail.carriers import IndexRows
from guardrail.fingerprint.pdq import hash_pdq
from guardrail.index import FolderIndex, clusters, clusters_near, verify_index
from guardrail.index.clusters import clusters_of_links
from guardrail.index.clusters_cache import Links, links_path
from guardrail.index.clusters_proof import plain_pictures, same_pictures, turned_codes
from guardrail.index.search import Background
from guardrail.records import VIEWS, BitsLimit, Disposition, Limits, SimilarityLimit, Work

LIMITS = Limits(
    pdq=BitsLimit(flag_within_bits=64, block_within_bits=31),
    copy=SimilarityLimit(flag_above=0.71, block_above=0.8),
    correlation=SimilarityLimit(flag_above=0.86, block_above=0.92),
    tile_l2_within=0.15,
)
OURS = HEADER.model_copy(update={"limits": LIMITS})


def picture(number):
    """A picture of soft coloured blots, uint8 (96, 96, 3)."""
    chance = np.random.default_rng(number + 100)
    blots = Image.fromarray(chance.integers(0, 256, (7, 7, 3), np.uint8))
    return np.asarray(blots.resize((96, 96), Image.Resampling.BICUBIC))


def edited(pixels, how):
    """One of its near-copies: 0 is the picture itself."""
    image = Image.fromarray(pixels)
    if how == "smaller":
        return np.asarray(image.resize((60, 60)))
    if how == "tinted":
        return (pixels * np.array([0.8, 0.9, 0.7]) + np.array([20, 0, 30])).astype(np.uint8)
    if how == "grey":
        return np.asarray(image.convert("L").convert("RGB"))
    return np.asarray(image.transpose(Image.Transpose[how.upper()])) if how in VIEWS[1:] else pixels


def unit(seed):
    vector = np.random.default_rng(seed).normal(size=DIMENSIONS)
    return (vector / np.linalg.norm(vector)).astype(np.float16)


def as_rows(pictures, *, names=None, vectors=None, **facts):
    """Works of pictures; their copy descriptors have nothing to do with one another unless they are given."""
    names = list(names or [f"work-{at}" for at in range(len(pictures))])
    tensors = [torch.from_numpy(one.copy()).permute(2, 0, 1)[None] for one in pictures]
    small = [np.asarray(Image.fromarray(one).resize((32, 32), Image.Resampling.BOX)) for one in pictures]
    arrays = {
        "pdq": np.stack([hash_pdq(one)[0][0, 0].numpy() for one in tensors]),
        "phash": np.zeros((len(names), 8), np.uint8),
        "copy": np.stack(vectors or [unit(int(digest(name)[:6], 16)) for name in names]),
        "pixels": np.stack(small),
    }
    return IndexRows(
        works=tuple(Work(work_id=name, **facts) for name in names),
        files=tuple(f"{name}.png" for name in names),
        file_sha256=(None,) * len(names),
        pixels_sha256=tuple(hashlib.sha256(repr(one.shape).encode() + one.tobytes()).hexdigest() for one in pictures),
        arrays=arrays,
        previews=(b"\xff\xd8",) * len(names),
    )


def hashes_alone(codes, names):
    """Works of a hash list."""
    nothing = (None,) * len(names)
    works = tuple(Work(work_id=name) for name in names)
    return IndexRows(works, ("",) * len(names), nothing, nothing, {"pdq": np.stack(codes)}, (b"",) * len(names))


def groups(index):
    """The clusters by the names of their works, each from scratch or not."""
    pinned = index.pinned()
    return {frozenset(pinned.work(row).work_id for row in rows) for rows in pinned.duplicates.clusters().groups()}


def from_scratch(index, folder):
    """The clusters of the same index where nothing was found before."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(index.folder, folder, ignore=shutil.ignore_patterns("cache"))
    return groups(FolderIndex(folder))


# --- what near-duplicates are --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [*VIEWS[1:], "smaller", "tinted", "grey", "itself"])
def test_edited_copy_is_a_near_duplicate_and_another_picture_is_not(tmp_path, how):
    index = made_index(tmp_path / "index", header=OURS)
    index.put(as_rows([picture(1), edited(picture(1), how), picture(2)], names=["one", "copy", "other"]))
    assert groups(index) == {frozenset({"one", "copy"})}


def test_copy_descriptor_brings_up_what_the_hash_misses(tmp_path):
    rows = as_rows([picture(1), edited(picture(1), "tinted")], vectors=[unit(1), unit(1)])
    far = rows.arrays["pdq"].copy()
    far[1] ^= 0xAA  # 128 bits of 256
    rows = IndexRows(
        **{name: getattr(rows, name) for name in rows.__slots__ if name != "arrays"}, arrays={**rows.arrays, "pdq": far}
    )
    index = made_index(tmp_path / "index", header=OURS)
    index.put(rows)
    assert groups(index) == {frozenset({"work-0", "work-1"})}


def test_likeness_that_pixels_do_not_prove_is_no_near_duplicate(tmp_path):
    index = made_index(tmp_path / "index", header=OURS)
    index.put(as_rows([picture(1), picture(2)], vectors=[unit(1), unit(1)]))
    assert groups(index) == set()


def test_flat_pictures_are_near_duplicates_only_of_the_very_same(tmp_path):
    flat = [np.full((40, 40 + at, 3), shade, np.uint8) for at, shade in enumerate((255, 255, 0, 90))]
    index = made_index(tmp_path / "index", header=OURS)
    index.put(as_rows([*flat, flat[0], picture(1)], vectors=[unit(1)] * 6))
    assert groups(index) == {frozenset({"work-0", "work-4"})}


def test_pictures_of_one_series_are_told_apart_by_the_tile_that_differs(tmp_path):
    other = picture(3).copy()
    other[:24, :24] = 255 - other[:24, :24]
    index = made_index(tmp_path / "index", header=OURS)
    index.put(as_rows([picture(3), other, edited(other, "smaller")], vectors=[unit(1)] * 3))
    assert groups(index) == {frozenset({"work-1", "work-2"})}


def test_pictures_with_the_same_pixels_are_one_picture(tmp_path):
    index = made_index(tmp_path / "index", header=OURS)
    index.put(as_rows([picture(1), picture(1), edited(picture(1), "smaller")]))
    found = index.pinned().duplicates.clusters()
    assert found.groups() == ((0, 1, 2),)
    assert (found.pictures((0, 1)), found.pictures((0, 1, 2))) == (1, 2)


def test_background_takes_off_what_is_common_to_all(tmp_path):
    header = OURS.model_copy(update={"limits": LIMITS.model_copy(update={"pdq": BitsLimit()})})
    index = made_index(tmp_path / "index", header=header)
    index.put(as_rows([picture(1), edited(picture(1), "tinted")], vectors=[unit(1), unit(1)]))
    assert len(groups(index)) == 1
    index.pinned().known.background = Background(unit(1).astype(np.float32)[None], 1)
    assert groups(FolderIndex(index.folder)) == {frozenset({"work-0", "work-1"})}
    index.pinned().__dict__.pop("duplicates")
    assert groups(index) == set()


@pytest.mark.parametrize(("bits", "found"), [(31, 1), (32, 0)])
def test_hashes_alone_count_up_to_the_block_limit(tmp_path, bits, found):
    code = hash_pdq(torch.from_numpy(picture(1).copy()).permute(2, 0, 1)[None])[0][0, 0].numpy()
    changed = np.unpackbits(code)
    changed[:bits] ^= 1
    index = made_index(tmp_path / "index", header=OURS)
    index.put(hashes_alone([code, np.packbits(changed)], ["one", "other"]))
    assert len(groups(index)) == found


def test_hash_of_a_flat_picture_alone_is_near_nothing(tmp_path):
    index = made_index(tmp_path / "index", header=OURS)
    index.put(hashes_alone([np.zeros(32, np.uint8)] * 2, ["one", "other"]))
    index.put(as_rows([np.full((40, 40, 3), 255, np.uint8)], names=["white"]))
    assert groups(index) == set()


def test_every_work_counts_whatever_its_bank_and_disposition(tmp_path):
    index = made_index(tmp_path / "index", header=OURS)
    index.put(as_rows([picture(1)], names=["ours"], bank="a"))
    index.put(as_rows([picture(1)], names=["theirs"], bank="b", disposition=Disposition.IGNORE))
    assert groups(index) == {frozenset({"ours", "theirs"})}
    assert index.pinned().duplicates.of(1) == (0, 1)
    assert index.pinned().duplicates.of(7) == ()


def test_limits_that_are_never_reached_leave_the_very_same_pictures(tmp_path):
    index = made_index(tmp_path / "index")
    index.put(as_rows([picture(1), picture(1), edited(picture(1), "smaller")], vectors=[unit(1)] * 3))
    assert groups(index) == {frozenset({"work-0", "work-1"})}


@pytest.mark.parametrize("count", [0, 1, 2])
def test_small_indexes(tmp_path, count):
    index = made_index(tmp_path / "index", header=OURS)
    index.put(as_rows([picture(at) for at in range(3)]))
    index.withdraw([("default", f"work-{at}") for at in range(count, 3)])
    found = index.pinned().duplicates.clusters()
    assert (found.groups(), found.rows.tolist()) == ((), list(range(count)))


# --- clusters ------------------------------------------------------------------------------------------------------


@given(
    st.integers(1, 12).flatmap(
        lambda n: st.tuples(st.just(n), st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1))))
    )
)
def test_every_work_of_a_cluster_is_a_near_duplicate_of_one_of_them(case):
    count, drawn = case
    pairs = sorted({(min(pair), max(pair)) for pair in drawn if pair[0] != pair[1]})
    rows = np.arange(count) * 3
    links = Links(rows, rows[np.array(pairs, np.int64).reshape(-1, 2)])
    found = clusters_of_links(links, np.ones(count, np.int64))
    linked = {(a, b) for a, b in links.pairs.tolist()} | {(b, a) for a, b in links.pairs.tolist()}
    for name in np.unique(found).tolist():
        members = rows[found == name].tolist()
        assert name == members[0]
        assert any(all(other == one or (one, other) in linked for other in members) for one in members)
    alone = set(rows.tolist()) - {row for pair in linked for row in pair}
    assert all(found[row // 3] == row for row in alone)


def test_chain_falls_into_pieces_around_centres():
    rows = np.arange(7)
    chain = np.stack([rows[:-1], rows[1:]], axis=1)
    found = clusters_of_links(Links(rows, chain), np.ones(7, np.int64))
    assert found.tolist() == [0, 0, 0, 3, 3, 5, 5]


def test_centre_is_where_most_works_are_not_most_pictures():
    rows = np.arange(4)
    links = Links(rows, np.stack([rows[:-1], rows[1:]], axis=1))
    assert clusters_of_links(links, np.array([1, 1, 1, 1])).tolist() == [0, 0, 0, 3]
    assert clusters_of_links(links, np.array([1, 1, 1, 9])).tolist() == [0, 1, 1, 1]


# --- kept up -------------------------------------------------------------------------------------------------------

POOL = [edited(picture(at), how) for at in range(3) for how in ("itself", "itself", "smaller", "tinted", "rotate_90")]
POOL += [np.full((40, 40 + at, 3), 255, np.uint8) for at in (0, 0, 1)]
POOL_VECTORS = [unit(at // 5) for at in range(len(POOL))]
CHANGES = st.lists(
    st.tuples(st.sampled_from(["put", "withdraw", "look"]), st.sets(st.integers(0, len(POOL) - 1), max_size=6)),
    min_size=1,
    max_size=6,
)


@settings(max_examples=25)
@given(CHANGES)
def test_kept_up_clusters_are_those_from_scratch(tmp_path_factory, changes):
    folder = tmp_path_factory.mktemp("kept-up")
    index = made_index(folder / "index", header=OURS)
    for what, numbers in changes:
        if what == "put" and numbers:
            chosen = sorted(numbers)
            vectors = [POOL_VECTORS[at] for at in chosen]
            index.put(as_rows([POOL[at] for at in chosen], names=[f"pool-{at}" for at in chosen], vectors=vectors))
        elif what == "withdraw" and numbers:
            index.withdraw([("default", f"pool-{at}") for at in sorted(numbers)])
        else:
            groups(index)
    assert groups(index) == from_scratch(index, folder / "copy")


def test_withdrawn_centre_takes_its_cluster_apart(tmp_path):
    """Three pictures in a row: the middle one is near either end, and the ends are not near one another."""
    blank = np.full((96, 96, 3), 128, np.uint8)
    ends = [(0.6 * picture(1) + 0.4 * picture(at)).astype(np.uint8) for at in (5, 6)]
    middle = (0.6 * picture(1) + 0.2 * picture(5) + 0.2 * picture(6)).astype(np.uint8)
    limits = LIMITS.model_copy(update={"correlation": SimilarityLimit(block_above=0.9), "tile_l2_within": 1.0})
    index = made_index(tmp_path / "index", header=OURS.model_copy(update={"limits": limits}))
    index.put(
        as_rows([ends[0], middle, ends[1], blank], names=["left", "middle", "right", "blank"], vectors=[unit(1)] * 4)
    )
    assert groups(index) == {frozenset({"left", "middle", "right"})}
    index.withdraw([("default", "middle")])
    assert groups(index) == set() == from_scratch(index, tmp_path / "copy")


def test_only_what_is_new_is_compared(tmp_path, monkeypatch):
    index = made_index(tmp_path / "index", header=OURS)
    index.put(as_rows([picture(at) for at in range(4)]))
    asked = []
    real = clusters.new_links

    def seen(state, structures, likeness, known, fresh, progress):
        asked.append((known.tolist(), fresh.tolist()))
        return real(state, structures, likeness, known, fresh, progress)

    monkeypatch.setattr(clusters, "new_links", seen)
    groups(index)
    index.put(as_rows([edited(picture(2), "smaller")], names=["new"]))
    index.withdraw([("default", "work-0")])
    assert groups(FolderIndex(tmp_path / "index")) == {frozenset({"work-2", "new"})}
    assert asked == [([], [0, 1, 2, 3]), ([1, 2, 3], [4])]


def test_first_of_the_same_pictures_withdrawn_leaves_the_others_together(tmp_path):
    index = made_index(tmp_path / "index", header=OURS)
    index.put(as_rows([picture(1)] * 3 + [edited(picture(1), "flip_left_right")]))
    assert len(groups(index)) == 1
    index.withdraw([("default", "work-0")])
    assert groups(index) == {frozenset({"work-1", "work-2", "work-3"})}


def test_clusters_outlive_compaction(tmp_path, monkeypatch):
    index = made_index(tmp_path / "index", header=OURS)
    index.put(as_rows([picture(1), picture(2), edited(picture(1), "tinted"), edited(picture(2), "tinted")]))
    index.withdraw([("default", "work-1")])
    groups(index)
    index.compact()
    monkeypatch.setattr(clusters_near._Search, "proved", None)  # nothing is to be proved again
    assert groups(FolderIndex(tmp_path / "index")) == {frozenset({"work-0", "work-2"})}


def test_pinned_index_keeps_its_clusters_when_more_is_written(tmp_path):
    index = made_index(tmp_path / "index", header=OURS)
    index.put(as_rows([picture(1)]))
    before = index.pinned()
    index.put(as_rows([picture(1)], names=["new"]))
    assert before.duplicates.clusters().groups() == ()
    assert index.pinned().duplicates.of(1) == (0, 1)


def test_known_clusters_say_what_was_not_compared(tmp_path):
    index = made_index(tmp_path / "index", header=OURS)
    index.put(as_rows([picture(1), edited(picture(1), "tinted")]))
    assert index.pinned().duplicates.known() is None
    groups(index)
    index.put(as_rows([picture(1), picture(2)], names=["same", "new"]))
    known = index.pinned().duplicates.known()
    assert (known.groups(), known.pending) == (((0, 1, 2),), 1)


# --- the cache -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("harm", ["cut", "edited", "no JSON", "empty", "other numbers"])
def test_damaged_cache_is_made_again(tmp_path, harm, caplog):
    index = made_index(tmp_path / "index", header=OURS)
    index.put(as_rows([picture(1), edited(picture(1), "tinted")]))
    wanted = groups(index)
    path = links_path(index.pinned().state)
    whole = path.read_bytes()
    line, _, rest = whole.partition(b"\n")
    harmed = {
        "cut": whole[:-3],
        "edited": whole[:-1] + bytes([whole[-1] ^ 1]),
        "no JSON": b"hello" + whole,
        "empty": b"",
        "other numbers": json.dumps(json.loads(line) | {"rows": 4}).encode() + b"\n" + rest,
    }
    path.write_bytes(harmed[harm])
    assert [damage.args[0] for damage in verify_index(tmp_path / "index")[1]] == [str(path)]
    assert groups(FolderIndex(tmp_path / "index")) == wanted
    assert "sought again" in caplog.text
    assert path.read_bytes() == whole
    assert verify_index(tmp_path / "index")[1] == ()


def test_other_limits_are_sought_anew(tmp_path):
    index = made_index(tmp_path / "index", header=OURS)
    index.put(as_rows([picture(1), edited(picture(1), "tinted")]))
    assert len(groups(index)) == 1
    pinned = FolderIndex(tmp_path / "index").pinned()
    pinned.header = pinned.header.model_copy(update={"limits": Limits()})
    assert pinned.duplicates.clusters().groups() == ()


def test_cache_that_cannot_be_written_costs_time_alone(tmp_path, caplog):
    index = made_index(tmp_path / "index", header=OURS)
    index.put(as_rows([picture(1), edited(picture(1), "tinted")]))
    (tmp_path / "index" / "cache").write_bytes(b"in the way")
    assert groups(index) == {frozenset({"work-0", "work-1"})}
    assert "cannot be kept" in caplog.text


# --- the search ----------------------------------------------------------------------------------------------------


def by_comparing_all(rows):
    """Near-duplicates among rows in plain NumPy, every pair compared."""
    codes, vectors, pixels = (rows.arrays[name] for name in ("pdq", "copy", "pixels"))
    found = set()
    for one in range(len(rows)):
        for other in range(one + 1, len(rows)):
            bits = min(int(np.bitwise_count(view ^ codes[other]).sum()) for view in turned_codes(codes)[one])
            similarity = float(vectors[one].astype(np.float64) @ vectors[other].astype(np.float64))
            same = same_pictures(pixels, np.array([one]), np.array([other]), 0.92, 0.1)[0]
            if (bits <= 64 or similarity >= 0.71) and same:
                found.add((one, other))
    return found


@pytest.mark.parametrize("exact", [True, False])
def test_links_are_those_found_by_comparing_all(tmp_path, monkeypatch, exact):
    if not exact:
        monkeypatch.setattr(clusters_near, "EXACT_UP_TO", 0)
        monkeypatch.setattr(clusters_near, "_NEAREST", 2)
    monkeypatch.setattr(clusters_near, "_HASHES_TOGETHER", 4)
    monkeypatch.setattr(clusters_near, "_VECTORS_TOGETHER", 4)
    monkeypatch.setattr(clusters_near, "_COMPARED", 3)
    hows = ("itself", "smaller", "tinted", "rotate_90", "grey")
    rows = as_rows(
        [edited(picture(at), how) for how in hows for at in range(3)], vectors=[unit(at % 3) for at in range(15)]
    )
    index = made_index(tmp_path / "index", header=OURS)
    index.put(rows)
    pinned = index.pinned()
    likeness = clusters_near.Likeness(LIMITS)
    steps = []
    none, every = np.zeros(0, np.int64), np.arange(15)
    found = clusters_near.new_links(
        pinned.state, pinned.structures, likeness, none, every, lambda done, total: steps.append((done, total))
    )
    assert {tuple(pair) for pair in found.tolist()} == by_comparing_all(rows)
    assert len(found) >= 20
    assert steps[-1] == (30, 30)


def test_turned_hashes_are_near_those_of_turned_pictures():
    for number in range(4):
        views = hash_pdq(torch.from_numpy(picture(number).copy()).permute(2, 0, 1)[None])[0][0].numpy()
        apart = np.bitwise_count(views ^ turned_codes(views[:1])[0]).sum(axis=1)
        assert apart[0] == 0
        assert apart.max() <= 31


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_distance_over_all_views_is_the_same_from_either_side(one, other):
    left, right = (turned_codes(np.frombuffer(code, np.uint8)[None])[0] for code in (one, other))
    there = np.bitwise_count(left ^ right[0]).sum(axis=1, dtype=int)
    back = np.bitwise_count(right ^ left[0]).sum(axis=1, dtype=int)
    assert sorted(there.tolist()) == sorted(back.tolist())


def test_plain_pictures_are_those_without_contrast():
    shades = np.stack([np.full((32, 32, 3), 200, np.uint8)] * 3)
    shades[1, ::2] += 2  # 1 of 255 about the mean
    shades[2, ::2] += 6
    assert plain_pictures(shades).tolist() == [True, True, False]


def test_proof_takes_no_pairs():
    assert (
        same_pictures(np.zeros((0, 32, 32, 3), np.uint8), np.zeros(0, int), np.zeros(0, int), 0.9, 0.1).tolist() == []
    )
