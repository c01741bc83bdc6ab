"""Tiles, turned views and normalisation in the folder index, against brute force."""

from dataclasses import replace

import numpy as np
import pytest

from guardrail.carriers import Look
from guardrail.errors import IndexDamaged, NothingToIndex
from guardrail.index import Builder, FolderIndex, Recipe, build_index
from guardrail.intake import FolderSource
from guardrail.records import VIEWS, EmbedderSpec, Limits, Normalisation, Sampling, Signal, tiles_of
from guardrail.testing import made_up_prints
from tests.index.test_folder_index import folder_of, grey_picture

DIMENSIONS = 16
SPEC = EmbedderSpec(name="made-up", weights_sha256="a" * 64, preprocessing="none", dimensions=DIMENSIONS)


def unit(*shape, seed):
    values = np.random.default_rng(seed).normal(size=(*shape, DIMENSIONS)).astype(np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def looked_at(count, looks, seed):
    looks = tuple(looks)
    return replace(made_up_prints(count, seed), looks=looks, copy_looks=unit(count, len(looks), seed=seed + 100))


def made(tmp_path, count, sampling, background=None, nearest=1):
    prints = looked_at(count, (Look("identity", tile) for tile in tiles_of(sampling.tiles)), seed=0)
    if not prints.looks:
        prints = replace(prints, copy_looks=None)

    def fingerprint(batch):
        assert len(batch) == count, "one chunk is enough for these tests"
        return prints

    how = None if background is None else Normalisation(background=len(background), nearest=nearest)
    builder = Builder(
        grey_picture,
        fingerprint,
        {"copy": SPEC},
        {"pdq": "1"},
        Limits(),
        sampling=sampling,
        normalisation=how,
        background=background,
    )
    build_index(FolderSource(folder_of(tmp_path, count)), tmp_path / "index", builder, Recipe())
    return FolderIndex(tmp_path / "index"), as_stored(prints)


def as_stored(prints):
    """Fingerprints as an index keeps them: vectors lose what float16 cannot hold."""
    looks = None if prints.copy_looks is None else prints.copy_looks.astype(np.float16).astype(np.float32)
    return replace(prints, copy=prints.copy.astype(np.float16).astype(np.float32), copy_looks=looks)


def similarities(found, signal):
    return [near.similarity for near in found if near.signal is signal]


@pytest.mark.parametrize("vectors", [1, 5, 10, 14])
def test_tiles_cover_the_picture_and_there_are_as_many_as_asked(vectors):
    tiles = tiles_of(vectors)
    assert len(tiles) == vectors - 1
    assert all(0 <= t.left <= t.left + t.width <= 1 + 1e-9 for t in tiles)
    if tiles:
        corners = {(t.left, t.top) for t in tiles}
        assert (0.0, 0.0) in corners
        assert max(t.left + t.width for t in tiles) == pytest.approx(1)
        assert max(t.top + t.height for t in tiles) == pytest.approx(1)


def test_turned_views_are_compared_with_wholes_and_the_best_view_is_named(tmp_path):
    index, prints = made(tmp_path, 9, Sampling(query_views=8))
    queries = looked_at(4, (Look(view, None) for view in VIEWS[1:]), seed=5)
    for row, found in enumerate(index.search(queries, 3)):
        every = np.concatenate([queries.copy[row : row + 1], queries.copy_looks[row]]) @ prints.copy.T
        assert np.allclose(similarities(found, Signal.COPY), np.sort(every.max(0))[::-1][:3], atol=1e-5)
        best = next(near for near in found if near.signal is Signal.COPY)
        assert best.view == VIEWS[int(every[:, best.row].argmax())]
        assert not similarities(found, Signal.TILE)


def test_tiles_of_either_are_compared_with_wholes_but_never_with_tiles(tmp_path):
    sampling = Sampling(tiles=5, query_tiles=10, query_views=4)
    index, prints = made(tmp_path, 12, sampling)
    turned = [Look(view, None) for view in VIEWS[1:4]]
    queries = looked_at(3, [*turned, *(Look("identity", tile) for tile in tiles_of(10))], seed=9)
    for row, found in enumerate(index.search(queries, 4)):
        wholes = np.concatenate([queries.copy[row : row + 1], queries.copy_looks[row, :3]])
        by_query_tile = (queries.copy_looks[row, 3:] @ prints.copy.T).max(0)
        by_work_tile = np.einsum("qd,ntd->qnt", wholes, prints.copy_looks).max((0, 2))
        expected = np.sort(np.maximum(by_query_tile, by_work_tile))[::-1]
        assert np.allclose(similarities(found, Signal.TILE), expected[:4], atol=1e-5)
        for near in (near for near in found if near.signal is Signal.TILE):
            assert (near.region is None) != (near.work_region is None), "a tile was compared with a whole"
            assert near.similarity == pytest.approx(max(by_query_tile[near.row], by_work_tile[near.row]), abs=1e-5)


def test_one_work_is_found_by_its_tile_however_many_tiles_of_others_are_near(tmp_path):
    index, prints = made(tmp_path, 6, Sampling(tiles=14))
    queries = replace(made_up_prints(1, seed=3), copy=prints.copy_looks[4, 7:8].copy())
    (found,) = index.search(queries, 2)
    best = next(near for near in found if near.signal is Signal.TILE)
    assert (best.row, best.work_region) == (4, tiles_of(14)[7])
    assert best.similarity == pytest.approx(1, abs=1e-3)
    assert len({near.row for near in found if near.signal is Signal.TILE}) == 2


def test_similarity_is_lessened_by_the_mean_of_the_nearest_background(tmp_path):
    background = unit(7, seed=42)
    index, prints = made(tmp_path, 5, Sampling(), background, nearest=3)
    queries = made_up_prints(4, seed=8)
    for row, found in enumerate(index.search(queries, 5)):
        common = np.sort(queries.copy[row] @ background.T)[-3:].mean()
        expected = np.sort(np.clip(prints.copy @ queries.copy[row] - common, -1, 1))[::-1]
        assert np.allclose(similarities(found, Signal.COPY), expected, atol=1e-5)


def test_normalising_is_one_more_dimension(tmp_path):
    background = unit(7, seed=42)
    index, prints = made(tmp_path, 5, Sampling(), background, nearest=2)
    queries = made_up_prints(4, seed=8)
    common = np.sort(queries.copy @ background.T, axis=1)[:, -2:].mean(1, keepdims=True)
    folded = np.hstack([queries.copy, -common]) @ np.hstack([prints.copy, np.ones((5, 1), np.float32)]).T
    for row, found in enumerate(index.search(queries, 5)):
        ours = {near.row: near.similarity for near in found if near.signal is Signal.COPY}
        assert np.allclose([ours[at] for at in range(5)], folded[row].clip(-1, 1), atol=1e-5)


@pytest.mark.parametrize("lost", ["tiles.npy", "background.npy"])
def test_index_without_its_tiles_or_background_is_refused(tmp_path, lost):
    made(tmp_path, 3, Sampling(tiles=5), unit(2, seed=1))
    next((tmp_path / "index").rglob(lost)).unlink()
    with pytest.raises(IndexDamaged, match=lost):
        FolderIndex(tmp_path / "index")


def test_background_that_is_a_work_is_left_out_so_that_it_hides_no_copy(tmp_path):
    works = looked_at(3, (), seed=0)
    background = np.concatenate([works.copy[1:2], unit(4, seed=7)])
    builder = Builder(
        grey_picture,
        lambda batch: replace(works, copy_looks=None),
        {"copy": SPEC},
        {"pdq": "1"},
        Limits(),
        normalisation=Normalisation(background=5, nearest=2),
        background=background,
        background_below=0.99,
    )
    report = build_index(FolderSource(folder_of(tmp_path, 3)), tmp_path / "index", builder, Recipe())
    assert report.hidden == 1
    assert FolderIndex(tmp_path / "index").header.normalisation == Normalisation(background=4, nearest=2)


def test_background_of_nothing_but_works_is_refused(tmp_path):
    works = replace(looked_at(3, (), seed=0), copy_looks=None)
    builder = Builder(
        grey_picture,
        lambda batch: works,
        {"copy": SPEC},
        {"pdq": "1"},
        Limits(),
        normalisation=Normalisation(background=3, nearest=1),
        background=works.copy,
        background_below=0.99,
    )
    with pytest.raises(NothingToIndex, match="as near to a work"):
        build_index(FolderSource(folder_of(tmp_path, 3)), tmp_path / "index", builder, Recipe())
    assert not (tmp_path / "index").exists()
