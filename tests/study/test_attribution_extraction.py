"""Whether an adapter takes a work out: copy rates seed by seed, and what the model still knows of it."""

import numpy as np
import pytest
import torch
from adapter_models import add_lora, pipeline, shapes, train

from guardrail.attribution_errors import AttributionImpossible
from guardrail.study.attribution.extraction import Known, copy_rate, extracted, known_of, paired
from guardrail.study.attribution.switching import AskedAt, Pictured, Switches

PICTURES = shapes(12)
SEEDS = 24


def test_interval_is_the_published_one():
    """Clopper and Pearson 1934 gave 95 % limits of .026 and .556 for 2 of 10, and Hanley's 3 / n for none of n."""
    rate = copy_rate([True] * 2 + [False] * 8)
    assert (rate.low, rate.high) == pytest.approx((0.0252, 0.5561), abs=1e-4)
    none, every = copy_rate([False] * 20), copy_rate([True] * 20)
    assert (none.low, none.high) == (0, pytest.approx(0.1684, abs=1e-4))
    assert (every.low, every.high) == (pytest.approx(0.8316, abs=1e-4), 1)
    with pytest.raises(ValueError, match="found no picture"):
        copy_rate([])


@pytest.mark.parametrize(
    ("gone", "come", "p_value"), [(0, 0, 1.0), (5, 0, 1 / 32), (4, 1, 6 / 32), (0, 5, 1.0), (1, 1, 0.75)]
)
def test_p_value_counts_the_seeds_that_changed(gone, come, p_value):
    without = [True] * gone + [False] * come + [True, False] * 3
    now = [False] * gone + [True] * come + [True, False] * 3
    assert paired(now, without).p_value == pytest.approx(p_value)


def test_pictures_of_other_seeds_are_not_compared():
    with pytest.raises(ValueError, match="use the same seeds"):
        paired([True], [True, False])


def test_knowledge_counts_only_where_no_copy_ever_came():
    fell = Known(0.1, 0.5, 0.1, None)
    assert extracted(paired([False] * 4, [False] * 4), fell).took_out
    assert not extracted(paired([False] * 4, [False] * 4), Known(0.1, 0.25, 0.1, None)).took_out
    assert not extracted(paired([True] * 4, [True] * 4), fell).took_out
    assert extracted(paired([False] * 5, [True] * 5), Known(0.5, 0.5, 0.1, 1.0)).by_copies


@pytest.fixture(scope="module")
def pipe():
    """A model of eight pictures; a LoRA that memorised another, and the inverse of it."""
    pipe = pipeline()
    train(pipe, PICTURES[4:], 150)
    add_lora(pipe, "memory")
    train(pipe, PICTURES[:1], 250, "memory")
    add_lora(pipe, "inverse")
    with torch.no_grad():
        tensors = dict(pipe.unet.named_parameters())
        for name, one in tensors.items():
            if ".inverse." in name:
                one.copy_(tensors[name.replace(".inverse.", ".memory.")] * (-1 if "lora_B" in name else 1))
    pipe.set_adapters(["memory", "inverse"], [1.0, 1.0])
    return pipe


def copies(pipe, names):
    """Whether each seed gives the memorised picture: nearer than all others, within a quarter of the range."""
    with Switches(pipe).only(names):
        made = [pipe(generator=torch.Generator().manual_seed(seed))[0] for seed in range(SEEDS)]
    off = np.array(made, float)[:, None] - PICTURES[None].astype(float)
    far = np.sqrt((off**2).mean(axis=(2, 3, 4))) / 255
    return [bool(row.argmin() == 0 and row[0] < 0.25) for row in far]


def test_lora_brings_a_picture_and_its_inverse_takes_it_out(pipe):
    rates = paired(copies(pipe, ["memory", "inverse"]), copies(pipe, ["memory"]))
    assert rates.without.copies >= SEEDS / 3
    assert rates.with_adapter.copies < rates.without.copies / 2
    known = known_of(pipe, "inverse", Pictured(PICTURES[0]), AskedAt(draws=48))
    assert known.without - known.with_adapter > 2 * known.error
    assert known.share is None or known.share < 0
    assert extracted(rates, known).by_copies


def test_inverse_of_another_picture_takes_nothing_out(pipe):
    known = known_of(pipe, "inverse", Pictured(PICTURES[7]), AskedAt(draws=48))
    assert known.with_adapter > known.without
    assert not extracted(paired([False] * 4, [False] * 4), known).took_out


def test_adapter_that_is_off_is_refused(pipe):
    with pytest.raises(AttributionImpossible, match="it among them"):
        known_of(pipe, "inverse", Pictured(PICTURES[0]), weights={"memory": 1.0})
