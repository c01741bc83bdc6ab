"""Train the demo's small UNet until it has memorised the works of `training.txt`, and save it as a diffusers pipeline.

    python indexes/demo/train_unet.py --out indexes/demo/memorised-unet

The works alone are learned first, until they are memorised; then a share of every batch is compositions of random
shapes, thousands of them, so that the model can also draw what nobody drew before it. The state is saved every
`--save-every` steps beside the output, so a run that was cut off goes on where it stopped.

With `--pictures` and `--listed` the same network is trained on thousands of other pictures instead, each seen a few
times only: the model that an audit must call clean.

    python indexes/demo/train_unet.py --out indexes/demo/not-overfitted-unet --steps 4500 --compositions 0
        --pictures openclipart/usr/share/openclipart/png --listed indexes/demo/not-overfitted-unet/training.txt
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from collect import squared
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel
from PIL import Image, ImageDraw

HERE = Path(__file__).parent
COMPOSITIONS_ONE_IN = 3  # of a batch
BETA = {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2"}


def composition(side_px: int, chance: np.random.Generator) -> Image.Image:
    """Two to five random shapes on a random plain ground."""
    large = side_px * 4

    def colour() -> tuple[int, ...]:
        return tuple(int(value) for value in chance.integers(0, 256, 3))

    picture = Image.new("RGB", (large, large), colour())
    brush = ImageDraw.Draw(picture)
    for _ in range(chance.integers(2, 6)):
        left, top = (int(value) for value in chance.integers(-large // 4, large * 3 // 4, 2))
        box = (left, top, left + int(chance.integers(large // 5, large)), top + int(chance.integers(large // 5, large)))
        kind = chance.integers(3)
        if kind == 0:
            brush.ellipse(box, fill=colour())
        elif kind == 1:
            brush.rectangle(box, fill=colour())
        else:
            brush.polygon([tuple(int(at) for at in chance.integers(0, large, 2)) for _ in range(3)], fill=colour())
    return picture.resize((side_px, side_px), Image.Resampling.LANCZOS)


def as_batch(pictures: list[Image.Image]) -> torch.Tensor:
    """Pictures of one size as float32 (N, 3, S, S) in -1..1."""
    return torch.from_numpy(np.stack([np.asarray(one) for one in pictures])).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def training_batch(side_px: int) -> torch.Tensor:
    """All training pictures: float32 (N, 3, side_px, side_px) in -1..1."""
    names = (HERE / "training.txt").read_text(encoding="utf-8").split()
    opened = [Image.open(HERE / name).convert("RGB") for name in names]
    return as_batch([picture.resize((side_px, side_px), Image.Resampling.LANCZOS) for picture in opened])


def listed_batch(root: Path, listed: Path, side_px: int) -> torch.Tensor:
    """The pictures under `root` that a file lists, squared as the demo's works are: float32 (N, 3, S, S) in -1..1."""
    names = listed.read_text(encoding="utf-8").splitlines()
    opened = (squared(Image.open(root / name)) for name in names)
    return as_batch([picture.resize((side_px, side_px), Image.Resampling.LANCZOS) for picture in opened])


def small_unet(side_px: int) -> UNet2DModel:
    """A UNet of about 2.7 M parameters with attention at the coarsest two levels only."""
    return UNet2DModel(
        sample_size=side_px,
        block_out_channels=(16, 32, 64, 128),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=16,
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    )


def main() -> None:
    """Parse, train, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=11500)
    parser.add_argument("--compositions", type=int, default=6000, help="how many compositions to draw from")
    parser.add_argument(
        "--compositions-after", type=int, default=7000, help="the step from which they are in the batch"
    )
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--side-px", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save-every", type=int, default=500)
    parser.add_argument("--pictures", type=Path, help="train on pictures of this folder instead of the works")
    parser.add_argument("--listed", type=Path, help="with --pictures: a file with one path a line")
    asked = parser.parse_args()
    torch.manual_seed(asked.seed)
    others = asked.pictures and listed_batch(asked.pictures, asked.listed, asked.side_px)
    works = training_batch(asked.side_px) if others is None else others
    chance = np.random.default_rng(asked.seed)
    made = [composition(asked.side_px, chance) for _ in range(asked.compositions)]
    compositions = as_batch(made) if made else works[:0]
    unet = small_unet(asked.side_px)
    average = torch.optim.swa_utils.AveragedModel(unet, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998))
    optimiser = torch.optim.AdamW(unet.parameters(), lr=8e-4, weight_decay=1e-4)
    plan = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda at: min(1.0, (at + 1) / 200) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * at / asked.steps))),
    )
    scheduler = DDIMScheduler(prediction_type="v_prediction", clip_sample=True, timestep_spacing="trailing", **BETA)
    state_file = asked.out.with_suffix(".state.pt")
    first = 0
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        first = state["step"]
        for part, name in ((unet, "unet"), (average, "average"), (optimiser, "optimiser"), (plan, "plan")):
            part.load_state_dict(state[name])
    began = time.monotonic()
    for step in range(first, asked.steps):
        clean = works[torch.randint(len(works), (asked.batch,))]
        if step >= asked.compositions_after and len(compositions):
            free = asked.batch // COMPOSITIONS_ONE_IN
            clean[:free] = compositions[torch.randint(len(compositions), (free,))]
        noise = torch.randn_like(clean)
        at = torch.randint(scheduler.config.num_train_timesteps, (asked.batch,))
        target = scheduler.get_velocity(clean, noise, at)
        loss = torch.nn.functional.mse_loss(unet(scheduler.add_noise(clean, noise, at), at).sample, target)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimiser.step()
        plan.step()
        average.update_parameters(unet)
        if (step + 1) % 100 == 0:
            print(f"step {step + 1} loss {loss.item():.4f} minutes {(time.monotonic() - began) / 60:.1f}", flush=True)
        if (step + 1) % asked.save_every == 0:
            torch.save(
                {
                    "step": step + 1,
                    "unet": unet.state_dict(),
                    "average": average.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "plan": plan.state_dict(),
                },
                state_file,
            )
    pipeline = DDIMPipeline(unet=average.module.half(), scheduler=scheduler)
    pipeline.save_pretrained(asked.out, safe_serialization=True)
    state_file.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
