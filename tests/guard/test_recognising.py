"""Copies of our outputs are known again without credentials, and other pictures are not taken for one."""

import io
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from guardrail.carriers import Picture
from guardrail.desk.recognise_run import TEMPLATES, template
from guardrail.errors import ImageUnreadable
from guardrail.fingerprint import MiniEmbedder
from guardrail.recognising import Recognising, RecognitionLimits
from guardrail.records import CheckFailed, Release

WORKS = Path(__file__).parents[2] / "indexes" / "demo" / "works"
NAMES = ("bulldog-puppy", "caterpillar", "orange-slice", "pepperoni-pizza-slice", "red-eye-frog")


class Memory:
    def __init__(self):
        self.rows = []

    def released_prints(self):
        return iter(self.rows)


@pytest.fixture(scope="module")
def mini():
    return MiniEmbedder("cpu")


@pytest.fixture(scope="module")
def outputs():
    """Real pictures, by name: RGB, 320 px at most."""
    shown = {}
    for name in NAMES:
        with Image.open(WORKS / f"{name}.webp") as image:
            shown[name] = image.convert("RGB")
        shown[name].thumbnail((320, 320))
    return shown


@pytest.fixture(scope="module")
def kept(mini, outputs):
    """What is kept of them, each with a release that is named like it."""
    memory = Memory()
    recognising = Recognising(memory, mini)
    memory.rows = [(release(name), recognising.prints_of(picture(image))) for name, image in outputs.items()]
    return memory


@pytest.fixture(scope="module")
def recognising(mini, kept):
    return Recognising(kept, mini)


def picture(image, name="picture"):
    return Picture(name, pixels=torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous())


def release(name):
    return Release(verdict_id="1", file=name, file_sha256="0" * 64, manifest_id=name, at=datetime.now(UTC))


def jpeg(image, quality=50):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(io.BytesIO(file.getvalue())).convert("RGB")


def half(image):
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)


def crop(image):
    """A tenth of each side, off the upper left."""
    return image.crop((image.width // 10, image.height // 10, image.width, image.height))


EDITS = {
    "as it is": lambda image: image,
    "jpeg": jpeg,
    "half": half,
    "crop": crop,
    "all three": lambda image: jpeg(half(crop(image))),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "turned": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "darker": lambda image: image.point(lambda value: value * 0.8),
}


@pytest.mark.parametrize("edit", EDITS)
def test_copy_is_known_again(recognising, outputs, edit):
    for name, image in outputs.items():
        found = recognising.find(picture(EDITS[edit](image)))
        assert found is not None, name
        assert found.release.manifest_id == name
        assert found.tile_l2 <= RecognitionLimits.shipped().tile_l2_within


def test_other_pictures_are_claimed_by_nobody(recognising):
    others = [path for path in sorted(WORKS.glob("*.webp")) if path.stem not in NAMES][:12]
    for path in others:
        with Image.open(path) as image:
            assert recognising.find(picture(image.convert("RGB"))) is None, path.stem


@pytest.mark.parametrize("kind", TEMPLATES)
def test_other_text_in_the_same_template_is_not_our_output(mini, kind):
    memory = Memory()
    memory.rows = [(release(kind), Recognising(memory, mini).prints_of(picture(template(kind, 0))))]
    recognising = Recognising(memory, mini)
    assert recognising.find(picture(jpeg(template(kind, 0)))) is not None
    assert [seed for seed in range(1, 9) if recognising.find(picture(template(kind, seed))) is not None] == []


def test_window_is_not_laid_onto_a_nearly_blank_page(mini):
    memory = Memory()
    memory.rows = [(release("page"), Recognising(memory, mini).prints_of(picture(template("four lines", 0))))]
    recognising = Recognising(memory, mini)
    assert [seed for seed in range(8) if recognising.find(picture(template("window", seed))) is not None] == []


def test_blank_picture_is_claimed_by_nobody_and_claims_nothing(mini, recognising):
    blank = Image.new("RGB", (300, 300), "white")
    assert recognising.find(picture(blank)) is None
    memory = Memory()
    memory.rows = [(release("blank"), Recognising(memory, mini).prints_of(picture(blank)))]
    near_blank = np.full((300, 300, 3), 255, np.uint8)
    near_blank[100:120, 100:120] = 200
    assert Recognising(memory, mini).find(picture(near_blank)) is None


def test_faint_output_is_not_found_in_everything(mini, outputs):
    """Differences of faint pictures are small, so a limit in absolute numbers alone would claim anything."""
    memory = Memory()
    faint = outputs["orange-slice"].point(lambda value: 205 + value // 6)
    memory.rows = [(release("faint"), Recognising(memory, mini).prints_of(picture(faint)))]
    recognising = Recognising(memory, mini)
    assert recognising.find(picture(jpeg(faint, 90))).release.manifest_id == "faint"
    for name in NAMES[:2]:
        other = outputs[name].point(lambda value: 205 + value // 6)
        assert recognising.find(picture(other)) is None


def test_what_is_kept_is_small_and_complete(kept, outputs, mini):
    prints = kept.rows[0][1]
    assert len(prints.pdq) == 10 * 32
    assert (prints.copy.shape, prints.copy.dtype) == ((1, 1280), np.float16)
    assert prints.embedder == f"mini@{mini.spec.weights_sha256}"
    assert prints.iscc == ""
    with Image.open(io.BytesIO(prints.preview)) as preview:
        assert (preview.format, max(preview.size)) == ("JPEG", 192)
    assert len(prints.pdq) + prints.copy.nbytes + len(prints.preview) < 20_000


def test_another_embedder_s_vectors_are_not_compared_and_hashes_are(kept, mini, outputs):
    memory = Memory()
    memory.rows = [(one, replace(prints, embedder="other@0")) for one, prints in kept.rows]
    found = Recognising(memory, mini).find(picture(crop(outputs["caterpillar"])))
    assert found.release.manifest_id == "caterpillar"
    assert found.similarity is None


def test_several_looks_of_one_output_count_as_one(kept, mini, outputs):
    memory = Memory()
    memory.rows = [(one, replace(prints, copy=np.repeat(prints.copy, 3, axis=0))) for one, prints in kept.rows]
    found = Recognising(memory, mini).find(picture(jpeg(outputs["red-eye-frog"])))
    assert found.release.manifest_id == "red-eye-frog"
    assert found.similarity > 0.8


def test_without_outputs_nothing_is_found(mini, outputs):
    assert Recognising(Memory(), mini).find(picture(outputs["caterpillar"])) is None


def test_picture_that_cannot_be_fingerprinted_is_not_called_unknown(recognising):
    failed = Picture("broken", failure=CheckFailed(check="pixels", image="broken", error="cut short"))
    with pytest.raises(ImageUnreadable, match="cut short"):
        recognising.find(failed)
    with pytest.raises(ImageUnreadable, match="broken"):
        recognising.prints_of(failed)


def test_iscc_is_kept_where_it_is_asked_for(mini, outputs):
    pytest.importorskip("iscc_core")
    prints = Recognising(Memory(), mini, iscc=True).prints_of(picture(outputs["caterpillar"]))
    assert prints.iscc.startswith("ISCC:")
