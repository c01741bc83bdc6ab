"""A task in, its truth out: training by training, each kept when it is done, so that a later run goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DModel
from numpy.typing import NDArray
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from guardrail.study.attribution_bench.estimates import Way, gradients_of, influences_of
from guardrail.study.attribution_bench.pictures import HOLDERS, BenchPictures
from guardrail.study.attribution_bench.tasks import BenchTask, empty_network
from guardrail.study.attribution_bench.training import generate, losses_of, train
from guardrail.study.attribution_bench.truth import Truth, subsets_of

__all__ = ["LOSS_SEED", "TruthMaker", "model_of"]

LOSS_SEED = 502
"""Of the timesteps and noise at which every model is asked about every query."""

_GENERATED_SEED, _RANDOM_SALT = 501, 2
_LEFT_OUT = 0.1  # share of the works that is left out to see a picture move
_WAY = Way("noise_norm", 10, 4096)


def model_of(task: BenchTask, weights: NDArray[np.float32]) -> UNet2DModel:
    """The network that float32 (P,) weights are of, in evaluation mode."""
    network = empty_network(task)
    vector_to_parameters(torch.from_numpy(weights.copy()), network.parameters())
    return network.eval().requires_grad_(False)


class TruthMaker:
    """Makes the trainings of a task that a folder does not hold yet.

    Args:
        task: which.
        pictures: its.
        folder: made when missing; every training is a file in it.
        started: a truth to go on from: what it holds is not made again.
    """

    def __init__(self, task: BenchTask, pictures: BenchPictures, folder: Path, started: Truth | None = None) -> None:
        self._task, self._pictures, self._folder = task, pictures, folder
        self._masks = subsets_of(task)
        folder.mkdir(parents=True, exist_ok=True)
        if started is not None:
            self._unpack(started)

    @property
    def trainings(self) -> tuple[str, ...]:
        """Names of all of them, in the order in which they are made: a subset with all seeds, then the next."""
        plan = self._task.plan
        full = [f"full-0-{seed}" for seed in range(plan.seeds)]
        subsets = [f"subset-{at}-{seed}" for at in range(plan.subsets) for seed in range(plan.seeds)]
        holders = [f"holder-{at}-{seed}" for at in range(HOLDERS if plan.left_out else 0) for seed in range(plan.seeds)]
        moved = [f"{kind}-{at}-0" for at in range(plan.moved) for kind in ("top", "random")]
        return (*full, *subsets, *holders, *moved)

    def make(self, progress: Callable[[int, int], None], seconds: float = float("inf")) -> int:
        """Train what is missing, for so many seconds of the processor at most; returns how many are missing still."""
        begun, names = time.process_time(), self.trainings
        for done, name in enumerate(names):
            progress(done, len(names))
            if self._path(name).is_file():
                continue
            if time.process_time() - begun > seconds:
                break
            self._write(name, **self._trained(name))
        progress(len(names), len(names))
        return sum(not self._path(name).is_file() for name in names)

    def truth(self) -> Truth:
        """All that is made so far, the rest NaN; needs the first training at least."""
        plan, full = self._task.plan, self._read("full-0-0")
        queries = plan.generated + plan.held_out

        def losses(kind: str, count: int) -> NDArray[np.float32]:
            found = np.full((count, plan.seeds, queries), np.nan, np.float32)
            for at, seed in np.ndindex(count, plan.seeds):
                if self._path(f"{kind}-{at}-{seed}").is_file():
                    found[at, seed] = self._read(f"{kind}-{at}-{seed}")["losses"]
            return found

        def moved(kind: str) -> NDArray[np.float32]:
            made = [f"{kind}-{at}-0" for at in range(plan.moved)]
            return np.array(
                [self._read(name)["moved"] if self._path(name).is_file() else np.nan for name in made], "f4"
            )

        spent = sum(float(self._read(name)["cpu_s"]) for name in self.trainings if self._path(name).is_file())
        return Truth(
            self._masks,
            losses("subset", plan.subsets),
            losses("full", 1)[0],
            losses("holder", HOLDERS if plan.left_out else 0),
            moved("top"),
            moved("random"),
            full["generated"],
            full["weights"],
            np.array(spent),
            np.array(str(torch.__version__)),
        )

    def _trained(self, name: str) -> dict[str, Any]:
        begun = time.process_time()
        kind, at, seed = name.split("-")[0], int(name.split("-")[1]), int(name.split("-")[2])
        kept = self._kept(kind, at)[self._pictures.works]
        network = train(self._task, self._pictures.pixels, kept, self._task.seed * 1000 + seed)
        made: dict[str, Any] = {}
        if name == "full-0-0":
            made["generated"] = self._generated(network)
            made["weights"] = parameters_to_vector(network.parameters()).numpy()
        if kind in ("top", "random"):
            here, before = self._generated(network)[at].astype(float), self._read("full-0-0")["generated"][at]
            made["moved"] = np.float32(np.sqrt(((here - before) ** 2).mean()))
        else:
            generated = made["generated"] if made else self._read("full-0-0")["generated"]
            queries = np.concatenate([generated, self._pictures.held_out])
            made["losses"] = losses_of(self._task, network, queries, LOSS_SEED)
        return made | {"cpu_s": time.process_time() - begun}

    def _kept(self, kind: str, at: int) -> NDArray[np.bool_]:
        """The works that a training keeps, bool (W,)."""
        if kind == "subset":
            return np.asarray(self._masks[at])
        if kind == "holder":
            return np.asarray(self._pictures.holders != at)
        kept = np.ones(self._task.works, np.bool_)
        gone = round(_LEFT_OUT * self._task.works)
        if kind == "random":
            kept[np.random.default_rng([self._task.seed, _RANDOM_SALT, at]).permutation(len(kept))[:gone]] = False
        elif kind == "top":
            kept[np.argsort(-self._influences(at))[:gone]] = False
        return kept

    def _influences(self, at: int) -> NDArray[np.float64]:
        full = self._read("full-0-0")
        network = model_of(self._task, full["weights"])
        asked = full["generated"][at : at + 1]
        gradients = gradients_of(self._task, network, self._pictures.pixels[: self._task.works], asked, _WAY)
        return np.asarray(influences_of(gradients)[0])

    def _generated(self, network: UNet2DModel) -> NDArray[np.uint8]:
        return generate(self._task, network, self._task.plan.generated, _GENERATED_SEED)

    def _unpack(self, truth: Truth) -> None:
        """Files of what a truth holds; the time it took is counted once, with the first training."""
        first = {"generated": truth.generated, "weights": truth.weights, "cpu_s": float(truth.cpu_s)}
        for kind, table in (("full", truth.full[None]), ("subset", truth.losses), ("holder", truth.without)):
            for at, seed in np.ndindex(table.shape[:2]):
                name = f"{kind}-{at}-{seed}"
                if np.isfinite(table[at, seed]).all() and not self._path(name).is_file():
                    more = first if name == "full-0-0" else {"cpu_s": 0.0}
                    self._write(name, losses=table[at, seed], **more)
        for kind, row in (("top", truth.moved_top), ("random", truth.moved_random)):
            for at, moved in enumerate(row):
                if np.isfinite(moved) and not self._path(f"{kind}-{at}-0").is_file():
                    self._write(f"{kind}-{at}-0", moved=moved, cpu_s=0.0)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.npz"

    def _read(self, name: str) -> dict[str, NDArray[Any]]:
        with np.load(self._path(name), allow_pickle=False) as stored:
            return dict(stored)

    def _write(self, name: str, **arrays: Any) -> None:
        unfinished = self._folder / f"{name}.tmp.npz"
        np.savez_compressed(unfinished, allow_pickle=False, **arrays)
        unfinished.replace(self._path(name))
