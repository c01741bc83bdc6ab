import numpy as np
import pytest
from act_samples import accepted

from guardrail.act import draw_card
from guardrail.records import Decision

SIZES = [
    (1, 1),
    (1, 999),
    (2000, 16),
    (16, 200),
    (8, 8),
    (31, 33),
    (48, 48),
    (95, 400),
    (96, 96),
    (192, 192),
    (512, 512),
]


@pytest.fixture
def blocked():
    return accepted(decision=Decision.BLOCK, rule="pixel proof")


@pytest.fixture
def held():
    return accepted(decision=Decision.FLAG, rule="copy descriptor")


def pixels_of(size, verdict):
    return np.asarray(draw_card(size, verdict)).astype(int)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("decision", [Decision.BLOCK, Decision.FLAG])
def test_card_has_the_size_that_was_asked_for(size, decision):
    card = draw_card(size, accepted(decision=decision))
    assert (card.size, card.mode) == (size, "RGB")


@pytest.mark.parametrize("size", SIZES)
def test_card_is_never_black_or_grey(size, blocked, held):
    for verdict in (blocked, held):
        pixels = pixels_of(size, verdict)
        assert pixels.mean() > 60
        assert (pixels.max(axis=2) - pixels.min(axis=2)).max() > 60, "a colour is seen somewhere"


@pytest.mark.parametrize("size", SIZES)
def test_blocked_is_red_and_held_is_amber(size, blocked, held):
    """At every size the strongest colour tells which it is: red has little green, amber much."""

    def green_of_strongest(verdict):
        pixels = pixels_of(size, verdict).reshape(-1, 3)
        strongest = pixels[np.argmax(pixels[:, 0] - pixels[:, 2])]
        return strongest[1] / strongest[0]

    assert green_of_strongest(blocked) < 0.4
    assert green_of_strongest(held) > 0.5


@pytest.mark.parametrize("size", [size for size in SIZES if min(size) >= 8])
def test_card_is_a_pattern_not_one_colour(size, blocked):
    assert pixels_of(size, blocked).std(axis=(0, 1)).max() > 10


def test_words_are_shown_where_there_is_room(blocked):
    other = blocked.model_copy(update={"rule": "another rule", "verdict_id": "0" * 32})
    assert np.any(pixels_of((512, 512), blocked) != pixels_of((512, 512), other))
    assert np.array_equal(pixels_of((48, 48), blocked), pixels_of((48, 48), other))


def test_card_shows_nothing_of_the_work_or_the_picture(blocked):
    other = blocked.model_copy(
        update={"nearest": (), "credits": (), "explanation": "another", "image": "images[7]", "pixels_sha256": None}
    )
    assert np.array_equal(pixels_of((512, 512), blocked), pixels_of((512, 512), other))


@pytest.mark.parametrize("rule", ["a very long rule " * 40, "règle 規則 \U0001f512", "", "line\nbreak"])
def test_any_rule_can_be_drawn(rule):
    for size in [(96, 96), (192, 192), (512, 512)]:
        assert draw_card(size, accepted(decision=Decision.BLOCK, rule=rule)).size == size


def test_long_rule_stays_inside_the_card():
    pixels = pixels_of((256, 256), accepted(decision=Decision.BLOCK, rule="W" * 500))
    middle = pixels[40:216]
    assert np.array_equal(middle[:, 0], middle[:, 2])
    assert np.array_equal(middle[:, -1], middle[:, -3])
