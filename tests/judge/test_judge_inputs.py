"""An image that repeats the user's own input: by the same signals and limits as works."""

import numpy as np
import pytest

from guardrail.carriers import Fingerprints
from guardrail.judge import input_matches, known_inputs
from guardrail.records import (
    VIEWS,
    BitsLimit,
    CheckFailed,
    InputPicture,
    Limits,
    Neighbour,
    Signal,
    SimilarityLimit,
    Work,
)

LIMITS = Limits(
    pdq=BitsLimit(flag_within_bits=64, block_within_bits=31),
    phash=BitsLimit(flag_within_bits=5),
    copy=SimilarityLimit(flag_above=0.7, block_above=0.9),
    clip=SimilarityLimit(flag_above=0.5, block_above=0.6),
    pdq_quality_at_least=50,
)
INIT = InputPicture(name="image", role="init")
MASK = InputPicture(name="mask_image", role="mask")
FOX = Work(work_id="fox")


def prints(seeds, quality=100, failed=False):
    """Fingerprints that are random for each seed, and the same for the same one."""
    chances = [np.random.default_rng(seed) for seed in seeds]
    vectors = np.stack([chance.normal(size=32) for chance in chances]).astype(np.float32)
    failure = CheckFailed(check="copy", image="x", error="e") if failed else None
    return Fingerprints(
        failures=(failure,) * len(seeds),
        file_sha256=(None,) * len(seeds),
        pixels_sha256=tuple(f"{seed:064x}" for seed in seeds),
        pdq=np.stack([chance.integers(0, 256, (8, 32), np.uint8) for chance in chances]),
        pdq_quality=np.full(len(seeds), quality),
        phash=np.stack([chance.integers(0, 256, (8, 8), np.uint8) for chance in chances]),
        copy=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
    )


def known(seeds=(1,), records=(INIT,), near=((),), **said):
    return known_inputs(records, prints(seeds), near, LIMITS, **said)


def test_same_picture_is_found_by_every_signal():
    found = input_matches(known(), prints([2, 1]), 1, LIMITS)
    assert [one.signal for one in found] == [Signal.PIXELS, Signal.PDQ, Signal.PHASH, Signal.COPY]
    assert {(one.input, one.role, one.view) for one in found} == {("image", "init", "identity")}
    assert [one.distance_bits for one in found] == [None, 0, 0, None]
    assert found[-1].similarity == pytest.approx(1, abs=1e-6)
    assert input_matches(known(), prints([2, 1]), 0, LIMITS) == ()


@pytest.mark.parametrize(("bits", "found"), [(64, [Signal.PDQ]), (65, [])])
def test_hash_counts_up_to_its_flag_limit(bits, found):
    image = prints([2])
    inputs = known()
    flipped = np.unpackbits(inputs.prints.pdq[0, 0])
    flipped[:bits] ^= 1
    image.pdq[0, 3] = np.packbits(flipped)
    matches = input_matches(inputs, image, 0, LIMITS)
    assert [one.signal for one in matches] == found
    assert [(one.distance_bits, one.view) for one in matches] == [(64, VIEWS[3])] * len(found)


@pytest.mark.parametrize(("similarity", "count"), [(0.701, 1), (0.699, 0)])
def test_copy_descriptor_counts_from_its_flag_limit(similarity, count):
    inputs, image = known(), prints([2])
    along = inputs.prints.copy[0]
    across = image.copy[0] - (image.copy[0] @ along) * along
    image.copy[0] = similarity * along + (1 - similarity**2) ** 0.5 * across / np.linalg.norm(across)
    assert [one.signal for one in input_matches(inputs, image, 0, LIMITS)] == [Signal.COPY] * count
    normalised = known(by_copy=False)
    assert input_matches(normalised, image, 0, LIMITS) == ()


def test_blank_pictures_repeat_each_other_only_pixel_by_pixel():
    inputs = known_inputs((INIT,), prints([1], quality=10), ((),), LIMITS)
    assert [one.signal for one in input_matches(inputs, prints([1]), 0, LIMITS)] == [Signal.PIXELS]


def test_masks_and_what_could_not_be_fingerprinted_repeat_nothing():
    assert input_matches(known(records=(MASK,)), prints([1]), 0, LIMITS) == ()
    broken = known_inputs((INIT,), prints([1], failed=True), ((),), LIMITS)
    assert input_matches(broken, prints([1]), 0, LIMITS) == ()
    assert input_matches(known(), prints([1], failed=True), 0, LIMITS) == ()


@pytest.mark.parametrize(
    ("near", "is_copy"),
    [
        (Neighbour(work=FOX, row=0, signal=Signal.PIXELS, distance_bits=0), True),
        (Neighbour(work=FOX, row=0, signal=Signal.PDQ, distance_bits=31), True),
        (Neighbour(work=FOX, row=0, signal=Signal.PDQ, distance_bits=32), False),
        (Neighbour(work=FOX, row=0, signal=Signal.COPY, similarity=0.9), True),
        (Neighbour(work=FOX, row=0, signal=Signal.COPY, similarity=0.89), False),
        (Neighbour(work=FOX, row=0, signal=Signal.CLIP, similarity=1.0), False),
    ],
)
def test_input_is_a_copy_of_works_at_their_block_limit(near, is_copy):
    (found, *_) = input_matches(known(near=((near, near),)), prints([1]), 0, LIMITS)
    assert found.works == ((FOX,) if is_copy else ())


def test_blank_input_is_a_copy_of_no_work_but_its_very_pixels():
    copied = Neighbour(work=FOX, row=0, signal=Signal.COPY, similarity=1.0)
    exact = Neighbour(work=FOX, row=0, signal=Signal.PIXELS, distance_bits=0)
    for near, works in ((copied, ()), (exact, (FOX,))):
        inputs = known_inputs((INIT,), prints([1], quality=10), ((near,),), LIMITS)
        assert inputs.works == (works,)


def test_records_fingerprints_and_answers_must_belong_together():
    with pytest.raises(ValueError, match="2 inputs"):
        known_inputs((INIT, MASK), prints([1]), ((),), LIMITS)
