from dataclasses import replace

import pytest
from attacked import as_set, pictures, subject

from guardrail.records import PrivacyClaim
from guardrail.study.audit.attacking import Attacks, attacks_on

MEMBERS, OTHERS = pictures(8, 1), pictures(8, 2)


class Painter:
    def __call__(self, image, mask_image, strength, generator):
        raise AssertionError("nobody calls it here")


def read(output):
    return output.images


@pytest.fixture(scope="module")
def model():
    return subject(MEMBERS, OTHERS, knows=MEMBERS)


def names(subject, given):
    return [part.name for part in attacks_on(subject, given)]


def test_a_network_that_can_be_asked_is_attacked_in_three_ways(model):
    assert names(model, Attacks()) == ["membership", "inpainting", "strength"]


def test_attacks_that_could_never_answer_are_left_out(model):
    assert names(replace(model, denoiser=None), Attacks(read)) == []
    assert names(replace(model, held_out=as_set(OTHERS[:0], "other")), Attacks(read)) == []
    assert names(replace(model, denoiser=None, pipeline=Painter()), Attacks()) == []
    assert names(replace(model, denoiser=None, pipeline=Painter()), Attacks(read)) == ["inpainting", "strength"]


def test_what_was_asked_for_is_never_left_out(model):
    given = Attacks(read, claim=PrivacyClaim(epsilon=1), adapter_works=as_set(MEMBERS, "work"))
    unasked = replace(model, denoiser=None, held_out=as_set(OTHERS[:0], "other"))
    assert names(unasked, given) == ["privacy", "adapter"]
