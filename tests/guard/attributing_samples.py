"""Gradients of a tiny model that was trained, so it is said, on the works of the small world."""

import numpy as np
from PIL import Image

from guardrail.study.attribution.access import PipelineAccess
from guardrail.study.attribution.fitting import FitChoices, Picture, fit, manifest_of, opened_model
from guardrail.study.attribution.keeping import GradientRows, KeptRow
from tests.guard.conftest import SEEDS, TABLE, drawing
from tests.study.attributed import pictures as smooth

BANKS = {line.split(",")[1]: line.split(",")[6] for line in TABLE.splitlines()[1:]}
DECOYS = 30


def listed():
    """The works of the index as what the model was trained on, and pictures that it never saw."""
    works = [
        Picture(KeptRow(name, BANKS[name]), lambda side, seed=seed: np.asarray(drawing(seed).resize((side, side))))
        for name, seed in SEEDS.items()
    ]
    others = [
        Picture(
            KeptRow(f"o{at}", "others", decoy=True),
            lambda side, one=one: np.asarray(Image.fromarray(one).resize((side, side))),
        )
        for at, one in enumerate(smooth(DECOYS, 5))
    ]
    return works + others


def fitted(folder, pipeline):
    """Make the folder of gradients of a pipeline."""
    access = PipelineAccess(pipeline)
    manifest = manifest_of(access, FitChoices(draws=4, counters=256))
    with opened_model(access, manifest, folder) as asked:
        fit(asked, listed(), GradientRows(folder, manifest))
