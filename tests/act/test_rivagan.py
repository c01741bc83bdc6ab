import multiprocessing
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from mark_samples import painting
from PIL import Image

from guardrail.act import rivagan
from guardrail.act.marks import bits_of
from guardrail.act.rivagan import RIVAGAN_PRESENT_BITS, open_rivagan
from guardrail.errors import ExtraMissing, WeightsUnusable

installed = pytest.mark.skipif(
    find_spec("imwatermark") is None or find_spec("onnxruntime") is None,
    reason="needs onnxruntime and the weights in invisible-watermark (pip install --no-deps invisible-watermark)",
)
BITS = bits_of("0f0f3c3c", 32)


def agreeing(pixels):
    return int((open_rivagan().read(pixels) == BITS).sum())


@pytest.fixture(scope="module")
def marked():
    return open_rivagan().mark(painting(), BITS)


@installed
def test_mark_is_read_again_and_hardly_seen(marked):
    assert agreeing(marked) >= RIVAGAN_PRESENT_BITS
    assert agreeing(painting()) < RIVAGAN_PRESENT_BITS
    squared = np.mean((marked.astype(float) - painting()) ** 2)
    assert 10 * np.log10(255**2 / squared) > 36


@installed
def test_mark_outlasts_half_the_size_and_another_shape(marked):
    image = Image.fromarray(marked)
    assert agreeing(np.asarray(image.resize((128, 128)))) >= RIVAGAN_PRESENT_BITS
    assert agreeing(np.asarray(image.resize((320, 240)))) >= RIVAGAN_PRESENT_BITS


@installed
def test_other_bits_are_not_found(marked):
    assert int((open_rivagan().read(marked) == ~BITS).sum()) <= 32 - RIVAGAN_PRESENT_BITS


@installed
def test_marking_is_deterministic_and_leaves_its_input_alone(marked):
    pixels = painting()
    pixels.flags.writeable = False
    assert np.array_equal(open_rivagan().mark(pixels, BITS), marked)


@installed
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 301)])
def test_any_size_is_marked_at_its_own_size(height, width):
    made = open_rivagan().mark(painting(height, width), BITS)
    assert (made.shape, made.dtype) == ((height, width, 3), np.uint8)


@installed
def test_package_itself_is_never_imported():
    code = "import sys; from guardrail.act.rivagan import open_rivagan; open_rivagan(); "
    code += "print('imwatermark' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


@installed
def test_other_weights_are_refused(tmp_path):
    folder = Path(find_spec("imwatermark").submodule_search_locations[0])
    for name in ("rivagan_encoder.onnx", "rivagan_decoder.onnx"):
        shutil.copy(folder / name, tmp_path)
    open_rivagan(tmp_path)
    with (tmp_path / "rivagan_decoder.onnx").open("ab") as file:
        file.write(b"\0")
    rivagan._opened.cache_clear()
    with pytest.raises(WeightsUnusable, match=r"rivagan_decoder\.onnx'.*found sha256 .*expected 6b006690cf35"):
        open_rivagan(tmp_path)


@installed
def test_missing_weights_say_where_they_come_from(tmp_path):
    with pytest.raises(WeightsUnusable, match=r"found No such file.*expected an ONNX file of invisible-watermark"):
        open_rivagan(tmp_path)


def test_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(rivagan, "find_spec", lambda name: None)
    with pytest.raises(WeightsUnusable, match=r"pip install --no-deps invisible-watermark.*watermark\.weights"):
        open_rivagan()


def test_missing_onnxruntime_names_its_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ExtraMissing, match=r"onnxruntime.*diffusion-guardrail\[onnx\]"):
        open_rivagan(tmp_path)


def _agreeing_elsewhere(marked):
    return agreeing(marked)


@installed
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_forked_worker_loads_its_own_networks(marked):
    """A session that was made before the fork would wait for threads that are not there."""
    here = agreeing(marked)
    with multiprocessing.get_context("fork").Pool(1) as workers:
        assert workers.apply_async(_agreeing_elsewhere, (marked,)).get(timeout=60) == here
