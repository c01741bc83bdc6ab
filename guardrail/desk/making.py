"""Join rooms to make things: an index from a folder (reading, fingerprints, index)."""

import tomllib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import guardrail
from guardrail import intake
from guardrail.carriers import Picture
from guardrail.desk.bulk_pool import Lost, Spread
from guardrail.errors import NothingToIndex, SettingsInvalid
from guardrail.fingerprint import HASHES, Fingerprinter, resolve_device, work_looks
from guardrail.index import (
    Builder,
    BuildReport,
    Recipe,
    ShardList,
    Taken,
    build_from_shards,
    build_index,
    read_works,
)
from guardrail.plugins import build_plugins, make_embedder
from guardrail.protocols import Embedder, Source
from guardrail.records import Limits, Normalisation, SimilarityLimit
from guardrail.settings import Settings

__all__ = [
    "background_vectors",
    "build_folder_index",
    "build_source_index",
    "make_builder",
    "normalised_limits",
    "shipped_limits",
    "spread_reading",
]

_SAME_ABOVE = 0.9  # cosine of what may be the same picture, for an embedder without limits of its own
_FEWEST_IN_BACKGROUND = 50  # pictures: with fewer, one odd picture decides what is common
_REPEATED_ABOVE = 0.999  # cosine of a picture that stands there twice
_UNIT_WITHIN = 1e-3
_READ_AT_A_TIME = 64  # pictures held in memory


def shipped_limits(copy: Embedder, clip: Embedder | None) -> Limits:
    """The limits that hold before calibration: the hashes' from `limits.toml`, the vectors' from their embedders."""
    said = tomllib.loads((Path(guardrail.__file__).parent / "limits.toml").read_text(encoding="utf-8"))
    said["copy"], said["tile"] = copy.shipped_limit, copy.shipped_tile_limit
    if clip is not None:
        said["clip"] = clip.shipped_limit
    return Limits.model_validate(said)


def background_vectors(
    folder: Path, copy: Embedder, read: Callable[[Path], Picture], progress: Callable[[int, int], None]
) -> NDArray[np.float32]:
    """The copy descriptors of every picture in a folder that can be read: float32 (B, D), unit length.

    Raises:
        NothingToIndex: there are none.
        SettingsInvalid: too few differ from each other, or the embedder gave no unit vectors.
    """
    names, _ = intake.find_images(folder) if folder.is_dir() else ([], 0)
    rows = [np.empty((0, copy.spec.dimensions), np.float32)]
    for start in range(0, len(names), _READ_AT_A_TIME):
        pictures = [read(folder / name) for name in names[start : start + _READ_AT_A_TIME]]
        rows.append(copy.embed([picture.pixels for picture in pictures if picture.pixels is not None]))
        progress(min(start + _READ_AT_A_TIME, len(names)), len(names))
    vectors = np.concatenate(rows)
    if not len(vectors):
        raise NothingToIndex(str(folder), f"{len(names)} unreadable files as background")
    if not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=_UNIT_WITHIN):  # NaN is not close to anything
        raise SettingsInvalid(str(folder), "the embedder gave vectors of another length than 1 for this background")
    return _differing(vectors, folder)


def _differing(vectors: NDArray[np.float32], folder: Path) -> NDArray[np.float32]:
    """The vectors that do not repeat one before them; too few of them would stand for nothing."""
    kept: list[int] = []
    for row in range(len(vectors)):
        if not kept or float((vectors[kept] @ vectors[row]).max()) < _REPEATED_ABOVE:
            kept.append(row)
    if len(kept) < _FEWEST_IN_BACKGROUND:
        found = (
            f"a background of {len(kept)} pictures that differ; normalisation takes {_FEWEST_IN_BACKGROUND} at least"
        )
        raise SettingsInvalid(str(folder), found)
    return vectors[kept]


def normalised_limits(limits: Limits, background: NDArray[np.float32], nearest: int) -> Limits:
    """Limits for normalised similarities: less what an average background picture has in common with the others.

    Raises:
        SettingsInvalid: the pictures are so alike that no limit is left.
    """
    taken = min(nearest + 1, len(background))  # the nearest of all is the picture itself
    common = np.partition(background @ background.T, -taken, axis=1)[:, -taken:]
    by = float((common.sum(1) - 1).mean() / max(1, taken - 1))
    if limits.copy_.flag_above is not None and limits.copy_.flag_above <= by:
        raise SettingsInvalid("background", f"pictures so alike (similarity {by:.2f}) that no limit would be left")

    def lessened(limit: SimilarityLimit) -> SimilarityLimit:
        return SimilarityLimit(
            flag_above=None if limit.flag_above is None else max(-1.0, limit.flag_above - by),
            block_above=None if limit.block_above is None else max(-1.0, limit.block_above - by),
        )

    return limits.model_copy(update={"copy_": lessened(limits.copy_), "tile": lessened(limits.tile)})


def _normalisation(background: NDArray[np.float32] | None, recipe: Recipe) -> Normalisation | None:
    if background is None:
        return None
    return Normalisation(background=len(background), nearest=min(recipe.background_nearest, len(background)))


def make_builder(
    settings: Settings,
    recipe: Recipe,
    *,
    workers: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
    extra_plugins: Iterable[object] = (),
) -> Builder:
    """Join what a build needs: embedders, hashes, limits, background, and the processes that read pictures.

    Args:
        settings: device, batch, and the largest picture.
        recipe: what the index is made with.
        workers: processes that read pictures; with 0 it is done in this one.
        progress: told of the background, where the recipe has one.
        extra_plugins: objects with hook implementations, besides the installed ones.
    """
    plugins = build_plugins(extra_plugins)
    device = resolve_device(settings.device)
    copy = make_embedder(plugins, recipe.embedder, device, settings.weights_dir)
    clip = make_embedder(plugins, recipe.clip, device, settings.weights_dir) if recipe.clip else None
    read = partial(intake.read_place, largest_px=settings.largest_image_px)
    limits, background = shipped_limits(copy, clip), None
    if recipe.background:
        background = background_vectors(Path(recipe.background), copy, read, progress)
        limits = normalised_limits(limits, background, recipe.background_nearest)
    if recipe.limits is not None:
        limits = limits.overridden(recipe.limits)
    return Builder(
        read=read,
        fingerprint=Fingerprinter(copy, clip, device, settings.batch, work_looks(recipe.sampling)),
        embedders={"copy": copy.spec} | ({"clip": clip.spec} if clip else {}),
        hashes=HASHES,
        limits=limits,
        sampling=recipe.sampling,
        normalisation=_normalisation(background, recipe),
        background=background,
        background_below=copy.shipped_limit.flag_above if copy.shipped_limit.flag_above is not None else _SAME_ABOVE,
        spread=partial(spread_reading, workers),
    )


def spread_reading(workers: int, work: Callable[[Any], Taken], places: Iterable[Any]) -> Iterator[Taken]:
    """Read pictures in other processes; one whose process ends is a picture that could not be read."""
    for taken in Spread(work, workers)(places):
        yield Taken.lost(taken.reason) if isinstance(taken, Lost) else taken


def build_source_index(
    source: Source | ShardList,
    target: Path,
    settings: Settings,
    recipe: Recipe,
    table: Path | None = None,
    *,
    workers: int = 0,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
    extra_plugins: Iterable[object] = (),
) -> BuildReport:
    """Build an index from a source, or from shards of fingerprints; see `index.build_index`."""
    made = make_builder(settings, recipe, workers=workers, progress=progress, extra_plugins=extra_plugins)
    works = read_works(table) if table else ()
    if isinstance(source, ShardList):
        return build_from_shards(source, target, made, recipe, works, overwrite=overwrite)
    return build_index(source, target, made, recipe, works, overwrite=overwrite, progress=progress)


def build_folder_index(
    source: Path,
    target: Path,
    settings: Settings,
    recipe: Recipe,
    table: Path | None = None,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
    extra_plugins: Iterable[object] = (),
) -> BuildReport:
    """Build an index from a folder of images, in this process; see `index.build_index`."""
    folder = intake.FolderSource(source)
    return build_source_index(
        folder,
        target,
        settings,
        recipe,
        table,
        overwrite=overwrite,
        progress=progress,
        extra_plugins=extra_plugins,
    )
