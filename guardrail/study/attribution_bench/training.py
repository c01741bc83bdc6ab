"""Pictures and a seed in, a trained network out; and pictures, and losses, out of a network."""

from __future__ import annotations

import math

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DModel
from numpy.typing import NDArray
from torch.nn.functional import mse_loss, pixel_shuffle, pixel_unshuffle

from guardrail.study.attribution.draws import stratified_times
from guardrail.study.attribution.functions import noising_of
from guardrail.study.attribution_bench.tasks import BenchTask, empty_network, schedule

__all__ = ["as_given", "as_pixels", "generate", "losses_of", "train"]

_WARM_UP = 20  # steps until the full rate
_CLIP = 1.0  # norm of a step's gradient, at most
_TRIES = 32  # rows drawn for a place of a batch; 2^-32 is how often a half holds none of them


def as_given(pixels: NDArray[np.uint8], patch_px: int) -> torch.Tensor:
    """Pictures uint8 (N, S, S, 3) as a network is given them: float32 (N, 3 p p, S / p, S / p), -1..1."""
    planes = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return pixel_unshuffle(planes, patch_px)


def as_pixels(given: torch.Tensor, patch_px: int) -> NDArray[np.uint8]:
    """The reverse of `as_given`, rounded and clipped."""
    planes = pixel_shuffle(given.detach().float().cpu(), patch_px).permute(0, 2, 3, 1)
    return np.asarray(((planes + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy())


def train(task: BenchTask, pixels: NDArray[np.uint8], kept: NDArray[np.bool_], seed: int) -> UNet2DModel:
    """Train on the rows that are kept, with the draws that all trainings of this seed share.

    A place of a batch is offered the same rows, timestep and noise whichever rows are kept, and takes the first that
    is: two trainings differ by what was kept, as little as they can by chance.

    Args:
        task: network, steps, batch and rate.
        pixels: uint8 (N, S, S, 3).
        kept: bool (N,), at least one.
        seed: of weights, rows, timesteps and noise.

    Returns:
        The network, on the CPU, in evaluation mode.

    Deterministic on a CPU with one thread.
    """
    torch.manual_seed(seed)  # weights are drawn by the global generator
    network = empty_network(task)
    images, noising = as_given(pixels, task.patch_px), noising_of(schedule())
    generator, chance = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    stepper = torch.optim.AdamW(network.parameters(), task.rate, weight_decay=1e-4)
    falling = torch.optim.lr_scheduler.LambdaLR(stepper, lambda step: _rate(step, task.steps))
    for _ in range(task.steps):
        offered = chance.integers(0, len(pixels), (task.batch, _TRIES))
        rows = offered[np.arange(task.batch), kept[offered].argmax(axis=1)]
        rows = np.where(kept[rows], rows, int(kept.argmax()))
        clean = images[torch.from_numpy(rows)]
        noise = torch.randn(clean.shape, generator=generator)
        steps, image, added = noising.at(torch.rand(task.batch, generator=generator, dtype=torch.float64))
        noisy = image[:, None, None, None] * clean + added[:, None, None, None] * noise
        loss = mse_loss(network(noisy, steps, return_dict=False)[0], noise)
        stepper.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(network.parameters(), _CLIP)
        stepper.step()
        falling.step()
    return network.eval().requires_grad_(False)


def _rate(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / _WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / steps))


def generate(task: BenchTask, network: UNet2DModel, count: int, seed: int, steps: int = 30) -> NDArray[np.uint8]:
    """Pictures of a network by DDIM from seeded noise; the same noise for the same seed: uint8 (count, S, S, 3)."""
    scheduler = DDIMScheduler.from_config(schedule().config)
    scheduler.set_timesteps(steps)
    now = torch.randn((count, *task.shape), generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        for step in scheduler.timesteps:
            now = scheduler.step(network(now, step, return_dict=False)[0], step, now).prev_sample
    return as_pixels(now, task.patch_px)


def losses_of(task: BenchTask, network: UNet2DModel, pixels: NDArray[np.uint8], seed: int) -> NDArray[np.float32]:
    """The training loss of every query, a mean over the task's draws, which all queries and models share: float32 (Q,).

    Args:
        task: how many draws.
        network: which model.
        pixels: uint8 (Q, S, S, 3).
        seed: of timesteps and noise.
    """
    noising, count = noising_of(schedule()), task.plan.draws
    noise = torch.randn((count, *task.shape), generator=torch.Generator().manual_seed(seed))
    steps, image, added = noising.at(stratified_times(count, seed))
    image, added = image[:, None, None, None], added[:, None, None, None]
    found = []
    with torch.inference_mode():
        for clean in as_given(pixels, task.patch_px):
            predicted = network(image * clean + added * noise, steps, return_dict=False)[0]
            found.append(mse_loss(predicted, noise))
    return torch.stack(found).numpy()
