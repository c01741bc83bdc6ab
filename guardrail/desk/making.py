"""Join rooms to make things: an index from a folder (reading, fingerprints, index)."""

import tomllib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import guardrail
from guardrail import intake
from guardrail.fingerprint import HASHES, Fingerprinter, resolve_device
from guardrail.index import Builder, BuildReport, Recipe, build_index, read_works
from guardrail.plugins import build_plugins, make_embedder
from guardrail.protocols import Embedder
from guardrail.records import Limits
from guardrail.settings import Settings

__all__ = ["build_folder_index", "shipped_limits"]


def shipped_limits(copy: Embedder, clip: Embedder | None) -> Limits:
    """The limits that hold before calibration: the hashes' from `limits.toml`, the vectors' from their embedders."""
    said = tomllib.loads((Path(guardrail.__file__).parent / "limits.toml").read_text(encoding="utf-8"))
    said["copy"] = copy.shipped_limit
    if clip is not None:
        said["clip"] = clip.shipped_limit
    return Limits.model_validate(said)


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
    """Build an index from a folder of images; see `index.build_index`."""
    plugins = build_plugins(extra_plugins)
    device = resolve_device(settings.device)
    copy = make_embedder(plugins, recipe.embedder, device)
    clip = make_embedder(plugins, recipe.clip, device) if recipe.clip else None
    embedders = {"copy": copy.spec} | ({"clip": clip.spec} if clip else {})
    builder = Builder(
        read=partial(intake.read_picture, largest_px=settings.largest_image_px),
        fingerprint=Fingerprinter(copy, clip, device, settings.batch),
        embedders=embedders,
        hashes=HASHES,
        limits=shipped_limits(copy, clip),
    )
    works = read_works(table) if table else ()
    return build_index(source, target, builder, recipe, works, overwrite=overwrite, progress=progress)
