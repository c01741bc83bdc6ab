"""Join the rooms for `attribute bench`: a truth, its pictures, the copy descriptor; and the page of what came out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray

from guardrail import plugins as tools
from guardrail.errors import SettingsInvalid
from guardrail.fingerprint import resolve_device
from guardrail.settings import Settings
from guardrail.shipped import shipped_folder
from guardrail.study.attribution_bench.comparing import Comparison, compare
from guardrail.study.attribution_bench.tasks import TASKS, pictures_of
from guardrail.study.attribution_bench.truth import read_truth

__all__ = ["run_attribute_bench", "write_page"]

_TEMPLATES = Path(__file__).parent / "templates"


def run_attribute_bench(
    task: str, folder: Path | None, source: Path | None, settings: Settings | None, progress: Callable[[int, int], None]
) -> Comparison:
    """Measure a task.

    Args:
        task: of `TASKS`.
        folder: of truths; None: the checkout's.
        source: CIFAR-2's pictures.
        settings: where `mini` lies; None: no neighbours by it.
        progress: told (done, total).

    Raises:
        AttributionImpossible: no truth, another task's, or too little of it.
        SettingsInvalid: CIFAR-2's pictures are not named, or truths are not part of this installation.
    """
    chosen = TASKS[task]
    try:
        place = folder or shipped_folder("attribution")
    except FileNotFoundError:
        raise SettingsInvalid("--truth", "found none in this installation, expected a checkout's; name it") from None
    truth = read_truth(place / f"{task}.npz", chosen)
    descriptors = {} if settings is None else {"mini": _mini(settings)}
    return compare(chosen, truth, pictures_of(chosen, source), progress, descriptors)


def write_page(document: dict[str, Any], path: Path) -> None:
    """Write what was measured as one HTML file that needs nothing else."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    path.write_text(environment.get_template("attribute_bench.html").render(document), encoding="utf-8")


def _mini(settings: Settings) -> Callable[[NDArray[np.uint8]], NDArray[np.floating[Any]]]:
    embedder = tools.make_embedder(tools.build_plugins(), "mini", resolve_device(settings.device), settings.weights_dir)
    return lambda pixels: embedder.embed(list(pixels))
