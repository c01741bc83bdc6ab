"""Both shipped watermarks, asked as a guard asks them."""

import sys
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import pluggy
import pytest

from guardrail import hookspecs
from guardrail.errors import ExtraMissing, SettingsInvalid, WeightsUnusable
from guardrail.records import Decision, Verdict
from guardrail.release_settings import WatermarkSettings
from guardrail.settings import Settings
from guardrail_hooks import rivagan_watermark, trustmark_watermark

sys.path.insert(0, str(Path(__file__).parent.parent / "act"))
from mark_samples import MARK, PAYLOAD, painting, trustmark_weights

rivagan_installed = pytest.mark.skipif(
    find_spec("imwatermark") is None or find_spec("onnxruntime") is None,
    reason="needs invisible-watermark, onnxruntime",
)
trustmark_installed = pytest.mark.skipif(find_spec("trustmark") is None, reason="needs the package trustmark")


@pytest.fixture(scope="module")
def plugins():
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(rivagan_watermark)
    manager.register(trustmark_watermark)
    manager.check_pending()
    return manager


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder, _, digest = trustmark_weights(tmp_path_factory)
    return folder, digest


@pytest.fixture(scope="module")
def marked(plugins):
    """A picture with the mark of RivaGAN."""
    return mark(plugins, told(Path("nowhere"), "rivagan"))


def told(home, name, **said):
    return Settings(home=home, watermark=WatermarkSettings(**{"name": name, "payload": MARK, **said}))


def verdict():
    return Verdict(
        verdict_id="of this image",
        image="images[0]",
        pixels_sha256="1" * 64,
        at=datetime.now(UTC),
        decision=Decision.ACCEPT,
        rule="default",
        explanation="",
        evidence=(),
        nearest=(),
        index_snapshot=None,
        policy_sha256="0" * 64,
        calibration="uncalibrated",
    )


def mark(plugins, settings, pixels=None):
    pixels = painting() if pixels is None else pixels
    return plugins.hook.watermark_image(pixels=pixels, verdict=verdict(), context=None, settings=settings)


def find(plugins, settings, pixels):
    return plugins.hook.find_watermark(pixels=pixels, settings=settings)


@rivagan_installed
def test_hook_watermark_image_marks_and_hook_find_watermark_finds(plugins, marked, tmp_path):
    settings = told(tmp_path, "rivagan")
    assert marked.watermark.payload == MARK
    assert (marked.watermark.bits, marked.watermark.registered) == (32, False)
    (found,) = find(plugins, settings, marked.pixels)
    assert found.present
    assert found.bits_found == marked.watermark.bits_found >= 27
    assert found.algorithm == marked.watermark.algorithm
    (unmarked,) = find(plugins, settings, painting())
    assert not unmarked.present
    assert unmarked.bits_found == 32 - (int(unmarked.payload, 16) ^ int(MARK, 16)).bit_count() < 27


@rivagan_installed
def test_mark_of_another_installation_is_not_ours(plugins, marked, tmp_path):
    (found,) = find(plugins, told(tmp_path, "rivagan", payload="3c3cf0f0"), marked.pixels)
    assert not found.present


@rivagan_installed
@pytest.mark.parametrize(("wrong_bits", "present"), [(5, True), (6, False)])
def test_hook_find_watermark_draws_the_line_at_27_bits(plugins, marked, tmp_path, wrong_bits, present):
    """What is read in one picture is fixed, so the mark that is looked for is moved away from it bit by bit."""
    (read,) = find(plugins, told(tmp_path, "rivagan"), marked.pixels)
    looked_for = f"{int(read.payload, 16) ^ int('1' * wrong_bits, 2):08x}"
    (found,) = find(plugins, told(tmp_path, "rivagan", payload=looked_for), marked.pixels)
    assert (found.bits_found, found.present) == (32 - wrong_bits, present)


@rivagan_installed
def test_looking_without_a_mark_of_ones_own_is_no_finding(plugins, tmp_path):
    with pytest.raises(SettingsInvalid, match=r"watermark\.mark"):
        find(plugins, told(tmp_path, "rivagan", payload=""), painting())


@pytest.mark.parametrize("name", ["", "another's"])
def test_plugins_keep_out_of_what_they_are_not_named_for(plugins, tmp_path, name):
    assert mark(plugins, told(tmp_path, name)) is None
    assert find(plugins, told(tmp_path, name), painting()) == []
    assert not list(tmp_path.iterdir())


def test_named_plugin_without_its_package_is_an_error(plugins, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ExtraMissing, match="onnx"):
        mark(plugins, told(tmp_path, "rivagan", weights=tmp_path))
    monkeypatch.setitem(sys.modules, "trustmark", None)
    with pytest.raises(ExtraMissing, match="trustmark"):
        mark(plugins, told(tmp_path, "trustmark", weights=tmp_path))


@trustmark_installed
def test_named_trustmark_without_weights_is_an_error(plugins, tmp_path):
    with pytest.raises(WeightsUnusable, match="do not ship"):
        mark(plugins, told(tmp_path, "trustmark"))
    with pytest.raises(WeightsUnusable, match="do not ship"):
        find(plugins, told(tmp_path, "trustmark"), painting())


@trustmark_installed
def test_trustmark_finds_this_installations_mark_and_no_others(plugins, tmp_path, weights):
    folder, digest = weights
    said = {"weights": folder, "weights_sha256": digest}
    (found,) = find(plugins, told(tmp_path, "trustmark", **said), painting())
    assert (found.present, found.payload, found.bits_found) == (True, PAYLOAD, 61)
    (other,) = find(plugins, told(tmp_path, "trustmark", payload="0f0f3c3d", **said), painting())
    assert (other.present, other.payload, other.bits_found) == (False, PAYLOAD, 0)


@trustmark_installed
def test_trustmark_names_image_and_installation(plugins, tmp_path, weights):
    folder, digest = weights
    marked = mark(plugins, told(tmp_path, "trustmark", weights=folder, weights_sha256=digest))
    payload = int(marked.watermark.payload, 16)
    assert f"{payload >> 29:08x}" == MARK
    assert marked.watermark.registered
    assert marked.watermark.bits_found == 0  # these weights read the same payload in everything, which is not this one
    assert marked.pixels.shape == painting().shape
