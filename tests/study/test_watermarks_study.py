import numpy as np
import pytest

from guardrail.carriers import Marked
from guardrail.records import Watermark, WatermarkFound
from guardrail.study.edits import EDITS
from guardrail.study.watermarks import (
    ATTACKS,
    Attack,
    Marking,
    chance_found,
    even_mark,
    measure_marks,
    psnr_db,
    ssim,
)


def picture(seed=0, side=48):
    return np.random.default_rng(seed).integers(40, 216, (side, side, 3)).astype(np.uint8)


def lowest_bits(pixels):
    return pixels & 1


def fragile(decided=lambda pixels: "accept", attacks=(), needs=0):
    """A mark in the lowest bit of every value: lost to compression, kept by a mirror. Flat pictures do not keep it."""

    def mark(pixels):
        marked = pixels | 1 if pixels.std() > needs else pixels
        return Marked(marked, Watermark(algorithm="lowest bit", payload="f", bits=4, bits_found=4))

    def find(pixels):
        right = int(4 * lowest_bits(pixels).mean())
        return WatermarkFound(algorithm="lowest bit", present=right == 4, payload="f", bits=4, bits_found=right)

    def hashed(pixels):
        return np.packbits(lowest_bits(pixels).ravel()[:256])

    return Marking(mark, find, hashed, decided, attacks)


def test_attacks_that_keep_a_mark_are_told_from_those_that_do_not():
    attacks = (Attack("mirror", 100, "mirrored"), Attack("jpeg", 50, "JPEG"))
    figures = measure_marks([picture(seed) for seed in range(3)], fragile(attacks=attacks))
    mirrored, compressed = figures.attacks
    assert (mirrored.present, mirrored.images, mirrored.bits_right) == (3, 3, 1)
    assert (compressed.present, compressed.images) == (0, 3)
    assert compressed.bits_right < 1
    assert (figures.kept, figures.alarms) == (3, 0)
    assert mirrored.low == pytest.approx(0.4385, abs=1e-4)  # Wilson, 3 of 3


def test_pictures_that_lost_the_mark_are_counted_and_not_attacked():
    flat = np.full((16, 16, 3), 40, np.uint8)
    attacks = (Attack("mirror", 100, "mirrored"),)
    figures = measure_marks([picture(), flat], fragile(attacks=attacks, needs=1))
    assert (figures.images, figures.kept) == (2, 1)
    assert figures.attacks[0].images == 1


def test_mark_found_in_an_unmarked_picture_is_an_alarm():
    figures = measure_marks([picture() | 1, picture(1)], fragile())
    assert (figures.alarms, figures.images) == (1, 2)
    assert figures.alarms_high == pytest.approx(0.9874, abs=1e-4)  # Clopper and Pearson, 1 of 2
    assert figures.unmarked_bits_most == 4


def test_another_decision_on_the_marked_picture_is_told():
    marking = fragile(decided=lambda pixels: "flag" if lowest_bits(pixels).all() else "accept")
    figures = measure_marks([picture(), picture(1)], marking)
    assert figures.decided_otherwise == {"accept>flag": 2}
    assert figures.pdq_bits_most == max(256 - lowest_bits(picture(seed)).ravel()[:256].sum() for seed in (0, 1))


def test_same_seed_makes_the_same_attacks():
    attacks = (Attack("noise", 5, "noise"), Attack("crop", 30, "crop"))
    twice = [measure_marks([picture()], fragile(attacks=attacks)).attacks for _ in range(2)]
    assert twice[0] == twice[1]


def test_no_picture_is_an_error():
    with pytest.raises(ValueError, match="found no picture"):
        measure_marks([], fragile())


def test_default_attacks_are_edits_that_exist():
    assert {attack.edit for attack in ATTACKS} <= EDITS.keys()
    assert len({attack.said for attack in ATTACKS}) == len(ATTACKS)


def test_intensities_do_what_their_words_say():
    from PIL import Image

    said = {attack.said: attack for attack in ATTACKS}
    image = Image.fromarray(picture(side=400))
    random = np.random.default_rng(0)

    def size(words):
        attack = said[words]
        return EDITS[attack.edit](image, attack.intensity, random).size

    assert size("half of each side") == (200, 200)
    assert sorted(size("one side to four fifths")) == [320, 400]
    cut = size("a tenth of the area cut off")
    assert cut[0] * cut[1] / 400**2 == pytest.approx(0.9, abs=0.005)
    assert round(95 - 92 * said["JPEG, quality 50"].intensity / 100) == 50
    assert round(95 - 92 * said["JPEG, quality 75"].intensity / 100) == 75
    assert round(95 - 95 * said["WebP, quality 50"].intensity / 100) == 50
    assert 60 * said["noise of deviation 10 of 255"].intensity / 100 == pytest.approx(10, abs=0.05)


def test_psnr_of_one_step_is_48_decibels():
    assert psnr_db(picture(), picture() + 1) == pytest.approx(48.13, abs=0.005)  # 20 log10 255
    assert psnr_db(picture(), picture()) == 100


def test_ssim_tells_structure_from_light():
    """Wang et al. 2004, figure 2: a shift of the mean stays near 1 where blur of the same error does not."""
    smooth = np.kron(picture(side=12), np.ones((8, 8, 1), np.uint8))
    assert ssim(smooth, smooth) == pytest.approx(1)
    shifted = (smooth.astype(int) + 12).astype(np.uint8)
    noisy = (smooth + np.random.default_rng(0).normal(0, 12, smooth.shape)).clip(0, 255).astype(np.uint8)
    assert abs(psnr_db(smooth, shifted) - psnr_db(smooth, noisy)) < 1
    assert ssim(smooth, shifted) > 0.97 > 0.9 > ssim(smooth, noisy)


def test_chance_is_that_of_evenly_split_marks():
    """Marks with 16 ones that agree with one such in 20 bits have 10 of its ones."""
    assert int(even_mark(np.random.default_rng(0)), 16).bit_count() == 16
    assert chance_found(["0000ffff"], 33, 100) == 0
    assert chance_found(["0000ffff"], 0, 100) == 1
    share = chance_found(["0000ffff"], 20, 20_000)
    assert share == pytest.approx(0.1445, abs=0.01)  # hypergeometric(32, 16, 16): at least 10 of 16 ones in place
