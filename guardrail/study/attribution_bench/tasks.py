"""A name in, what is trained on, how, and which truths are made of it out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from diffusers import DDPMScheduler, UNet2DModel

from guardrail.errors import SettingsInvalid
from guardrail.study.attribution_bench.pictures import BenchPictures, draw_pictures

__all__ = ["TASKS", "BenchTask", "Plan", "empty_network", "pictures_of", "schedule"]


@dataclass(frozen=True, slots=True)
class Plan:
    """How many trainings and looks a truth is made of.

    Attributes:
        subsets: M, halves of the works that are trained on alone.
        seeds: how often each.
        generated, held_out: queries of either kind.
        draws: (timestep, noise) pairs whose mean loss is the truth of a query and a model.
        left_out: whether models are trained without each holder, too.
        moved: generated queries of which the most influential works are removed.
    """

    subsets: int = 64
    seeds: int = 2
    generated: int = 48
    held_out: int = 48
    draws: int = 40
    left_out: bool = True
    moved: int = 12


@dataclass(frozen=True, slots=True)
class BenchTask:
    """A network and how it is trained; the same task makes the same truth on the same machine with one thread.

    Attributes:
        name: of `TASKS`.
        side_px, patch_px: of pictures, and of the squares of pixels that the network is given as one.
        works, planted, copies: different pictures, how many are repeated, and how often.
        channels: of the network's levels.
        steps, batch, rate: of AdamW; the rate falls to 0 as half a cosine.
        seed: of pictures, subsets and trainings.
        plan: of the truths.
    """

    name: str
    side_px: int
    patch_px: int
    works: int
    planted: int
    copies: int
    channels: tuple[int, ...]
    steps: int
    batch: int
    rate: float
    seed: int
    plan: Plan

    @property
    def shape(self) -> tuple[int, int, int]:
        """What the network is given, (C, H, W)."""
        side = self.side_px // self.patch_px
        return (3 * self.patch_px**2, side, side)


TASKS = {
    "tiny": BenchTask("tiny", 16, 1, 220, 4, 10, (16, 32), 400, 32, 3e-3, 8, Plan(subsets=48)),
    "cifar2": BenchTask(
        "cifar2", 32, 2, 1000, 0, 1, (48, 72), 1500, 64, 1e-3, 8, Plan(subsets=48, left_out=False, moved=0)
    ),
}
"""By name."""

_HELD_OUT_AT = 0  # first of CIFAR-2's validation pictures that is asked


def pictures_of(task: BenchTask, source: Path | None = None) -> BenchPictures:
    """The pictures of a task.

    Args:
        task: which.
        source: for `cifar2`, an .npz with uint8 `train_images` and `validation_images`.

    Raises:
        SettingsInvalid: the task's pictures are not drawn by the program, and no file of them is given.
    """
    if task.name == "tiny":
        return draw_pictures(task.side_px, task.works, task.planted, task.copies, task.plan.held_out, task.seed)
    if source is None:
        raise SettingsInvalid("--pictures", f"found none, expected the .npz of {task.name}; name it")
    with np.load(source, allow_pickle=False) as stored:
        training, others = stored["train_images"], stored["validation_images"]
    chosen = np.sort(np.random.default_rng(task.seed).permutation(len(training))[: task.works])
    works = np.arange(task.works, dtype=np.int64)
    held_out = others[_HELD_OUT_AT : _HELD_OUT_AT + task.plan.held_out]
    return BenchPictures(training[chosen], works, np.zeros_like(works), works[:0], held_out)


def empty_network(task: BenchTask) -> UNet2DModel:
    """The network of a task, untrained: diffusers' UNet2DModel without attention."""
    levels = len(task.channels)
    return UNet2DModel(
        sample_size=task.shape[1],
        in_channels=task.shape[0],
        out_channels=task.shape[0],
        block_out_channels=task.channels,
        down_block_types=("DownBlock2D",) * levels,
        up_block_types=("UpBlock2D",) * levels,
        layers_per_block=1,
        norm_num_groups=8,
        add_attention=False,
    )


def schedule() -> DDPMScheduler:
    """The noise that every task's network is trained on: Nichol and Dhariwal's cosine, 1,000 steps, epsilon."""
    return DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2", clip_sample=True)
