import numpy as np
import pytest

from guardrail.study.audit import Generations, PictureSet, Plan
from guardrail.study.audit.coverage import unasked, works_asked
from guardrail.study.audit.plan import ordered_captions, ordered_labels
from guardrail.study.audit.wording import counted


def works(captions=(None, None, None), labels=()):
    return PictureSet(("a", "b", "c"), captions, lambda row, side: np.zeros((side, side, 3), np.uint8), labels)


def made(prompts=(), labels=()):
    count = max(len(prompts), len(labels))
    empty = (None,) * count
    numbers = tuple(range(count))
    return Generations(np.zeros((count, 4, 4, 3), np.uint8), numbers, numbers, prompts or empty, labels or empty)


@pytest.mark.parametrize(
    ("training", "prompts", "labels", "count"),
    [
        (works(), (None, None), (None, None), 3),
        (works(), (), (), 0),
        (works(("x", "y", None)), ("x",), (None,), 1),
        (works(("x", "x", "y")), ("x",), (None,), 2),
        (works(labels=(0, 1, None)), (None, None), (0, 1), 2),
        (works(labels=(0, 0, 0)), (None,), (0,), 3),
    ],
)
def test_work_counts_as_asked_for_where_its_caption_or_label_was(training, prompts, labels, count):
    assert works_asked(training, prompts, labels) == count


def test_what_was_never_asked_for_is_said():
    plan = Plan(count=4, prompts=("x", "y"), each=4)
    said = unasked(works(("x", "y", None)), plan, made(("x",) * 4))
    assert said == (
        "1 of 3 training pictures has no caption, and could not be asked for; give captions for all",
        "1 of 2 captions were asked for; --generations 5 asks for all",
    )
    assert unasked(works(("x", "y", "y")), Plan(count=5, prompts=("x", "y"), each=4), made(("x", "y"))) == ()


def test_label_that_gave_nothing_is_said():
    said = unasked(works(labels=(3, 4, 4)), Plan(count=2, labels=(4, 3)), made(labels=(4,)))
    assert said == ("1 of 2 class labels were asked for; the others gave nothing yet",)


def test_unconditional_model_has_nothing_left_to_ask():
    assert unasked(works(), Plan(count=2), made()) == ()


def test_empty_captions_ask_for_nothing():
    assert ordered_captions(["", " ", None, "x"], 0) == ("x",)


def test_labels_of_most_pictures_come_first():
    assert ordered_labels([7, None, 2, 9, 2]) == (2, 7, 9)


def test_one_thing_is_no_plural():
    assert [counted(count, "clique") for count in (0, 1, 1200)] == ["0 cliques", "1 clique", "1,200 cliques"]
