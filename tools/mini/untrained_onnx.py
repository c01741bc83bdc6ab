"""Write the untrained network as an ONNX model, to measure it beside `mini`.

python tools/mini/untrained_onnx.py efficientnet-lite0-57934424.pth lite0.onnx --pooling max
guardrail bench copies PICTURES --peer "onnx:lite0.onnx?mean=0.5&std=0.5&size=224"
"""

import argparse
from pathlib import Path

import timm
import torch
from export import ARCHITECTURE, trunk_weights
from torch import nn

SIDE_PX = 224
POWER = 3.0  # of the generalised mean: Radenovic et al. 2018


class Pooled(nn.Module):
    """The network's last features, pooled over the picture."""

    def __init__(self, network: nn.Module, pooling: str) -> None:
        super().__init__()
        self.network, self.pooling = network, pooling

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Vectors (N, 1280) of pictures (N, 3, S, S)."""
        features = self.network(pictures)
        if self.pooling == "max":
            return features.amax((2, 3))
        return features.clamp(min=1e-6).pow(POWER).mean((2, 3)).pow(1 / POWER)


def main() -> None:
    """Write the model."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("weights", type=Path)
    arguments.add_argument("target", type=Path)
    arguments.add_argument("--pooling", choices=("max", "gem"), default="gem")
    given = arguments.parse_args()
    network = timm.create_model(ARCHITECTURE, num_classes=0, global_pool="").eval()
    network.load_state_dict(trunk_weights(given.weights), strict=False)
    shown = torch.zeros(1, 3, SIDE_PX, SIDE_PX)
    torch.onnx.export(Pooled(network, given.pooling), (shown,), given.target, dynamo=False, input_names=["pictures"])


if __name__ == "__main__":
    main()
