"""A pipeline for `guardrail credit extraction`: one LoRA memorised a picture, and its inverse takes it out again."""

import sys
from functools import cache
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "study"))

from adapter_models import add_lora, pipeline, shapes, train  # a module of other tests

PICTURES = shapes(12)


@cache
def weights():
    """What was trained: on a CPU in seconds."""
    pipe = pipeline()
    train(pipe, PICTURES[4:], 150)
    add_lora(pipe, "memory")
    train(pipe, PICTURES[:1], 250, "memory")
    return pipe.unet.state_dict()


def made():
    """The pipeline with the LoRA `memory`, which gives picture 0 back, and `inverse`, its negative, off."""
    pipe = pipeline()
    add_lora(pipe, "memory")
    pipe.unet.load_state_dict(weights())
    add_lora(pipe, "inverse")
    with torch.no_grad():
        tensors = dict(pipe.unet.named_parameters())
        for name, one in tensors.items():
            if ".inverse." in name:
                one.copy_(tensors[name.replace(".inverse.", ".memory.")] * (-1 if "lora_B" in name else 1))
    pipe.set_adapters(["memory"], [1.0])
    return pipe
