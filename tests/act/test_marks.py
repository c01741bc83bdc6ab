import multiprocessing

import numpy as np
import pytest

from guardrail.act.marks import MARK_BITS, bits_of, chance_of, hex_of, own_mark
from guardrail.errors import SettingsInvalid
from guardrail.release_settings import WatermarkSettings
from guardrail.settings import Settings


def settings_at(home, payload=""):
    return Settings(home=home, watermark=WatermarkSettings(name="rivagan", payload=payload))


def test_mark_is_made_once_and_stays(tmp_path):
    made = own_mark(settings_at(tmp_path), make=True)
    assert own_mark(settings_at(tmp_path)) == own_mark(settings_at(tmp_path), make=True) == made
    assert own_mark(settings_at(tmp_path / "elsewhere"), make=True) != made


def test_mark_has_as_many_ones_as_zeros(tmp_path):
    made = [own_mark(settings_at(tmp_path / str(at)), make=True) for at in range(20)]
    assert {bits_of(mark, MARK_BITS).sum() for mark in made} == {16}
    assert len(set(made)) == 20


def test_setting_comes_before_the_file(tmp_path):
    own_mark(settings_at(tmp_path), make=True)
    assert own_mark(settings_at(tmp_path, "0f0f3c3c")) == "0f0f3c3c"


def test_looking_makes_no_mark(tmp_path):
    with pytest.raises(SettingsInvalid, match=r"found No such file.*expected eight hex digits.*watermark\.payload"):
        own_mark(settings_at(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kept", ["", "0f0f3c3", "0f0f3c3cc", "0F0F3C3C", "no digits"])
def test_damaged_mark_is_refused(tmp_path, kept):
    (tmp_path / "watermark.mark").write_text(kept)
    with pytest.raises(SettingsInvalid, match="expected 8 hex digits"):
        own_mark(settings_at(tmp_path), make=True)


@pytest.mark.parametrize(("payload", "ones"), [("00000000", 0), ("000001ff", 9), ("ffffff00", 24), ("007fffff", 23)])
def test_mark_that_chance_would_find_is_refused(tmp_path, payload, ones):
    with pytest.raises(SettingsInvalid, match=f"found a mark with {ones} ones of 32, expected 10 to 22"):
        own_mark(settings_at(tmp_path, payload))


@pytest.mark.parametrize("payload", ["000003ff", "003fffff"])
def test_mark_at_the_limit_is_taken(tmp_path, payload):
    assert own_mark(settings_at(tmp_path, payload)) == payload


def _mark_at(home):
    return own_mark(settings_at(home), make=True)


def test_processes_that_start_together_share_one_mark(tmp_path):
    with multiprocessing.get_context("spawn").Pool(2) as workers:
        assert len(set(workers.map(_mark_at, [tmp_path] * 4, chunksize=1))) == 1


def test_bits_and_hex_are_each_others_inverse():
    assert bits_of("8000000f", 32).tolist() == [True] + [False] * 27 + [True] * 4
    assert hex_of(bits_of("8000000f", 32)) == "8000000f"
    assert hex_of(bits_of("1fd9360912345678", 61)) == "1fd9360912345678"
    assert hex_of(np.ones(61, bool)) == "1" + "f" * 15


def test_chance_is_the_binomials_tail():
    assert chance_of(0) == 1
    assert chance_of(32) == 2**-32
    assert chance_of(27) == 242_825 / 2**32  # 201376 + 35960 + 4960 + 496 + 32 + 1
