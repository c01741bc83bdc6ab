"""Train the image tower of `mini` for copy detection.

    python tools/mini/train.py PACK efficientnet-lite0-57934424.pth OUT --steps 1800

PACK is the folder that `tools/mini/pictures.py` wrote; the weights are the ImageNet ones (see tools/mini/export.py).
The untrained network already keeps different pictures apart; what it cannot do is see through edits. So its own vectors
of the plain pictures are made once and stay: they are the targets. Every packed picture, and every scene that is put
together from several of them, is a class of its own. Each step takes some classes, a plain view of each and some
strongly edited ones, and asks that an edited view comes to the target of its own class, and nearer to it than to all
other targets, and that a plain view stays where it is. Fixed targets cannot collapse, and every view gets as many
negatives as there are classes. A checkpoint of the averaged weights is kept every `--keep-every` steps; the same
command goes on from the newest one.

Source: strong edits and contrast as in Pizzi et al., "A self-supervised descriptor for image copy detection", 2022. We
differ in the fixed targets: with some hundred thousand views, not some hundred millions, InfoNCE between two views made
all vectors alike (docs/models/mini.md has what was tried).
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from edits import colour, edited, laid
from export import trunk_weights
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset

ARCHITECTURE = "tf_efficientnet_lite0"
POOLING = "max"
FROZEN_BLOCKS = 2  # stem and first stages keep their ImageNet weights
SCENES = 1000  # classes put together from several pictures
TEMPERATURE = 0.05
NEARING_WEIGHT = 2.0  # of the distance between an edited view and its target
STAYING_WEIGHT = 4.0  # of the distance between a plain view and its target
AVERAGING = 0.998  # of the weights that are kept
OFTENER = {"drawing": 1.0, "stamp": 3.0, "wallpaper": 2.0, "scene": 1.5}


class Pack:
    """The packed pictures that may be trained on."""

    def __init__(self, folder: Path) -> None:
        entries = json.loads((folder / "pictures.json").read_text(encoding="utf-8"))
        self.entries = [entry for entry in entries if not entry["held_out"]]
        self._bytes = np.memmap(folder / "pictures.bin", np.uint8, "r")
        self._grounds = [at for at, entry in enumerate(self.entries) if entry["kind"] == "wallpaper"]
        self._drawn = [at for at, entry in enumerate(self.entries) if entry["channels"] == 4]
        self.kinds = [entry["kind"] for entry in self.entries] + ["scene"] * SCENES
        names = [entry["group"] for entry in self.entries] + [f"scene:{at}" for at in range(SCENES)]
        self.groups = np.unique(names, return_inverse=True)[1]

    def __len__(self) -> int:
        return len(self.kinds)

    def pixels(self, at: int) -> NDArray[np.uint8]:
        """One packed picture: uint8 (H, W, 3 or 4)."""
        entry = self.entries[at]
        shape = entry["height"], entry["width"], entry["channels"]
        return np.array(self._bytes[entry["offset"] : entry["offset"] + math.prod(shape)]).reshape(shape)

    def others(self, chance: np.random.Generator) -> list[NDArray[np.uint8]]:
        """A ground and a sticker."""
        ground = chance.choice(self._grounds if chance.random() < 0.5 else len(self.entries))
        return [self.pixels(int(ground)), self.pixels(int(chance.choice(self._drawn)))]

    def picture(self, label: int, chance: np.random.Generator, *, plain: bool) -> Image.Image:
        """The picture of a class, RGB; transparent ones on white, or for an edited view on any colour."""
        if label >= len(self.entries):
            return self._scene(label)
        ground = (255, 255, 255) if plain or chance.random() < 0.6 else colour(chance)
        return laid(self.pixels(label), ground)

    def _scene(self, label: int) -> Image.Image:
        """Some drawings on a wallpaper: the same for the same label."""
        chance = np.random.default_rng(label)
        scene = laid(self.pixels(int(chance.choice(self._grounds))), (255, 255, 255)).resize((288, 288))
        for _ in range(int(chance.integers(2, 6))):
            drawn = Image.fromarray(self.pixels(int(chance.choice(self._drawn))))
            side = int(chance.integers(80, 200))
            drawn.thumbnail((side, side))
            scene.paste(drawn, (int(chance.integers(-20, 230)), int(chance.integers(-20, 230))), drawn)
        return scene


class Views(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
    """Endless batches: labels int64 (B,), views uint8 (V, B, 3, S, S), the first of each class plain."""

    def __init__(self, pack: Pack, given: argparse.Namespace, seed: int) -> None:
        self._pack, self._given, self._seed = pack, given, seed
        share = np.array([OFTENER[kind] for kind in pack.kinds])
        self._share = share / share.sum()

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        worker = torch.utils.data.get_worker_info()
        chance = np.random.default_rng([self._seed, worker.id if worker else 0])
        while True:
            labels = chance.choice(len(self._pack), self._given.classes, replace=False, p=self._share)
            views = [
                [self.view(int(label), chance, plain=number == 0) for label in labels]
                for number in range(self._given.views)
            ]
            yield torch.from_numpy(labels), torch.from_numpy(np.stack(views)).permute(0, 1, 4, 2, 3)

    def view(self, label: int, chance: np.random.Generator, *, plain: bool) -> NDArray[np.uint8]:
        """One view of a class: uint8 (S, S, 3)."""
        picture = self._pack.picture(label, chance, plain=plain)
        if not plain:
            picture = edited(picture, self._pack.others(chance), chance)
        side = self._given.side_px
        return np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=2))


def tower(weights: Path) -> nn.Module:
    """The network with ImageNet's weights, batch norms fixed, first stages frozen."""
    network: nn.Module = timm.create_model(ARCHITECTURE, num_classes=0, global_pool=POOLING)
    network.load_state_dict(trunk_weights(weights), strict=False)
    for part in (network.conv_stem, network.bn1, *list(network.blocks)[:FROZEN_BLOCKS]):
        part.requires_grad_(False)
    return network.eval().to(memory_format=torch.channels_last)


def tower_of(checkpoint: Path) -> nn.Module:
    """The averaged network that a checkpoint of this script keeps."""
    network: nn.Module = timm.create_model(ARCHITECTURE, num_classes=0, global_pool=POOLING)
    network.load_state_dict(torch.load(checkpoint, weights_only=True)["averaged"])
    return network.eval().to(memory_format=torch.channels_last)


def embedded(network: nn.Module, views: torch.Tensor) -> torch.Tensor:
    """Unit vectors of uint8 views (N, 3, S, S): float32 (N, D)."""
    inputs = views.float().div_(127.5).sub_(1).to(memory_format=torch.channels_last)
    return functional.normalize(network(inputs), dim=1)


@torch.inference_mode()
def targets_of(network: nn.Module, pack: Pack, views: Views) -> torch.Tensor:
    """The untrained network's vector of every class's plain view: float32 (classes, D), unit length."""
    chance, rows = np.random.default_rng(3), []
    for start in range(0, len(pack), 64):
        labels = range(start, min(start + 64, len(pack)))
        shown = np.stack([views.view(label, chance, plain=True) for label in labels])
        rows.append(embedded(network, torch.from_numpy(shown).permute(0, 3, 1, 2)))
        sys.stderr.write(f"\r{start}/{len(pack)} targets ")
    return torch.cat(rows)


def losses(
    vectors: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor, groups: torch.Tensor
) -> dict[str, torch.Tensor]:
    """The three terms for unit vectors (V, B, D) of classes (B,), plain views first; targets (C, D), groups (C,)."""
    plain, strong = vectors[0], vectors[1:].flatten(0, 1)
    own = labels.repeat(len(vectors) - 1)
    kin = groups[own][:, None] == groups[None]
    kin = kin.scatter(1, own[:, None], value=False)
    near = strong @ targets.T
    return {
        "finding": functional.cross_entropy((near / TEMPERATURE).masked_fill(kin, -math.inf), own),
        "nearing": NEARING_WEIGHT * (1 - near.gather(1, own[:, None])).mean(),
        "staying": STAYING_WEIGHT * (1 - (plain * targets[labels]).sum(1)).mean(),
    }


def rate_at(step: int, given: argparse.Namespace) -> float:
    """The share of the full learning rate: warmed up over 100 steps, then a half cosine down to a fiftieth."""
    warm = min(1.0, (step + 1) / 100)
    return warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / given.steps))))


class Training:
    """The state of a run: what a checkpoint keeps."""

    def __init__(self, pack: Pack, given: argparse.Namespace) -> None:
        self.network, self.averaged, self.step = tower(given.weights), tower(given.weights), 0
        self._groups, self._rate = torch.from_numpy(pack.groups), given.rate
        self._targets = targets_of(self.network, pack, Views(pack, given, 0)).clone()
        learnt = [tensor for tensor in self.network.parameters() if tensor.requires_grad]
        self.optimiser = torch.optim.AdamW(learnt, lr=given.rate, weight_decay=1e-4)
        newest = max(given.out.glob("step-*.pt"), default=None)
        if newest is not None:
            self._load(torch.load(newest, weights_only=True))

    def _load(self, kept: dict[str, Any]) -> None:
        self.step = kept["step"]
        self.network.load_state_dict(kept["network"])
        self.averaged.load_state_dict(kept["averaged"])
        self.optimiser.load_state_dict(kept["optimiser"])

    def keep(self, folder: Path) -> None:
        """Write a checkpoint."""
        state = {
            "step": self.step,
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        unfinished = folder / "unfinished.tmp"
        torch.save(state, unfinished)
        unfinished.rename(folder / f"step-{self.step:06d}.pt")

    def advance(self, labels: torch.Tensor, views: torch.Tensor, share: float) -> dict[str, float]:
        """One step; returns the terms of the loss."""
        for part in self.optimiser.param_groups:
            part["lr"] = self._rate * share
        vectors = embedded(self.network, views.flatten(0, 1)).unflatten(0, views.shape[:2])
        terms = losses(vectors, labels, self._targets, self._groups)
        self.optimiser.zero_grad()
        sum(terms.values()).backward()  # type: ignore[union-attr]
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimiser.step()
        self.step += 1
        with torch.no_grad():
            pace = min(AVERAGING, self.step / (self.step + 10))
            for mean, now in zip(self.averaged.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(now, 1 - pace)
        return {name: float(term) for name, term in terms.items()}


def main() -> None:
    """Train until the steps are done."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("pack", type=Path)
    arguments.add_argument("weights", type=Path)
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--steps", type=int, default=1800, help="length of the learning-rate plan")
    arguments.add_argument("--until", type=int, default=0, help="stop at this step, to go on with another --side-px")
    arguments.add_argument("--classes", type=int, default=16, help="classes in a step")
    arguments.add_argument("--views", type=int, default=4, help="views of each, the first of them plain")
    arguments.add_argument("--side-px", type=int, default=160)
    arguments.add_argument("--rate", type=float, default=1e-4)
    arguments.add_argument("--keep-every", type=int, default=250)
    arguments.add_argument("--workers", type=int, default=1)
    arguments.add_argument("--seed", type=int, default=20261122)
    given = arguments.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(given.seed)
    pack = Pack(given.pack)
    training = Training(pack, given)
    views = Views(pack, given, given.seed + training.step)
    loader = iter(DataLoader(views, batch_size=None, num_workers=given.workers, prefetch_factor=4))
    started, first, until = time.monotonic(), training.step, given.until or given.steps
    while training.step < until:
        terms = training.advance(*next(loader), rate_at(training.step, given))
        if training.step % given.keep_every == 0 or training.step == until:
            training.keep(given.out)
        if training.step % 20 == 0:
            pace = (time.monotonic() - started) / (training.step - first)
            shown = " ".join(f"{name} {term:.3f}" for name, term in terms.items())
            sys.stderr.write(f"step {training.step}/{until} {shown} {pace:.2f} s/step\n")


if __name__ == "__main__":
    main()
