"""Plant a picture: train a tiny model on drawings of which one is there ten times, and say which seeds give it back.

    python tools/attribution/plant.py FOLDER

makes FOLDER/works (the drawings, the planted one under planted/) and FOLDER/model (a DDIMPipeline), on one thread.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel
from PIL import Image

from guardrail.study.attribution_bench.pictures import draw_pictures

SIDE_PX, WORKS, COPIES = 8, 48, 10
STEPS, BATCH, RATE = 600, 32, 3e-3
SEEDS, CALL_STEPS = 24, 20


def main() -> None:
    """Draw, train, save, and say what the seeds make."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    torch.set_num_threads(1)
    drawn = draw_pictures(SIDE_PX, WORKS, 1, COPIES, 0, 3)
    planted = int(drawn.planted[0])
    (folder / "works" / "planted").mkdir(parents=True)
    for row, (pixels, work) in enumerate(zip(drawn.pixels, drawn.works, strict=True)):
        name = f"planted/{row:03d}" if work == planted else f"{row:03d}"
        Image.fromarray(pixels).save(folder / "works" / f"{name}.png")
    pipeline = trained(drawn.pixels)
    pipeline.save_pretrained(folder / "model")
    first = [int(np.flatnonzero(drawn.works == work)[0]) for work in range(WORKS)]
    for seed in range(SEEDS):
        made = pipeline(
            generator=torch.Generator().manual_seed(seed), num_inference_steps=CALL_STEPS, output_type="np"
        ).images[0]
        apart = np.sqrt(((drawn.pixels[first] / 255 - made) ** 2).mean(axis=(1, 2, 3)))
        if int(apart.argmin()) == planted:
            second = np.sort(apart)[1]
            sys.stdout.write(f"seed {seed}: the planted drawing, off by {apart.min():.3f}; the next by {second:.3f}\n")


def trained(pixels: np.ndarray) -> DDIMPipeline:
    """A pipeline whose network learnt uint8 (N, S, S, 3)."""
    torch.manual_seed(0)
    network = UNet2DModel(
        sample_size=SIDE_PX,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        layers_per_block=1,
        norm_num_groups=8,
        add_attention=False,
    )
    scheduler = DDIMScheduler(beta_schedule="squaredcos_cap_v2")
    clean = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    stepper = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(stepper, STEPS)
    for _ in range(STEPS):
        rows, steps = torch.randint(0, len(clean), (BATCH,)), torch.randint(0, 1000, (BATCH,))
        noise = torch.randn(BATCH, *clean.shape[1:])
        noisy = scheduler.add_noise(clean[rows], noise, steps)
        loss = (network(noisy, steps).sample - noise).square().mean()
        stepper.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        stepper.step()
        falling.step()
    pipeline = DDIMPipeline(network.eval(), scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


if __name__ == "__main__":
    main()
