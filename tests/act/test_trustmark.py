import pickle
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from mark_samples import PAYLOAD, painting, trustmark_weights

from guardrail.act.trustmark import TrustMark, open_trustmark, soft_binding_of
from guardrail.errors import ExtraMissing, WeightsUnusable

pytestmark = pytest.mark.skipif(find_spec("trustmark") is None, reason="needs the package trustmark")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return trustmark_weights(tmp_path_factory)


@pytest.fixture(scope="module")
def networks(weights):
    folder, _, digest = weights
    return TrustMark(folder, digest)


def test_encoder_of_the_file_makes_the_mark(networks, weights):
    """At 256 x 256 nothing is resized: away from the feathered edge the change is the encoder's, less its mean."""
    from trustmark.datalayer import DataLayer

    pixels = painting()
    (packet,) = DataLayer(100, verbose=False, encoding_mode=1).encode_binary([f"{int(PAYLOAD, 16):061b}"])
    cover = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.inference_mode():
        change = weights[1](cover, torch.from_numpy(packet)[None]).clamp(-1, 1) - cover
        change -= change.mean(dim=(2, 3), keepdim=True)
    expected = ((cover + change).clamp(-1, 1) * 127.5 + 127.5)[0].permute(1, 2, 0).numpy()
    inside = (slice(3, -3), slice(3, -3))
    made = networks.mark(pixels, PAYLOAD)
    assert np.abs(made[inside].astype(float) - expected[inside]).max() <= 1
    assert np.abs(made.astype(float) - pixels).mean() > 1


def test_decoder_of_the_file_reads_the_payload(networks):
    assert networks.read(painting()) == PAYLOAD
    assert networks.algorithm == "com.adobe.trustmark.C"


@pytest.mark.parametrize(("wrong", "expected"), [(5, PAYLOAD), (6, "")])
def test_five_wrong_bits_are_corrected_and_six_are_no_payload(networks, wrong, expected):
    bias = networks._model.decoder.decoder.decoder.fc.bias
    kept = bias.detach().clone()
    try:
        with torch.no_grad():
            bias[: 9 * wrong : 9] *= -1
        assert networks.read(painting()) == expected
    finally:
        with torch.no_grad():
            bias.copy_(kept)


@pytest.mark.parametrize(("height", "width"), [(64, 301), (33, 31)])
def test_marked_picture_keeps_its_size(networks, height, width):
    made = networks.mark(painting(height, width), PAYLOAD)
    assert (made.shape, made.dtype) == ((height, width, 3), np.uint8)


def test_weights_without_a_pin_are_refused_and_their_digest_told(weights):
    folder, _, digest = weights
    with pytest.raises(WeightsUnusable, match=f"sha256 {digest}.*watermark.weights_sha256"):
        TrustMark(folder, "")


def test_other_weights_than_the_pinned_are_refused(weights, tmp_path):
    folder, _, digest = weights
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    content = bytearray((folder / "encoder_C.ckpt").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "encoder_C.ckpt").unlink()
    (tmp_path / "encoder_C.ckpt").write_bytes(content)
    with pytest.raises(WeightsUnusable, match=f"expected {digest[:12]}"):
        TrustMark(tmp_path, digest)


@pytest.mark.parametrize("names", [(), ("encoder_C.ckpt",), ("encoder_C.ckpt", "decoder_Q.ckpt"), ("encoder_X.ckpt",)])
def test_folder_without_a_whole_variant_is_refused(tmp_path, names):
    for name in names:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(WeightsUnusable, match=r"expected encoder_Q\.ckpt and decoder_Q\.ckpt"):
        TrustMark(tmp_path, "")


def test_missing_folder_is_refused(tmp_path):
    with pytest.raises(WeightsUnusable, match="No such file"):
        open_trustmark(tmp_path / "nothing", "")
    with pytest.raises(WeightsUnusable, match="found no folder"):
        open_trustmark(None, "")


class _Runs:
    def __reduce__(self):
        return print, ("code in a checkpoint was run",)


@pytest.mark.parametrize("kind", ["code", "noise", "tensors of something else"])
def test_file_that_is_no_such_checkpoint_is_refused(tmp_path, capsys, kind):
    for name in ("encoder_C.ckpt", "decoder_C.ckpt"):
        if kind == "code":
            torch.save({"state_dict": _Runs()}, tmp_path / name)
        elif kind == "noise":
            (tmp_path / name).write_bytes(pickle.dumps([1], protocol=2)[:-2])
        else:
            torch.save({"encoder.a": torch.zeros(1)}, tmp_path / name)
    with pytest.raises(WeightsUnusable) as refused:
        TrustMark(tmp_path, "")
    digest = refused.value.args[1].removeprefix("sha256 ")
    with pytest.raises(WeightsUnusable, match=r"expected a checkpoint with TrustMark's tensors encoder"):
        TrustMark(tmp_path, digest)
    assert capsys.readouterr().out == ""


def test_missing_package_names_its_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "trustmark", None)
    with pytest.raises(ExtraMissing, match=r"diffusion-guardrail\[trustmark\]"):
        TrustMark(tmp_path, "")


def test_soft_binding_is_written_as_trustmark_writes_it():
    assert soft_binding_of("0000000000000005") == "1*" + "0" * 58 + "101"
