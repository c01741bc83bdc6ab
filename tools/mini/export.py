"""ImageNet weights in, `mini` out: what training starts from, and the open_clip checkpoint that the package ships.

    python tools/mini/export.py OUT/step-003400.pt OUT/text.pt

writes `guardrail/fingerprint/weights/mini.safetensors`, an open_clip checkpoint for the config `mini.json` beside it:
matrices in float16, the rest in float32. The sha256, which is printed, is pinned in guardrail/fingerprint/embedders.py.
"""

import argparse
import hashlib
import sys
from pathlib import Path

import open_clip
import timm
import torch
from safetensors.torch import save_file

SOURCE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
ARCHITECTURE = "tf_efficientnet_lite0"
CLASSIFIER_TENSORS = 2
WEIGHTS = Path(__file__).parents[2] / "guardrail/fingerprint/weights"


def trunk_weights(source: Path) -> dict[str, torch.Tensor]:
    """The feature tensors of the ImageNet file under timm's names, which stand there in the same order."""
    found = hashlib.sha256(source.read_bytes()).hexdigest()
    if found != SOURCE_SHA256:
        raise SystemExit(f"{source}: found sha256 {found}, expected {SOURCE_SHA256}")
    tensors = torch.load(source, map_location="cpu", weights_only=True)
    expected = timm.create_model(ARCHITECTURE, pretrained=False).state_dict()
    if [tensor.shape for tensor in tensors.values()] != [tensor.shape for tensor in expected.values()]:
        raise SystemExit(f"the source's tensors do not fit {ARCHITECTURE} in order")
    renamed = list(zip(expected, tensors.values(), strict=True))[:-CLASSIFIER_TENSORS]
    return dict(renamed)


def whole_model() -> torch.nn.Module:
    """The open_clip model of `mini.json`, with random weights."""
    open_clip.add_model_config(WEIGHTS / "mini.json")
    model: torch.nn.Module = open_clip.create_model("mini", pretrained=None)
    return model


def exported(image: dict[str, torch.Tensor], text: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The checkpoint: the image tower's and the text tower's tensors under open_clip's names, matrices in float16."""
    joined = {f"visual.trunk.{name}": tensor for name, tensor in image.items()} | text
    needed = whole_model().state_dict()
    if missing := sorted(set(needed) - set(joined)):
        raise SystemExit(f"tensors are missing: {missing}")
    return {
        name: (tensor.half() if tensor.ndim > 1 else tensor).contiguous()
        for name, tensor in joined.items()
        if name in needed
    }


def main() -> None:
    """Export one checkpoint and print the digest of what was written."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("image", type=Path, help="a checkpoint of tools/mini/train.py")
    arguments.add_argument("text", type=Path, help="the text tower from tools/mini/train_text.py")
    arguments.add_argument("--target", type=Path, default=WEIGHTS / "mini.safetensors")
    given = arguments.parse_args()
    image = torch.load(given.image, weights_only=True)["averaged"]
    save_file(exported(image, torch.load(given.text, weights_only=True)), given.target)
    sys.stdout.write(f"{hashlib.sha256(given.target.read_bytes()).hexdigest()}  {given.target}\n")


if __name__ == "__main__":
    main()
