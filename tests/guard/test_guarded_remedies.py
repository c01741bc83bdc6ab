"""A guarded pipeline that has memorised captions, and what the ladder makes of its blocked images."""

import numpy as np
import pytest
import torch
from PIL import Image

from guardrail.records import Decision
from guardrail.study.caption_memoriser import memorising_pipeline

ACCEPT, BLOCK = Decision.ACCEPT, Decision.BLOCK
CAPTIONS = ["a red fox", "the tall elk"]
SIDE = 48


@pytest.fixture
def memoriser(world):
    """Gives the two works back half of the time, and more often under guidance."""
    opened = [Image.open(world.works / f"{name}.png").resize((SIDE, SIDE)) for name in ("fox", "elk")]
    works = torch.from_numpy(np.stack([np.asarray(one) for one in opened])).permute(0, 3, 1, 2).float() / 127.5 - 1
    pipe = memorising_pipeline(works, CAPTIONS, [0.5, 0.5])
    pipe.set_progress_bar_config(disable=True)
    return pipe


def made(pipe, **said):
    return pipe(CAPTIONS, 10, guidance_scale=7.5, generator=torch.Generator().manual_seed(1), **said)


def test_blocked_images_are_made_anew_and_recorded(make_guard, memoriser):
    guard = make_guard(on_block="regenerate", remedies=("prompt_noise", "away_from_work"))
    report = made(guard.wrap(memoriser)).guard
    assert [verdict.decision for verdict in report.attempts[:2]] == [BLOCK, BLOCK]
    assert [verdict.decision for verdict in report.verdicts] == [ACCEPT, ACCEPT]
    assert {name for tried in report.remedies for name in tried.images} == {"images[0]", "images[1]"}
    assert report.remedies[-1].after[-1] is ACCEPT
    judged = {verdict.verdict_id for verdict in (*report.verdicts, *report.attempts)}
    assert judged >= {one for tried in report.remedies for one in tried.verdict_ids}


def test_works_of_the_index_are_led_away_from(make_guard, memoriser):
    guard = make_guard(on_block="regenerate", remedies=("away_from_work",), regenerate_at_most=1)
    (tried,) = made(guard.wrap(memoriser)).guard.remedies
    assert "led away from 2 works" in tried.changed


def test_fixed_latents_say_that_no_seed_can_help(make_guard, memoriser):
    guard = make_guard(on_block="regenerate", remedies=("fresh_seed",))
    latents = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    report = made(guard.wrap(memoriser), latents=latents).guard
    assert [verdict.decision for verdict in report.verdicts] == [BLOCK, BLOCK]
    assert [tried.unfit.partition(":")[0] for tried in report.remedies] == ["unfixable_by_reseed"]
