"""An ONNX model says by its own input how it wants pictures; tiny models with random weights stand in for real ones."""

import hashlib

import numpy as np
import pytest
import torch

from guardrail import extras
from guardrail.errors import EmbedderUnknown, ExtraMissing, WeightsUnusable
from guardrail.fingerprint import OnnxEmbedder
from guardrail.protocols import Embedder
from guardrail.testing import EmbedderContract

onnx = pytest.importorskip("onnx", reason="the onnx package makes the models of these tests")
pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

DIMENSIONS = 12
UINT8, FLOAT, HALF = onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16


def node(kind, inputs, output, **attributes):
    return onnx.helper.make_node(kind, inputs, [output], **attributes)


def model(shape, kind=FLOAT, outputs=("vector",), rows=None):
    """A network that mixes the four quarters of a picture: a convolution, pooled to 2x2, and a matrix."""
    chance = np.random.default_rng(0)
    arrays = {"kernel": chance.normal(size=(6, 3, 3, 3)), "matrix": chance.normal(size=(24, DIMENSIONS))}
    weights = [onnx.numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    channels_last = shape[3] == 3
    nodes = [
        node("Cast", ["pictures"], "floats", to=FLOAT),
        node("Transpose", ["floats"], "first", perm=[0, 3, 1, 2] if channels_last else [0, 1, 2, 3]),
        node("Conv", ["first", "kernel"], "features", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Relu", ["features"], "positive"),
        node("AveragePool", ["positive"], "pooled", kernel_shape=[8, 8], strides=[8, 8]),
        node("Flatten", ["pooled"], "flat"),
        node("MatMul", ["flat", "matrix"], "vector"),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "tiny",
        [onnx.helper.make_tensor_value_info("pictures", kind, shape)],
        [onnx.helper.make_tensor_value_info(name, FLOAT, None) for name in outputs],
        weights,
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def saved(tmp_path):
    """A function that saves a model and returns the file's path."""

    def save(*given, **named):
        path = tmp_path / "tiny.onnx"
        onnx.save(model(*given, **named), path)
        return path

    return save


FORMS = {
    "uint8-nhwc-open": (("n", "h", "w", 3), UINT8, "?size=32"),
    "uint8-nchw": (("n", 3, 32, 32), UINT8, ""),
    "float-nchw": (("n", 3, 32, 32), FLOAT, ""),
    "float-nhwc-of-one": ((1, 32, 32, 3), FLOAT, "?mean=0.5&std=0.5"),
    "half-nchw-of-three": ((3, 3, 32, 32), HALF, ""),
}


@pytest.mark.parametrize("form", FORMS)
class TestContract(EmbedderContract):
    @pytest.fixture(autouse=True)
    def _use(self, saved, form):
        shape, kind, options = FORMS[form]
        self.named = f"{saved(shape, kind)}{options}"

    def embedder(self) -> Embedder:
        return OnnxEmbedder(self.named, "cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
class TestContractOnCuda(EmbedderContract):
    @pytest.fixture(autouse=True)
    def _use(self, saved):
        self.named = str(saved(("n", 3, 32, 32)))

    def embedder(self) -> Embedder:
        return OnnxEmbedder(self.named, "cuda")

    def test_rows_agree_with_the_cpu(self, originals):
        pictures = [tensor(picture) for picture in originals]
        here = OnnxEmbedder(self.named, "cpu").embed(pictures)
        assert np.allclose(self.embedder().embed([one.to("cuda") for one in pictures]), here, atol=1e-4)


def tensor(picture):
    return torch.from_numpy(picture).permute(2, 0, 1)


def expected_of(values):
    """What the tiny network makes of float values (3, 32, 32), in plain torch."""
    chance = np.random.default_rng(0)
    kernel, matrix = chance.normal(size=(6, 3, 3, 3)), chance.normal(size=(24, DIMENSIONS))
    features = torch.nn.functional.conv2d(values[None].double(), torch.from_numpy(kernel), stride=2, padding=1)
    pooled = torch.nn.functional.avg_pool2d(features.relu(), 8).flatten(1)
    return torch.nn.functional.normalize(pooled @ torch.from_numpy(matrix))[0].numpy()


IMAGENET = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]
WAYS_IN = {
    "uint8-nhwc-open": lambda pixels: pixels.float(),
    "uint8-nchw": lambda pixels: pixels.float(),
    "float-nchw": lambda pixels: (pixels / 255 - IMAGENET[0]) / IMAGENET[1],
    "float-nhwc-of-one": lambda pixels: (pixels / 255 - 0.5) / 0.5,
    "half-nchw-of-three": lambda pixels: ((pixels / 255 - IMAGENET[0]) / IMAGENET[1]).half(),
}


@pytest.mark.parametrize("form", FORMS)
def test_picture_goes_in_as_the_model_wants_it(saved, form):
    shape, kind, options = FORMS[form]
    pixels = torch.randint(0, 256, (3, 32, 32), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    found = OnnxEmbedder(f"{saved(shape, kind)}{options}", "cpu").embed([pixels])[0]
    assert np.allclose(found, expected_of(WAYS_IN[form](pixels)), atol=1e-5)


def test_height_comes_before_width(saved):
    spec = OnnxEmbedder(f"{saved(('n', 3, 'h', 'w'))}?size=16x64", "cpu").spec
    assert "squash-16x64" in spec.preprocessing
    assert spec.dimensions == DIMENSIONS


def test_spec_names_the_file_its_digest_and_the_preprocessing(saved):
    path = saved(("n", "h", "w", 3), UINT8)
    spec = OnnxEmbedder(f"{path}?size=32&output=vector", "cpu").spec
    assert spec.name == "onnx:tiny.onnx?output=vector&size=32"
    assert spec.weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert spec.preprocessing == "squash-32x32-bilinear-antialias,uint8-nhwc,output-vector"


def test_floats_say_mean_and_deviation(saved):
    assert OnnxEmbedder(str(saved((1, 3, 32, 32))), "cpu").spec.preprocessing == (
        "squash-32x32-bilinear-antialias,float32-nchw,mean-(0.485,0.456,0.406),std-(0.229,0.224,0.225),output-vector"
    )


def test_unknown_model_has_no_limit_before_a_calibration(saved):
    embedder = OnnxEmbedder(str(saved((1, 3, 32, 32))), "cpu")
    assert embedder.shipped_limit.reached(1.0) == embedder.shipped_tile_limit.reached(1.0) == "accept"


def test_known_model_brings_its_size_and_limits(saved, monkeypatch):
    from guardrail.fingerprint import onnx as room
    from guardrail.records import SimilarityLimit

    path, limit = saved(("n", "h", "w", 3), UINT8), SimilarityLimit(flag_above=0.3, block_above=0.6)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(room._KNOWN, digest, room._Known(32, limit))
    embedder = OnnxEmbedder(str(path), "cpu")
    assert embedder.shipped_limit == embedder.shipped_tile_limit == limit
    assert "squash-32x32" in embedder.spec.preprocessing


@pytest.mark.parametrize(
    "options",
    [
        *("size=0", "size=32x", "size=big", "size", "sizes=32", "size=32&size=48", "layout=chw", "anything"),
        *("mean=0.5", "std=0.5", "mean=0.5,0.5&std=1", "mean=0&std=0", "mean=nan&std=1"),
    ],
)
def test_option_that_is_off_is_refused_with_the_form(saved, options):
    with pytest.raises(EmbedderUnknown, match="onnx:<file>"):
        OnnxEmbedder(f"{saved((1, 3, 32, 32))}?{options}", "cpu")


@pytest.mark.parametrize(
    ("shape", "kind", "options", "expected"),
    [
        (("n", 3, "h", "w"), FLOAT, "", "a size"),
        (("n", 3, 32, "w"), FLOAT, "?size=48", "no other"),
        (("n", 3, 32, 32), FLOAT, "?size=48", "no other"),
        (("n", 3, 32, 32), FLOAT, "?layout=nhwc", "three channels"),
        (("n", 3, 32, 32), FLOAT, "?output=nothing", "named by"),
        (("n", 3, 32, 32), UINT8, "?mean=0&std=1", "no mean and std"),
        (("n", 3, 32, 32), onnx.TensorProto.INT64, "", "rank 4"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
def test_what_a_model_cannot_take_is_refused(saved, shape, kind, options, expected):
    with pytest.raises((WeightsUnusable, EmbedderUnknown), match=expected):
        OnnxEmbedder(f"{saved(shape, kind)}{options}", "cpu")


def test_open_shape_needs_a_layout(saved):
    path = saved(("n", "a", "b", "c"))
    with pytest.raises(WeightsUnusable, match="layout=nchw"):
        OnnxEmbedder(f"{path}?size=32", "cpu")
    assert "float32-nchw" in OnnxEmbedder(f"{path}?size=32&layout=nchw", "cpu").spec.preprocessing


def test_of_several_outputs_one_must_be_named(saved):
    path = saved((1, 3, 32, 32), outputs=("pooled", "vector"))
    with pytest.raises(WeightsUnusable, match="pooled, vector"):
        OnnxEmbedder(str(path), "cpu")
    assert OnnxEmbedder(f"{path}?output=vector", "cpu").spec.dimensions == DIMENSIONS
    with pytest.raises(WeightsUnusable, match="vectors"):
        OnnxEmbedder(f"{path}?output=pooled", "cpu")


def test_vector_without_a_direction_is_not_a_number(saved):
    path = saved((1, 3, 32, 32), UINT8)
    black, white = torch.zeros(3, 32, 32, dtype=torch.uint8), torch.full((3, 32, 32), 255, dtype=torch.uint8)
    rows = OnnxEmbedder(str(path), "cpu").embed([black, white])
    assert np.isnan(rows[0]).all()
    assert np.linalg.norm(rows[1]) == pytest.approx(1)


def test_weights_in_another_file_are_refused_for_no_digest_covers_them(tmp_path, monkeypatch):
    onnx.save(
        model((1, 3, 32, 32)),
        tmp_path / "split.onnx",
        save_as_external_data=True,
        location="split.data",
        size_threshold=0,
    )
    assert (tmp_path / "split.data").stat().st_size > 0
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsUnusable, match="in one file"):
        OnnxEmbedder("split.onnx", "cpu")


@pytest.mark.parametrize("content", [b"", b"no protobuf at all"])
def test_file_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "broken.onnx").write_bytes(content)
    with pytest.raises(WeightsUnusable, match="an ONNX model"):
        OnnxEmbedder(str(tmp_path / "broken.onnx"), "cpu")


def test_missing_file_says_where_models_lie(tmp_path):
    with pytest.raises(WeightsUnusable, match=r"gone\.onnx.*setting `weights`"):
        OnnxEmbedder(str(tmp_path / "gone.onnx"), "cpu")


def test_no_file_named_says_the_form():
    with pytest.raises(EmbedderUnknown, match="onnx:<file>"):
        OnnxEmbedder("?size=32", "cpu")


def test_without_onnxruntime_says_what_to_install(saved, monkeypatch):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(extras, "import_module", absent)
    with pytest.raises(ExtraMissing, match=r"diffusion-guardrail\[onnx\]"):
        OnnxEmbedder(str(saved((1, 3, 32, 32))), "cpu")
