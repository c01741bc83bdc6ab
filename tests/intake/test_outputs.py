"""Pictures in, pictures out: every kind of output comes back as it was, with only the withheld pictures replaced."""

import collections
import dataclasses

import numpy as np
import pytest
import torch
from diffusers.pipelines.pipeline_utils import AudioPipelineOutput, ImagePipelineOutput
from diffusers.pipelines.stable_diffusion import StableDiffusionPipelineOutput
from diffusers.utils import BaseOutput
from PIL import Image

from guardrail.errors import OutputNotUnderstood
from guardrail.intake import own_copy, pictures_in, put_into

CARD = Image.new("RGB", (8, 6), (255, 0, 0))
PICTURES = np.random.default_rng(0).integers(0, 256, (3, 6, 8, 3), np.uint8)
FLOATS = PICTURES.astype(np.float32) / 255


@dataclasses.dataclass
class VideoOutput(BaseOutput):
    frames: object


@dataclasses.dataclass
class EmbeddingOutput(BaseOutput):
    image_embeds: object


def pil(count=3):
    return [Image.fromarray(picture) for picture in PICTURES[:count]]


VALUES = {
    "pillow list": pil(),
    "pillow tuple": tuple(pil()),
    "nested": [pil(2), pil(1)],
    "numpy": FLOATS,
    "numpy signed": FLOATS * 2 - 1,
    "numpy list": list(FLOATS),
    "torch": torch.from_numpy(FLOATS).permute(0, 3, 1, 2),
    "torch signed half": (torch.from_numpy(FLOATS).permute(0, 3, 1, 2) * 2 - 1).half(),
    "torch video": torch.from_numpy(FLOATS).permute(0, 3, 1, 2)[:, None],
    "grey": FLOATS[..., :1],
    "alpha": np.concatenate([FLOATS, np.ones_like(FLOATS[..., :1])], -1),
    "bytes": PICTURES,
}


def shape_of(value):
    if isinstance(value, list | tuple):
        return type(value), [shape_of(item) for item in value]
    if isinstance(value, Image.Image):
        return value.mode, value.size
    return type(value), value.dtype, tuple(value.shape)


def wrapped(kind, value):
    return {
        "field": ImagePipelineOutput(images=value),
        "tuple": (value, None),
        "bare": value,
        "frames": VideoOutput(value),
    }[kind]


@pytest.mark.parametrize("kind", ["field", "tuple", "bare", "frames"])
@pytest.mark.parametrize("name", VALUES)
def test_replaced_output_has_the_same_types_and_shapes(kind, name):
    if kind == "bare" and name == "pillow tuple":
        pytest.skip("a bare tuple is a pipeline's tuple")
    value = VALUES[name]
    output = wrapped(kind, value)
    found = pictures_in(output)
    assert len(found.batch) == 3
    assert all(picture.pixels is not None for picture in found.batch.pictures)
    second = found.batch.pictures[1].name
    rebuilt = put_into(output, {second: CARD})
    assert type(rebuilt) is type(output)
    inner = rebuilt if kind == "bare" else rebuilt[0]
    assert shape_of(inner) == shape_of(value)
    again = pictures_in(rebuilt).batch.pictures
    assert torch.equal(again[0].pixels, found.batch.pictures[0].pixels)
    assert torch.equal(again[2].pixels, found.batch.pictures[2].pixels)
    expected = [76, 76, 76] if name == "grey" else [255, 0, 0]
    assert again[1].pixels[:, 3, 3].tolist() == expected


def test_original_output_is_never_written_to():
    for value in (FLOATS.copy(), torch.from_numpy(FLOATS).clone(), pil()):
        output = ImagePipelineOutput(images=value)
        before = [picture.pixels for picture in pictures_in(output).batch.pictures]
        put_into(output, {"images[0]": CARD})
        after = [picture.pixels for picture in pictures_in(output).batch.pictures]
        assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_nothing_replaced_hands_on_the_very_same_values():
    value = FLOATS.copy()
    assert put_into(ImagePipelineOutput(images=value), {}).images is value


def test_other_fields_are_kept():
    output = StableDiffusionPipelineOutput(images=pil(), nsfw_content_detected=[False, True, False])
    assert put_into(output, {"images[0]": CARD}).nsfw_content_detected == [False, True, False]


def test_values_of_another_call_fill_only_their_places():
    other = pictures_in(ImagePipelineOutput(images=FLOATS[::-1].copy())).values
    rebuilt = put_into(ImagePipelineOutput(images=FLOATS), {}, {"images[0]": other["images[0]"]})
    assert np.array_equal(rebuilt.images[0], FLOATS[2])
    assert np.array_equal(rebuilt.images[1:], FLOATS[1:])


def test_nan_fails_alone_and_its_place_takes_a_card():
    spoiled = FLOATS.copy()
    spoiled[1, 0, 0, 0] = np.nan
    found = pictures_in(ImagePipelineOutput(images=spoiled))
    assert [picture.failure is None for picture in found.batch.pictures] == [True, False, True]
    rebuilt = put_into(ImagePipelineOutput(images=spoiled), {"images[1]": CARD}).images
    assert rebuilt[1, 3, 3].tolist() == [1, 0, 0]
    assert np.array_equal(rebuilt[0], FLOATS[0])


def test_latents_fail_and_are_emptied():
    latents = torch.randn(2, 16, 6, 8) * 4
    found = pictures_in(ImagePipelineOutput(images=latents))
    assert all("channels" in picture.failure.error for picture in found.batch.pictures)
    assert not put_into(ImagePipelineOutput(images=latents), {"images[0]": CARD}).images[0].any()
    four = pictures_in(ImagePipelineOutput(images=torch.randn(2, 4, 6, 8) * 4))
    assert all("latent" in picture.failure.error for picture in four.batch.pictures)


@pytest.mark.parametrize(
    "output",
    [
        AudioPipelineOutput(audios=np.zeros((1, 100))),
        EmbeddingOutput(torch.zeros(2, 768)),
        ImagePipelineOutput(images=None),
        ImagePipelineOutput(images="path.png"),
        (None, True),
        (torch.zeros(2, 768), torch.zeros(2, 768)),
        "text",
        None,
        {"images": 3},
    ],
)
def test_output_without_pictures_is_refused(output):
    with pytest.raises(OutputNotUnderstood, match="nothing was released"):
        pictures_in(output)


def test_empty_output_has_no_pictures():
    assert len(pictures_in(ImagePipelineOutput(images=[])).batch) == 0
    assert len(pictures_in(([],)).batch) == 0


@dataclasses.dataclass
class Extra(BaseOutput):
    images: object
    extra: object


Pair = collections.namedtuple("Pair", "first second")
FIELD = torch.from_numpy(FLOATS[:1]).permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    ("hidden", "count"),
    [
        (FLOATS[:2], 2),
        (FIELD, 1),
        ([FLOATS[0], None], 1),
        ([None, pil(1)[0]], 1),
        ({"a": pil(1)[0], "b": {"c": FLOATS[0]}}, 2),
        (ImagePipelineOutput(images=pil(1)), 1),
        (Pair(pil(1)[0], 3), 1),
        (FLOATS[0, :, :, 0], 1),
    ],
)
def test_picture_anywhere_in_the_output_is_found_and_can_be_withheld(hidden, count):
    for output in (Extra(pil(1), hidden), (pil(1), hidden)):
        found = pictures_in(output)
        assert len(found.batch) == 1 + count
        names = [picture.name for picture in found.batch.pictures[1:]]
        rebuilt = put_into(output, dict.fromkeys(names, CARD))
        kept = {name: value for name, value in pictures_in(rebuilt).values.items() if name in names}
        assert all(not np.array_equal(np.asarray(kept[name]), np.asarray(found.values[name])) for name in names)
        assert type(rebuilt[1]) is type(hidden)


@pytest.mark.parametrize(
    "hidden", [{1, 2}, collections.deque(pil(1)), b"\x89PNG", np.array([pil(1)[0]], object), iter(pil(1)), object()]
)
def test_output_that_cannot_be_looked_into_is_refused(hidden):
    for output in (Extra(pil(1), hidden), (pil(1), hidden)):
        with pytest.raises(OutputNotUnderstood):
            pictures_in(output)


def test_video_whose_channels_may_be_two_axes_is_blocked():
    video = torch.rand(1, 3, 3, 6, 8)
    assert all(
        "either of two axes" in picture.failure.error for picture in pictures_in(VideoOutput(video)).batch.pictures
    )


def test_own_copy_shares_no_memory_and_keeps_types():
    for value in VALUES.values():
        output = ImagePipelineOutput(images=value)
        mine = own_copy(output)
        assert shape_of(mine.images) == shape_of(value)
        pairs = zip(pictures_in(mine).values.values(), pictures_in(output).values.values(), strict=True)
        for one, other in pairs:
            assert np.array_equal(np.asarray(one), np.asarray(other))
            assert isinstance(one, Image.Image) or not np.shares_memory(np.asarray(one), np.asarray(other))


def test_picture_hidden_in_a_second_field_is_found():
    @dataclasses.dataclass
    class Sneaky(BaseOutput):
        images: object
        extra: object

    assert len(pictures_in(Sneaky(pil(1), pil(2))).batch) == 3
