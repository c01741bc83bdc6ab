"""`guardrail bench remedies`."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
import torch

from guardrail.carriers import Picture
from guardrail.desk.remedies_command import _document, _names
from guardrail.desk.remedies_run import LADDER, RemedyOutcome, _note, _settings_for
from guardrail.errors import SettingsInvalid
from guardrail.records import Decision, RemedyTried, Verdict
from guardrail.settings import Settings

BLOCK, FLAG, ACCEPT = Decision.BLOCK, Decision.FLAG, Decision.ACCEPT


def verdict(image: str, decision: Decision) -> Verdict:
    return Verdict(
        image=image,
        pixels_sha256=None,
        at=datetime.now(UTC),
        decision=decision,
        rule="copy",
        explanation="",
        evidence=(),
        nearest=(),
        index_snapshot=None,
        policy_sha256="0" * 64,
        calibration="uncalibrated",
    )


class Truths:
    """Calls a picture a copy where it is bright."""

    def of(self, pixels):
        return SimpleNamespace(kind="protected work" if pixels.mean() > 128 else "nothing")


def test_only_images_that_were_blocked_are_counted():
    decisions = (ACCEPT, BLOCK, FLAG, ACCEPT, ACCEPT)
    names = [f"images[{at}]" for at in range(5)]
    bright, dark = (torch.full((3, 4, 4), value, dtype=torch.uint8) for value in (200, 20))
    pixels = (bright, None, None, bright, dark)
    report = SimpleNamespace(
        verdicts=tuple(map(verdict, names, decisions)),
        pictures=tuple(None if one is None else Picture(name, one) for name, one in zip(names, pixels, strict=True)),
        remedies=(
            RemedyTried(remedy="delayed_guidance", images=tuple(names[1:]), before=(BLOCK,) * 4, unfit="no guidance"),
            RemedyTried(
                remedy="fresh_seed", images=tuple(names[1:]), before=(BLOCK,) * 4, after=decisions[1:], took_ms=8.0
            ),
        ),
    )
    outcome = RemedyOutcome("a model", "fresh_seed")
    _note(outcome, report, Truths())
    assert _document(outcome) == {
        "pipeline": "a model",
        "remedy": "fresh_seed",
        "images": 5,
        "blocked": 4,
        "accepted": 2,
        "flagged": 1,
        "still_blocked": 1,
        "accepted_copies": 1,
        "made_again": 4,
        "took_ms": 8.0,
        "unfit": ["no guidance"],
    }


def test_remedy_has_one_try_and_the_ladder_as_many_as_the_settings_say():
    settings = Settings(regenerate_at_most=7)
    alone = _settings_for("prompt_noise", settings)
    assert (alone.remedies, alone.regenerate_at_most) == (("prompt_noise",), 1)
    shipped = _settings_for(LADDER, settings)
    assert (shipped.remedies, shipped.regenerate_at_most) == (
        ("fresh_seed", "delayed_guidance", "prompt_noise", "away_from_work"),
        4,
    )


def test_unknown_remedy_is_an_error_that_names_the_known():
    assert _names("fresh_seed,all") == ("fresh_seed", "all")
    with pytest.raises(SettingsInvalid, match=r"'new_seed'.*away_from_work"):
        _names("fresh_seed,new_seed")
