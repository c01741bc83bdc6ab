"""Measure what docs/attribution-naming.md says: who is named, how often falsely, and how sure shares are.

    python tools/attribution/naming.py CIFAR2 [--weights FILE] [--function noise_norm|loss]

trains a small UNet on 300 pictures of CIFAR-2 at 16 px, of which one is there ten times, on one thread; CIFAR2 is an
.npz with `train_images`, uint8 (5000, 32, 32, 3). FILE is read where it is there, and written where it is not.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMScheduler, UNet2DModel
from numpy.typing import NDArray

from guardrail.records import Work
from guardrail.study.attribution.checking import check_naming
from guardrail.study.attribution.clusters import gradient_pairs
from guardrail.study.attribution.draws import drawn_for
from guardrail.study.attribution.functions import noising_of
from guardrail.study.attribution.gradients import Sketching, chosen_parameters
from guardrail.study.attribution.hubs import Baseline
from guardrail.study.attribution.naming import NamingRule, named
from guardrail.study.attribution.pulls import Pulls, without_self
from guardrail.study.attribution.report import check_line
from guardrail.study.attribution.shares import shares_of
from guardrail.study.attribution.sketch import CountSketch
from guardrail.study.attribution.stability import stability

TRAINING, COPIES, DECOYS, FRESH, MADE = 300, 10, 300, 100, 80  # pictures
PLANTED, SINGLE, AGAIN = 20, 40, 4  # noisy pictures of the planted and of other training images; sets of draws
DRAWS, COUNTERS, SIDE_PX, OFF = 10, 4096, 16, 0.05  # OFF: noise on a picture, of -1..1
STEPS, BATCH, RATE = 4000, 32, 2e-3

Array = NDArray[np.float64]


class Measured(NamedTuple):
    """An index, and how to ask it: all rows, what is damped, solved once."""

    rows: Array
    decoys: NDArray[np.bool_]
    labels: NDArray[np.intp]
    solved: Array

    def pulls(self, parts: Array) -> Pulls:
        """What all rows do to one picture, from the gradients (H, k) of the parts of its draws."""
        common = self.rows[self.decoys].mean(axis=0)
        apart = parts - common
        return Pulls(parts @ self.rows.T @ self.solved, apart @ (self.rows - common).T, apart @ apart.T)

    def references(self) -> Array:
        """Influences on the decoys."""
        asked = np.flatnonzero(self.decoys)
        return without_self(self.rows[asked] @ self.rows.T @ self.solved, asked)


def main() -> None:
    """Train, ask, and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cifar2", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--function", choices=("noise_norm", "loss"), default="noise_norm")
    given = parser.parse_args()
    torch.set_num_threads(1)
    pictures = read(given.cifar2)
    training = pictures[:TRAINING].clone()
    training[1:COPIES] = training[0]
    decoys, fresh = pictures[1000 : 1000 + DECOYS], pictures[3000 : 3000 + FRESH]
    network = trained(training, given.weights)
    ask = asker(network, given.function)
    started = time.process_time()
    rows = np.concatenate([ask(image, row, 1) for row, image in enumerate(torch.cat([training, decoys]))])
    say(f"{len(rows)} rows, {time.process_time() - started:.1f} CPU seconds")
    index = indexed(rows)
    tell_clusters(index)
    baseline = Baseline.of(index.references(), index.decoys, index.labels)
    for rule in (NamingRule("p_value"), NamingRule("rate"), NamingRule()):
        say(f"{rule.by}: {check_line(check_naming(index.references(), index.decoys, index.labels, rule))}")
    made = generated(network)
    for name, images in {"fresh": fresh, "generated": made}.items():
        parts = [index.pulls(ask(image, 10_000 + row, DRAWS)) for row, image in enumerate(images)]
        tell(name, baseline, parts, [])
    tell_copies("planted", index, baseline, ask, training[:1].expand(PLANTED, -1, -1, -1), [0] * PLANTED)
    singles = list(range(50, 50 + SINGLE))
    tell_copies("single", index, baseline, ask, training[singles], [row - COPIES + 1 for row in singles])


def read(path: Path) -> torch.Tensor:
    """Pictures in an order of their own, float32 (N, 3, S, S) in -1..1."""
    images = torch.from_numpy(np.load(path)["train_images"]).permute(0, 3, 1, 2).float() / 127.5 - 1
    small = torch.nn.functional.avg_pool2d(images, images.shape[-1] // SIDE_PX)
    return small[np.random.default_rng(0).permutation(len(small))]


def trained(training: torch.Tensor, weights: Path | None) -> UNet2DModel:
    """A network of 0.43 M parameters that learnt the pictures."""
    torch.manual_seed(0)
    network = UNet2DModel(
        sample_size=SIDE_PX,
        block_out_channels=(16, 32, 48),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownBlock2D",) * 3,
        up_block_types=("UpBlock2D",) * 3,
    )
    if weights and weights.exists():
        network.load_state_dict(torch.load(weights, weights_only=True))
        return network.eval()
    kept = DDPMScheduler().alphas_cumprod
    steps = torch.optim.AdamW(network.parameters(), RATE)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(steps, STEPS)
    for _ in range(STEPS):
        clean = training[torch.randint(0, len(training), (BATCH,))]
        noise, times = torch.randn_like(clean), torch.randint(0, len(kept), (BATCH,))
        at = kept[times][:, None, None, None]
        loss = (network(at.sqrt() * clean + (1 - at).sqrt() * noise, times).sample - noise).square().mean()
        steps.zero_grad()
        loss.backward()
        steps.step()
        rates.step()
    if weights:
        torch.save(network.state_dict(), weights)
    return network.eval()


def asker(network: UNet2DModel, function: str):
    """A function of image (3, S, S), row and parts H: its sketched gradients, float64 (H, k)."""
    parameters = chosen_parameters(network)
    sketch = CountSketch([one.numel() for one in parameters.values()], COUNTERS, 0)
    sketching = Sketching(network, parameters, noising_of(DDPMScheduler()), sketch, function)  # type: ignore[arg-type]

    def ask(image: torch.Tensor, row: int, parts: int) -> Array:
        draws = drawn_for(row, tuple(image.shape), DRAWS, 0)
        made = [sketching(image, draws.part(slice(at, None, parts))) for at in range(parts)]
        return torch.stack(made).double().numpy()

    return ask


def indexed(rows: Array) -> Measured:
    """Rows with their Gram matrix inverted, a tenth of the mean eigenvalue added."""
    decoys = np.arange(len(rows)) >= TRAINING
    labels = np.arange(len(rows))
    labels[:COPIES] = 0
    gram = rows @ rows.T
    damping = 0.1 * np.trace(gram) / len(rows)
    return Measured(rows, decoys, labels, np.linalg.inv(gram + damping * np.eye(len(rows))))


def generated(network: UNet2DModel) -> torch.Tensor:
    """Pictures that the network makes."""
    pipeline = DDIMPipeline(network, DDIMScheduler())
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.Generator().manual_seed(5)
    made = pipeline(batch_size=MADE, num_inference_steps=50, generator=noise, output_type="np").images
    return torch.from_numpy(made).permute(0, 3, 1, 2).float() * 2 - 1


def tell_clusters(index: Measured) -> None:
    """How many of the planted copies gradients alone find."""
    pairs = gradient_pairs(index.rows, index.decoys)
    planted = sum(second < COPIES for _, second in pairs)
    say(f"pairs by gradients: {planted} of {COPIES * (COPIES - 1) // 2} of the planted, {len(pairs) - planted} others")


def tell(name: str, baseline: Baseline, asked: list[Pulls], owed: list[int]) -> None:
    """Who is named on some pictures, and whether it is who they were made from."""
    for rule in (NamingRule("p_value"), NamingRule("rate"), NamingRule()):
        found = [named(baseline, pulls.influence, rule) for pulls in asked]
        line = f"{name}, {rule.by}: anything named on {sum(one.named.any() for one in found)} of {len(found)}, "
        line += f"{np.mean([one.named.mean() for one in found]):.3%} of training images"
        if owed:
            first = np.mean([one.values.clusters.argmax() == row for one, row in zip(found, owed, strict=True)])
            told = np.mean([one.named[row] for one, row in zip(found, owed, strict=True)])
            line += f"; its own ranks first on {first:.1%}, is named on {told:.1%}"
        say(line)
    halves = [stability(one.influences, 20, 0, lambda half: baseline.values(half).clusters) for one in asked]
    say(
        f"{name}: halves agree by a Jaccard index of {np.mean([one.jaccard for one in halves if one]):.3f} "
        f"(by chance {halves[0].by_chance if halves[0] else 0:.3f})"
    )


def tell_copies(name: str, index: Measured, baseline: Baseline, ask, images: torch.Tensor, owed: list[int]) -> None:
    """The same for noisy pictures of training images, and how sure their shares are."""
    noise = torch.Generator().manual_seed(1)
    noisy = images + OFF * torch.randn(images.shape, generator=noise)
    gradients = [
        np.stack([ask(image, 20_000 + again * 1000 + row, DRAWS) for row, image in enumerate(noisy)])
        for again in range(AGAIN)
    ]
    tell(name, baseline, [index.pulls(parts) for parts in gradients[0]], owed)
    works = [Work(work_id=str(row), bank=str(index.labels[row])) for row in range(TRAINING)]
    clusters = np.unique(index.labels[:TRAINING])
    for parts in (DRAWS, 5, 2):
        shares, holds, widths = [], [], []
        for row, cluster in enumerate(owed):
            again = [shares_at(index, baseline, one[row], parts, works, str(clusters[cluster])) for one in gradients]
            usual = np.mean([one[0] for one in again])
            told = [one for one in again if one[0] > 0]
            shares.append(usual)
            holds += [low <= usual <= high for _, low, high in told]
            widths += [high - low for _, low, high in told]
        say(
            f"{name}, {parts} parts: mean share {np.mean(shares):.3f}, told {len(holds)} of {len(owed) * AGAIN} times; "
            f"intervals {np.mean(widths):.3f} wide, {np.mean(holds):.1%} hold the mean over {AGAIN} sets of draws"
        )


def shares_at(
    index: Measured, baseline: Baseline, single: Array, parts: int, works: list[Work], bank: str
) -> tuple[float, float, float]:
    """A bank's share in one picture with its interval, the draws taken together in so many parts."""
    pulls = index.pulls(np.stack([single[at::parts].mean(axis=0) for at in range(parts)]))
    found = shares_of(pulls, baseline, named(baseline, pulls.influence), works)
    return next(((one.share, one.low, one.high) for one in found.by_holder if one.bank == bank), (0.0, 0.0, 0.0))


def say(line: str) -> None:
    """One line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
