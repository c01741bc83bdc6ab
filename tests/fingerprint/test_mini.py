"""`mini` is a trained network with pinned weights: it tells copies from other works, and says so when it cannot."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from guardrail.errors import WeightsUnusable
from guardrail.fingerprint import MiniEmbedder
from guardrail.fingerprint.embedders import MINI_CONFIG, MINI_WEIGHTS, squashed
from guardrail.protocols import Embedder, WordEmbedder
from guardrail.testing import EmbedderContract

COPIES_FOUND_AT_LEAST = 0.95  # measured 1.00, on all 70 works too
FEW = 8


@pytest.fixture(scope="module")
def mini():
    return MiniEmbedder("cpu")


def tensor(picture):
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def edited(picture):
    """A few everyday edits of one picture."""
    image, buffer = Image.fromarray(picture), io.BytesIO()
    image.save(buffer, "JPEG", quality=30)
    width, height = image.size
    return [
        Image.open(buffer).convert("RGB"),
        image.resize((width // 2, height // 2)),
        image.crop((width // 20, height // 20, width - width // 20, height - height // 20)),
        Image.blend(image, Image.new("RGB", image.size, (255, 180, 60)), 0.25),
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    ]


def share_found(embedder, originals):
    """The share of edited copies whose nearest work is their own and nearer than any two works are to each other."""
    works = embedder.embed([tensor(picture) for picture in originals])
    between = (works @ works.T - 2 * np.eye(len(works))).max()
    copies = embedder.embed([tensor(copy) for picture in originals for copy in edited(picture)])
    own = np.repeat(np.arange(len(works)), len(copies) // len(works))
    similarity = copies @ works.T
    nearest = similarity.argmax(1) == own
    return float(np.mean(nearest & (similarity[np.arange(len(own)), own] > between)))


def test_edited_copies_are_nearer_their_original_than_any_other_work(mini, originals):
    assert share_found(mini, originals[:FEW]) >= COPIES_FOUND_AT_LEAST


def test_the_bar_is_one_that_random_weights_fail(originals):
    untrained = MiniEmbedder("cpu")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        untrained._network = timm.create_model("tf_efficientnet_lite0", num_classes=0, global_pool="max").eval()
    assert share_found(untrained, originals[:FEW]) < COPIES_FOUND_AT_LEAST - 0.2


class TestContract(EmbedderContract):
    @pytest.fixture(autouse=True)
    def _use(self, mini):
        self.mini = mini

    def embedder(self) -> Embedder:
        return self.mini


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
class TestContractOnCuda(EmbedderContract):
    def embedder(self) -> Embedder:
        return MiniEmbedder("cuda")

    def test_rows_agree_with_the_cpu(self, mini, originals):
        pictures = [tensor(picture) for picture in originals]
        assert np.allclose(self.embedder().embed(pictures), mini.embed(pictures), atol=1e-4)


def test_missing_weights_are_refused_by_name(tmp_path):
    with pytest.raises(WeightsUnusable, match=r"gone\.safetensors"):
        MiniEmbedder("cpu", weights=tmp_path / "gone.safetensors")


@pytest.mark.parametrize(
    "edit", [lambda content: content[:-1], lambda content: content[:-1] + bytes([content[-1] ^ 1]), lambda content: b""]
)
def test_edited_weights_are_refused(tmp_path, edit):
    copy = tmp_path / "mini.safetensors"
    copy.write_bytes(edit(MINI_WEIGHTS.read_bytes()))
    with pytest.raises(WeightsUnusable, match="found sha256"):
        MiniEmbedder("cpu", weights=copy)


def test_loading_and_embedding_leave_the_callers_torch_alone(originals):
    torch.set_float32_matmul_precision("high")
    before = torch.random.get_rng_state()
    try:
        MiniEmbedder("cpu").embed([tensor(originals[0])])
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.equal(torch.random.get_rng_state(), before)
        assert torch.is_grad_enabled()
    finally:
        torch.set_float32_matmul_precision("highest")


def test_autocast_around_the_call_changes_nothing(mini, originals):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = mini.embed([tensor(originals[0])])
    assert np.array_equal(inside, mini.embed([tensor(originals[0])]))


def test_squashed_covers_the_whole_picture():
    picture = torch.zeros(3, 40, 400, dtype=torch.uint8)
    picture[:, :, 380:] = 255  # at the far edge, where a centre crop would not look
    assert squashed([picture], (20, 20), torch.device("cpu"))[0, 0, :, -1].min() > 0.8


def test_shipped_file_is_an_open_clip_checkpoint_with_the_same_image_vectors(mini, originals):
    open_clip = pytest.importorskip("open_clip")
    open_clip.add_model_config(MINI_CONFIG)
    model = open_clip.create_model("mini", pretrained=str(MINI_WEIGHTS)).eval()
    inputs = squashed([tensor(picture) for picture in originals[:FEW]], (224, 224), torch.device("cpu"))
    with torch.inference_mode():
        vectors = torch.nn.functional.normalize(model.encode_image(inputs.sub(0.5).div(0.5)), dim=1).numpy()
    assert np.allclose(vectors, mini.embed([tensor(picture) for picture in originals[:FEW]]), atol=1e-5)
    assert sum(p.numel() for p in model.visual.parameters()) <= 6_000_000


def test_words_are_unit_vectors_among_the_pictures(mini):
    assert isinstance(mini, WordEmbedder)
    before = torch.random.get_rng_state()
    vectors = mini.embed_words(["a red apple", "a sailing boat", "a red apple"])
    assert vectors.shape == (3, mini.spec.dimensions)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.allclose(vectors[0], vectors[2])
    assert not np.allclose(vectors[0], vectors[1], atol=0.01)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_shipped_file_is_small():
    assert MINI_WEIGHTS.stat().st_size <= 20_000_000


def test_mini_does_not_load_open_clip():
    code = (
        "import sys; from guardrail.fingerprint import MiniEmbedder, Fingerprinter; print('open_clip' in sys.modules)"
    )
    said = subprocess.check_output(
        [sys.executable, "-c", code], text=True, env=os.environ | {"PYTHONWARNINGS": "ignore"}
    )
    assert said.strip() == "False"
