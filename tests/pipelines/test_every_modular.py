"""Every modular pipeline of diffusers that can be built tiny, under a real guard."""

import numpy as np
import pytest
from trial import Bench, Trial, leaves, numbers, same
from zoo.transformers_modular import MODULAR

from guardrail.intake.outputs import pictures_in

_LEAST_CHANGE = 0.02  # of the range of values: a card is far from any of these pictures


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    bench = Bench(tmp_path_factory.mktemp("bench"))
    yield bench
    bench.close()


@pytest.fixture(scope="module", params=MODULAR, ids=lambda specimen: specimen.name)
def trial(request, bench):
    return Trial(request.param, bench)


def made(state):
    """What a state shows."""
    return next(state.get(name) for name in ("images", "videos") if state.get(name) is not None)


def guarded(trial, guard):
    """The state that a fresh one ends in: Helios' own pyramid does not bear a second call."""
    again = Trial(trial.specimen, trial.bench)
    guard.wrap(again.pipe)
    try:
        return again._call()
    finally:
        guard.unwrap(again.pipe)


def test_accepted_state_is_the_pipelines_own(trial, bench):
    plain = trial.plain
    bench.shelf.works = []
    state = guarded(trial, bench.lax)
    assert {str(verdict.decision) for verdict in bench.lax.last_report.verdicts} == {"accept"}
    assert type(state) is type(plain)
    assert same(made(state), made(plain))
    assert set(state.values) == set(plain.values)


def test_blocked_state_holds_cards_and_nothing_they_could_be_made_from(trial, bench):
    plain = made(trial.plain)
    bench.protect(pictures_in({"images": plain}).batch.pictures)
    state = guarded(trial, bench.lax)
    verdicts = [one for one in bench.lax.last_report.verdicts if one.image.startswith(("images", "videos"))]
    assert {str(verdict.decision) for verdict in verdicts} == {"block"}
    for (_, card), (_, picture) in zip(leaves(made(state)), leaves(plain), strict=True):
        reach = 255.0 if numbers(picture).max() > 1 else 1.0
        assert np.abs(numbers(card) - numbers(picture)).mean() / reach > _LEAST_CHANGE
    assert state.get("latents") is None
