"""SSCD comes as a TorchScript file; a tiny program with random weights stands in for it, since it must be fetched."""

import hashlib
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from guardrail.errors import EmbedderUnknown, WeightsUnusable
from guardrail.fingerprint import SscdEmbedder
from guardrail.protocols import Embedder
from guardrail.testing import EmbedderContract

DIMENSIONS = 16


class Tiny(torch.nn.Module):
    """Takes (N, 3, H, W) and gives (N, 16) of any length, as a TorchScript SSCD may."""

    def __init__(self):
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 8, 5, stride=4)
        self.linear = torch.nn.Linear(8, DIMENSIONS)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return 3 * self.linear(torch.relu(self.convolution(pictures)).mean((2, 3)))


class Sorting(torch.nn.Module):
    """Gives no vector but two of them."""

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return pictures.mean((2, 3)), pictures.mean((1, 2))


class Mapping(torch.nn.Module):
    """Gives a feature map, which is not pooled."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures * 2


def saved(module, path):
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.manual_seed(0)
        warnings.simplefilter("ignore", FutureWarning)  # TorchScript is what SSCD's makers ship, old as it is
        torch.jit.save(torch.jit.script(module().eval()), str(path))
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return saved(Tiny, tmp_path_factory.mktemp("sscd") / "tiny.torchscript.pt")


class TestContract(EmbedderContract):
    @pytest.fixture(autouse=True)
    def _use(self, tiny):
        self.tiny = tiny

    def embedder(self) -> Embedder:
        return SscdEmbedder(str(self.tiny), "cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
class TestContractOnCuda(EmbedderContract):
    @pytest.fixture(autouse=True)
    def _use(self, tiny):
        self.tiny = tiny

    def embedder(self) -> Embedder:
        return SscdEmbedder(str(self.tiny), "cuda")

    def test_rows_agree_with_the_cpu(self, originals):
        pictures = [torch.from_numpy(picture).permute(2, 0, 1) for picture in originals]
        here = SscdEmbedder(str(self.tiny), "cpu").embed(pictures)
        assert np.allclose(self.embedder().embed(pictures), here, atol=1e-4)


def test_vectors_are_those_of_the_documented_way_in(tiny, originals):
    documented = transforms.Compose(
        [
            transforms.Resize([320, 320]),
            transforms.ToTensor(),
            transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
        ]
    )
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore", FutureWarning)
        model = torch.jit.load(str(tiny))
        inputs = torch.stack([documented(Image.fromarray(picture)) for picture in originals])
        expected = torch.nn.functional.normalize(model(inputs), dim=1).numpy()
    found = SscdEmbedder(str(tiny), "cpu").embed([torch.from_numpy(picture).permute(2, 0, 1) for picture in originals])
    assert np.allclose(found, expected, atol=2e-3)  # Pillow rounds to whole levels between resizing and normalising


def test_spec_names_the_file_its_digest_and_the_preprocessing(tiny):
    spec = SscdEmbedder(str(tiny), "cpu").spec
    assert spec.name == "sscd:tiny.torchscript.pt"
    assert spec.weights_sha256 == hashlib.sha256(tiny.read_bytes()).hexdigest()
    assert spec.preprocessing == "squash-320x320-bilinear-antialias,mean-(0.485,0.456,0.406),std-(0.229,0.224,0.225)"
    assert spec.dimensions == DIMENSIONS


def test_shipped_limits_are_those_of_its_authors_and_of_the_replica_rule(tiny):
    embedder = SscdEmbedder(str(tiny), "cpu")
    reached = [embedder.shipped_limit.reached(similarity) for similarity in (0.499, 0.5, 0.749, 0.75)]
    assert reached == ["accept", "flag", "flag", "block"]
    assert embedder.shipped_tile_limit == embedder.shipped_limit


def test_both_far_edges_of_a_wide_picture_are_seen(tiny):
    embedder = SscdEmbedder(str(tiny), "cpu")
    plain = torch.full((3, 60, 600), 128, dtype=torch.uint8)
    marked = plain.clone()
    marked[:, :, -60:] = 255
    one, other = embedder.embed([plain, marked])
    assert one @ other < 0.9999


def test_no_file_named_says_the_form():
    with pytest.raises(EmbedderUnknown, match="sscd:<TorchScript file>"):
        SscdEmbedder("", "cpu")


def test_missing_file_says_where_models_lie(tmp_path):
    with pytest.raises(WeightsUnusable, match=r"gone\.pt.*setting `weights`"):
        SscdEmbedder(str(tmp_path / "gone.pt"), "cpu")


@pytest.mark.parametrize("content", [b"", b"no TorchScript at all"])
def test_file_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "broken.pt").write_bytes(content)
    with pytest.raises(WeightsUnusable, match="a TorchScript model"):
        SscdEmbedder(str(tmp_path / "broken.pt"), "cpu")


@pytest.mark.parametrize("module", [Sorting, Mapping])
def test_program_that_makes_no_vectors_is_refused(tmp_path, module):
    with pytest.raises(WeightsUnusable, match=r"into \(N, D\)"):
        SscdEmbedder(str(saved(module, tmp_path / "other.pt")), "cpu")


def test_loading_and_embedding_leave_the_callers_torch_alone(tiny, originals):
    before = torch.random.get_rng_state()
    SscdEmbedder(str(tiny), "cpu").embed([torch.from_numpy(originals[0]).permute(2, 0, 1)])
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.is_grad_enabled()
