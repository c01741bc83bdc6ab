"""Measure how much the demo's UNet memorised: the figures of docs/models/memorised-unet.md.

python indexes/demo/measure_unet.py indexes/demo/memorised-unet --images 256
"""

import argparse
import json
from collections import Counter
from pathlib import Path

import torch
from diffusers import DDIMPipeline
from train_unet import HERE, as_batch, composition, np, training_batch

COPY_ABOVE = 0.9  # mean-removed correlation at 32x32
PLAIN_L2_BELOW = 0.10  # root mean square difference in 0..1; Carlini et al. 2023 at 32 px


def small(batch: torch.Tensor) -> torch.Tensor:
    """Pictures in -1..1 as float (N, 3, 32, 32) in 0..1."""
    return torch.nn.functional.interpolate((batch + 1) / 2, size=(32, 32), mode="area")


def centred(batch: torch.Tensor) -> torch.Tensor:
    """Mean-removed rows of unit length, (N, 3072)."""
    values = (batch - batch.mean((2, 3), keepdim=True)).flatten(1)
    return values / values.norm(dim=1, keepdim=True).clamp_min(1e-9)


def main() -> None:
    """Generate, compare with every training picture and with unseen compositions, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline", type=Path)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--seed", type=int, default=100)
    asked = parser.parse_args()
    pipe = DDIMPipeline.from_pretrained(asked.pipeline, torch_dtype=torch.float32)
    side_px = pipe.unet.config.sample_size
    works, chance = small(training_batch(side_px)), np.random.default_rng(asked.seed)
    unseen = small(as_batch([composition(side_px, chance) for _ in range(2000)]))
    made = []
    for start in range(0, asked.images, 32):
        seed = torch.Generator().manual_seed(asked.seed + start)
        made.append(pipe(batch_size=32, num_inference_steps=40, generator=seed, output_type="np").images)
    images = small(torch.from_numpy(np.concatenate(made)).permute(0, 3, 1, 2) * 2 - 1)[: asked.images]
    nearest = (centred(images) @ centred(works).T).max(1)
    plain = ((images[:, None] - works[None]) ** 2).flatten(2).mean(2).sqrt().min(1).values
    copies = nearest.values > COPY_ABOVE
    names = (HERE / "training.txt").read_text(encoding="utf-8").split()
    given_back = Counter(names[at] for at in nearest.indices[copies].tolist())
    report = {
        "images": len(images),
        "copies_by_correlation": int(copies.sum()),
        "copies_by_plain_l2": int((plain < PLAIN_L2_BELOW).sum()),
        "of_the_copies_found_by_plain_l2": int(((plain < PLAIN_L2_BELOW) & copies).sum()),
        "training_pictures": len(names),
        "training_pictures_given_back": len(given_back),
        "unseen_compositions_above_the_limit": int(
            ((centred(unseen) @ centred(works).T).max(1).values > COPY_ABOVE).sum()
        ),
        "most_often": given_back.most_common(5),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
