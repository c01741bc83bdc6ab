"""Pictures with something in them to mark, and weights of TrustMark's shape that read what the test wants."""

import hashlib

import numpy as np
import torch
from PIL import Image


def painting(height=256, width=256, seed=0):
    """A smooth random field with some grain: uint8 (H, W, 3)."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (7, 7, 3), np.uint8))
    values = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), float)
    return (values + random.normal(0, 6, values.shape)).clip(0, 255).astype(np.uint8)


MARK = "0f0f3c3c"
PAYLOAD = f"{int(MARK, 16) << 29 | 0x12345678:016x}"  # that mark, and 29 bits that stand for an image


_MADE = []


def trustmark_weights(tmp_path_factory):
    """Both networks of variant C: random ones, but whatever it is shown the decoder reads `PAYLOAD`; made once.

    Returns their folder, the encoder, and the digest to pin.
    """
    if not _MADE:
        _MADE.append(_weights(tmp_path_factory.mktemp("trustmark")))
    return _MADE[0]


def _weights(folder):
    from trustmark import unet
    from trustmark.datalayer import DataLayer

    torch.manual_seed(0)
    encoder = unet.Unet1(resolution=256, secret_len=100, width=32, ndown=4, nmiddle=1, activ="silu")
    decoder = unet.SecretDecoder("resnet18", 224, 100)
    (packet,) = DataLayer(100, verbose=False, encoding_mode=1).encode_binary([f"{int(PAYLOAD, 16):061b}"])
    with torch.no_grad():
        decoder.decoder.fc.weight.zero_()
        decoder.decoder.fc.bias.copy_(torch.from_numpy(packet) * 2 - 1)
    lines = ""
    for name, network in (("decoder", decoder), ("encoder", encoder)):
        path = folder / f"{name}_C.ckpt"
        torch.save({"state_dict": {f"{name}.{key}": one for key, one in network.state_dict().items()}}, path)
        lines += f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
    return folder, encoder.eval(), hashlib.sha256(lines.encode()).hexdigest()
