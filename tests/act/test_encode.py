import io

import numpy as np
import pytest
import torch
from act_samples import chunks_of, noise
from PIL import Image

from guardrail.act import encode_png


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (48, 40)])
def test_pixels_come_back_unchanged(size):
    pixels = noise(*size)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode_png(pixels)))), pixels)


def test_tensor_and_array_give_the_same_file():
    pixels = noise()
    assert encode_png(torch.from_numpy(pixels).permute(2, 0, 1)) == encode_png(pixels)


def test_nothing_but_pixels_is_in_the_file():
    types = chunks_of(encode_png(noise(300, 300)))
    assert (types[0], types[-1]) == (b"IHDR", b"IEND")
    assert set(types[1:-1]) == {b"IDAT"}


def test_caller_s_pixels_are_not_written_to():
    pixels = noise()
    pixels.setflags(write=False)
    encode_png(pixels)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        torch.zeros(3, 4, 4),
        torch.zeros(4, 4, dtype=torch.uint8),
        torch.zeros(1, 4, 4, dtype=torch.uint8),
    ],
)
def test_other_types_and_shapes_are_refused(wrong):
    with pytest.raises(ValueError, match="expected uint8"):
        encode_png(wrong)
