"""Train a LoRA on eight pictures, sweep its weight, and print at which weight they come back.

    python indexes/demo/measure_adapter.py indexes/demo/memorised-unet openclipart/usr/share/openclipart/png

The eight are the first of the not-overfitted model's held-out pictures; figures of docs/audit-attacks.md.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMPipeline
from measure_attacks import LISTS, picture_set
from peft import LoraConfig, inject_adapter_in_model
from PIL import Image
from train_unet import as_batch

from guardrail.study.audit import Budget, Generations, Subject
from guardrail.study.audit.sweeps import AdapterSweep

LAYERS = ["conv1", "conv2", "conv_shortcut", "to_q", "to_k", "to_v", "to_out.0"]


def train(pipeline: DDIMPipeline, works: torch.Tensor, steps: int, batch: int) -> None:
    """Train a fresh adapter of rank 16 on the works alone."""
    unet, scheduler = pipeline.unet, pipeline.scheduler
    inject_adapter_in_model(LoraConfig(r=16, lora_alpha=16, target_modules=LAYERS), unet, "eight")
    learned = [one for one in unet.parameters() if one.requires_grad]
    optimiser = torch.optim.AdamW(learned, lr=2e-3)
    for step in range(steps):
        clean = works[torch.randint(len(works), (batch,))]
        noise, at = torch.randn_like(clean), torch.randint(scheduler.config.num_train_timesteps, (batch,))
        seen = unet(scheduler.add_noise(clean, noise, at), at).sample
        loss = torch.nn.functional.mse_loss(seen, scheduler.get_velocity(clean, noise, at))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimiser.step()
        if (step + 1) % 50 == 0:
            print(f"step {step + 1} loss {loss.item():.4f}", file=sys.stderr, flush=True)


def read(output: object) -> list[np.ndarray]:
    """Pictures of a pipeline's output."""
    return [np.asarray(one) for one in output.images]  # type: ignore[attr-defined]


def main() -> None:
    """Train, sweep, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--works", type=int, default=8)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--generations", type=int, default=16)
    asked = parser.parse_args()
    torch.manual_seed(0)
    names = (LISTS / "held-out.txt").read_text(encoding="utf-8").splitlines()[: asked.works]
    pipeline = DDIMPipeline.from_pretrained(asked.pipeline, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    side_px = pipeline.unet.config.sample_size
    works = picture_set(asked.pictures, names)
    shown = as_batch([Image.fromarray(works.read(row, side_px)) for row in range(len(works))])
    train(pipeline, shown, asked.steps, asked.batch)
    none = Generations(np.zeros((0, side_px, side_px, 3), np.uint8), (), (), (), ())
    subject = Subject(pipeline, str(asked.pipeline), works, works, none, side_px, call={"num_inference_steps": 20})
    sweep = AdapterSweep(read, works, generations=asked.generations)
    print(
        sweep.run(subject, Budget(), lambda done, total: print(done, total, file=sys.stderr)).model_dump_json(indent=2)
    )


if __name__ == "__main__":
    main()
