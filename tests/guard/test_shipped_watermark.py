"""The shipped watermark in the flow of a guard: put in, judged again, signed, found in the file that left."""

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guardrail.errors import SettingsInvalid, WeightsUnusable
from guardrail_hooks.rivagan_watermark import find_watermark

sys.path.insert(0, str(Path(__file__).parent.parent / "act"))
from mark_samples import MARK, trustmark_weights

installed = pytest.mark.skipif(
    find_spec("imwatermark") is None or find_spec("onnxruntime") is None,
    reason="needs onnxruntime and the weights in invisible-watermark",
)


def painting(side=256):
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (7, 7, 3), np.uint8))
    values = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), float)
    return Image.fromarray((values + random.normal(0, 6, values.shape)).clip(0, 255).astype(np.uint8))


@installed
def test_released_file_carries_the_mark_of_this_installation(make_guard, tmp_path):
    guard = make_guard(watermark={"name": "rivagan"}, provenance={"mime": "image/jpeg"})
    (path,) = guard.check(painting()).save(tmp_path / "out")
    with Image.open(path) as image:
        found = find_watermark(np.asarray(image.convert("RGB")), guard.settings)
    assert found.present
    kept = (tmp_path / "watermark.mark").read_text().strip()
    told = [row.content for row in guard.memory.rows() if row.kind == "release"][-1]["release"]["watermark"]
    assert (told["payload"], told["bits_found"]) == (kept, found.bits_found)
    assert b"c2pa.watermarked.unbound" in path.read_bytes()


@pytest.mark.skipif(find_spec("trustmark") is None, reason="needs the package trustmark")
def test_registered_mark_is_bound_to_its_manifest(make_guard, tmp_path, tmp_path_factory, monkeypatch):
    """Weights that read this mark in everything, but would spoil what they mark, so that is left out."""
    monkeypatch.setattr("guardrail.act.trustmark.TrustMark.mark", lambda networks, pixels, payload: pixels)
    folder, _, digest = trustmark_weights(tmp_path_factory)
    said = {"name": "trustmark", "weights": folder, "weights_sha256": digest, "payload": MARK}
    guard = make_guard(watermark=said, provenance={"soft_binding": True})
    (path,) = guard.check(painting()).save(tmp_path / "out")
    assert b"c2pa.watermarked.bound" in path.read_bytes()
    assert b"com.adobe.trustmark.C" in path.read_bytes()
    assert b"io.iscc.v0" in path.read_bytes()  # both bindings, side by side
    assert f"1*{int(MARK, 16):032b}".encode() in path.read_bytes()  # TrustMark's own form of the payload


@installed
def test_flat_picture_in_which_no_mark_lasts_is_not_released(make_guard, tmp_path):
    from guardrail.errors import ReleaseFailed

    guard = make_guard(watermark={"name": "rivagan"})
    tiny = painting().resize((6, 6))
    report = guard.check(tiny)
    if report.verdicts[0].decision.value != "accept":
        pytest.skip("so small a picture is not accepted in the first place")
    with pytest.raises(ReleaseFailed, match="mark cannot be found again"):
        report.save(tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"name": "rivagan", "weights": "no/such/folder"}, WeightsUnusable),
        ({"name": "rivagan", "payload": "00"}, SettingsInvalid),
        ({"name": "trustmark"}, WeightsUnusable),
    ],
)
def test_named_mark_that_cannot_be_put_in_keeps_images_in(make_guard, tmp_path, said, error):
    guard = make_guard(watermark=said)
    with pytest.raises(error):
        guard.check(painting()).save(tmp_path / "out")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
