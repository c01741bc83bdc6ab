"""Any open_clip model is an embedder; a tiny one with random weights stands in for those that must be fetched."""

import hashlib
import json

import numpy as np
import open_clip
import pytest
import torch
from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

from guardrail.errors import EmbedderUnknown, WeightsUnusable
from guardrail.fingerprint import OpenClipEmbedder
from guardrail.protocols import Embedder
from guardrail.testing import EmbedderContract

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": [32, 48], "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("open_clip")
    (folder / "tiny-for-tests.json").write_text(json.dumps(TINY), encoding="utf-8")
    open_clip.add_model_config(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.create_model("tiny-for-tests", pretrained=None)
    torch.save(model.state_dict(), folder / "tiny.pt")
    return folder / "tiny.pt"


def picture(height, width):
    return torch.randint(0, 256, (3, height, width), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


class TestContract(EmbedderContract):
    @pytest.fixture(autouse=True)
    def _use(self, checkpoint):
        self.checkpoint = checkpoint

    def embedder(self) -> Embedder:
        return OpenClipEmbedder(f"tiny-for-tests/{self.checkpoint}", "cpu")


def test_vectors_are_those_of_open_clip_itself(checkpoint):
    model = open_clip.create_model("tiny-for-tests", pretrained=str(checkpoint)).eval()
    pixels = picture(32, 48)  # the model's own size: no resizing in between
    mean, std = (torch.tensor(constants)[:, None, None] for constants in (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD))
    with torch.inference_mode():
        expected = model.encode_image(((pixels / 255 - mean) / std)[None], normalize=True).numpy()
    found = OpenClipEmbedder(f"tiny-for-tests/{checkpoint}", "cpu").embed([pixels])
    assert np.allclose(found, expected, atol=1e-6)


def test_spec_names_the_weights_and_the_preprocessing(checkpoint):
    spec = OpenClipEmbedder(f"tiny-for-tests/{checkpoint}", "cpu").spec
    assert spec.name == "clip:tiny-for-tests/tiny.pt"
    assert spec.weights_sha256 == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert "squash-32x48" in spec.preprocessing
    assert "mean-(0.48145466," in spec.preprocessing
    assert spec.dimensions == 16


def test_no_limit_before_a_calibration(checkpoint):
    assert OpenClipEmbedder(f"tiny-for-tests/{checkpoint}", "cpu").shipped_limit.reached(1.0) == "accept"


@pytest.mark.parametrize("named", ["", "tiny-for-tests", "tiny-for-tests/", "no-such-arch/openai"])
def test_unknown_architecture_or_no_weights(checkpoint, named):
    with pytest.raises(EmbedderUnknown, match="clip:"):
        OpenClipEmbedder(named, "cpu")


def test_neither_file_nor_tag_names_the_tags(checkpoint):
    with pytest.raises(WeightsUnusable, match="laion2b_s34b_b79k"):
        OpenClipEmbedder("ViT-B-32/nothing-of-the-kind", "cpu")


def test_tag_that_cannot_be_fetched_says_why(monkeypatch):
    def refuse(*_, **__):
        raise OSError("the network is down")

    monkeypatch.setattr(open_clip, "download_pretrained", refuse)
    with pytest.raises(WeightsUnusable, match="the network is down"):
        OpenClipEmbedder("ViT-B-32/laion2b_s34b_b79k", "cpu")


def test_tag_that_is_in_the_cache_is_used_with_its_own_preprocessing(checkpoint, monkeypatch):
    settings = {"hf_hub": "a/b", "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25), "quick_gelu": True}
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda architecture, tag: settings)
    monkeypatch.setattr(open_clip, "download_pretrained", lambda settings: str(checkpoint))
    embedder = OpenClipEmbedder("tiny-for-tests/cached", "cpu")
    assert embedder.spec.name == "clip:tiny-for-tests/cached"
    assert "mean-(0.5,0.5,0.5)" in embedder.spec.preprocessing
    assert any(type(module).__name__ == "QuickGELU" for module in embedder._model.visual.modules())


@pytest.mark.parametrize("content", [b"", b"not weights at all"])
def test_file_that_is_no_checkpoint_is_refused(checkpoint, tmp_path, content):
    broken = tmp_path / "broken.pt"
    broken.write_bytes(content)
    with pytest.raises(WeightsUnusable, match=r"broken\.pt"):
        OpenClipEmbedder(f"tiny-for-tests/{broken}", "cpu")


def test_checkpoint_of_another_architecture_is_refused(checkpoint):
    with pytest.raises(WeightsUnusable, match="weights of ViT-B-32"):
        OpenClipEmbedder(f"ViT-B-32/{checkpoint}", "cpu")
