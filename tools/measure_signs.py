"""Measure what the signs of memorisation are worth, on a model whose memorised prompts are known.

A closed-form text-to-image model (`guardrail.study.conditional_denoiser`) is given some prompts with one picture each,
which it knows by heart, and others with several, from which it makes new pictures. Every prompt is run with some seeds,
and each sign is asked which of the two it was: the area under the ROC curve, with a 95 % interval by resampling
prompts. The index for look-ups holds all pictures of the memorised prompts, and half of those of the others.

    python tools/measure_signs.py PICTURES --prompts 60 --seeds 2

With `--cost` it measures instead what being watched costs: a call that does nothing, and a step of the model.
"""

import argparse
import json
import sys
import tempfile
import time
import timeit
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from guardrail.desk.console import progress_of
from guardrail.desk.making import build_folder_index
from guardrail.guard import Guard
from guardrail.index import Recipe
from guardrail.intake.watching import Watch, watched_call
from guardrail.plugins import build_plugins
from guardrail.settings import Settings
from guardrail.study.conditional_denoiser import prompt_embedding, prompted_pipeline

SIDE_PX = 32
FIRST_STEPS = (1, 5, None)
PICTURES_EACH = (2, 4, 8)


def main() -> None:
    """Measure, and print one JSON document."""
    asked = parsed()
    if asked.cost:
        sys.stdout.write(json.dumps(costs(), indent=2) + "\n")
        return
    chance = np.random.default_rng(asked.seed)
    groups, files = grouped(asked, chance)
    pipe = prompted_pipeline(groups)
    with tempfile.TemporaryDirectory() as home:
        guard = indexed(files, Path(home))
        runs = measured(pipe, len(groups), asked, guard, Path(home))
        guard.memory.close()
    truth = np.repeat([len(group) == 1 for group in groups], asked.seeds)
    prompts = np.repeat(np.arange(len(groups)), asked.seeds)
    found = {name: figures(values, truth, prompts, chance) for name, values in runs.items()}
    said = {"asked": vars(asked) | {"pictures": asked.pictures.name}, "signs": found}
    sys.stdout.write(json.dumps(said, indent=2) + "\n")


def parsed() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, nargs="?", default=Path(), help="folder of pictures")
    parser.add_argument("--prompts", type=int, default=200, help="half of them memorised")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cost", action="store_true", help="measure what being watched costs")
    return parser.parse_args()


def grouped(asked: argparse.Namespace, chance: np.random.Generator) -> tuple[list[torch.Tensor], list[list[Path]]]:
    """The pictures of each prompt: one for the first half of them, several for the others."""
    every = sorted(asked.pictures.rglob("*.png")) + sorted(asked.pictures.rglob("*.jpg"))
    memorised = asked.prompts // 2
    counts = [1] * memorised + [PICTURES_EACH[at % len(PICTURES_EACH)] for at in range(asked.prompts - memorised)]
    chosen = iter(chance.permutation(len(every)))
    files = [[every[next(chosen)] for _ in range(count)] for count in counts]
    return [torch.stack([pixels(path) for path in some]) for some in files], files


def pixels(path: Path) -> torch.Tensor:
    """Float (3, 32, 32) in -1..1; what is transparent is white."""
    with Image.open(path) as opened:
        seen = opened.convert("RGBA")
    laid = Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB")
    small = np.asarray(laid.resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS), np.float32)
    return torch.from_numpy(small / 127.5 - 1).permute(2, 0, 1)


def indexed(files: list[list[Path]], home: Path) -> Guard:
    """An index of what is known by heart, and of half of each other prompt's pictures."""
    works = home / "works"
    works.mkdir()
    for number, some in enumerate(files):
        for path in some[: max(1, len(some) // 2)]:
            shown = ((pixels(path) + 1) * 127.5).round().permute(1, 2, 0).to(torch.uint8).numpy()
            Image.fromarray(shown).save(works / f"{number}-{path.stem}.png")
    settings = Settings(home=home, device="cpu")
    build_folder_index(works, home / "index", settings, Recipe(embedder="mini"))
    return Guard(index=home / "index", settings=settings)


def measured(pipe: object, prompts: int, asked: argparse.Namespace, guard: Guard, home: Path) -> dict[str, np.ndarray]:
    """For each sign float64 (prompts * seeds,), a run each."""
    values: dict[str, list[float]] = {}
    done = 0
    with progress_of("running") as progress:
        for prompt in range(prompts):
            said = {
                "prompt_embeds": prompt_embedding(prompt, prompts),
                "negative_prompt_embeds": prompt_embedding(None, prompts),
                "num_inference_steps": asked.steps,
                "guidance_scale": asked.guidance,
                "num_images_per_prompt": asked.seeds,
                "height": SIDE_PX,
                "width": SIDE_PX,
                "generator": torch.Generator().manual_seed(asked.seed + prompt),
                "output_type": "np",
            }
            for name, found in one_run(pipe, said, guard, home).items():
                values.setdefault(name, []).extend(found)
            done += 1
            progress(done, prompts)
    return {name: np.asarray(found) for name, found in values.items()}


def one_run(pipe: object, said: dict[str, object], guard: Guard, home: Path) -> dict[str, list[float]]:
    """What was measured at every step of one run, put together over the first so many."""
    by_step: dict[str, list[torch.Tensor]] = {"noise_magnitude": [], "update_norm": []}
    looks: list[list[float]] = []

    def note(step: object) -> None:
        by_step["noise_magnitude"].append(step.gap.clone())
        by_step["update_norm"].append((step.after - step.latents).flatten(1).square().mean(1).sqrt())
        if (step.number + 1) % 5 == 0:
            looks.append(
                [
                    max((one.similarity or -1 for one in near if one.signal == "copy"), default=-1)
                    for near in step.look()
                ]
            )

    watch = Watch(guard.plugins, Settings(home=home), look=guard.look_up, watchers=[note])
    watched_call(pipe, pipe.__call__, (), said, watch)
    found = {
        f"{name}, {f'first {steps}' if steps else 'all'} steps": torch.stack(values[:steps]).mean(0).tolist()
        for name, values in by_step.items()
        for steps in FIRST_STEPS
    }
    for at, similarities in enumerate(looks):
        found[f"early_match, step {5 * (at + 1)}"] = similarities
    return found


def nearest(near: object) -> float:
    """The highest similarity by the copy descriptor."""
    return max(one.similarity for one in near if one.signal == "copy")


def figures(
    values: np.ndarray, truth: np.ndarray, prompts: np.ndarray, chance: np.random.Generator
) -> dict[str, object]:
    """AUC with its interval, and the share of memorised runs above all but one in a hundred of the others."""
    numbers = np.unique(prompts)
    drawn = []
    for _ in range(500):
        rows = np.concatenate([np.flatnonzero(prompts == one) for one in chance.choice(numbers, len(numbers))])
        if truth[rows].any() and not truth[rows].all():
            drawn.append(auc(values[rows], truth[rows]))
    limit = np.quantile(values[~truth], 0.99)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {
        "auc": round(auc(values, truth), 4),
        "low": round(float(low), 4),
        "high": round(float(high), 4),
        "found_at_1_percent": round(float((values[truth] > limit).mean()), 4),
        "median_memorised": round(float(np.median(values[truth])), 4),
        "median_other": round(float(np.median(values[~truth])), 4),
    }


def auc(values: np.ndarray, truth: np.ndarray) -> float:
    """The chance that a memorised run has the higher value, ties counted half."""
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(values[truth], values[~truth]).statistic / (truth.sum() * (~truth).sum()))


def costs() -> dict[str, float]:
    """Microseconds of CPU time, the shortest of many: an empty call, and a watched step less a plain one."""
    pipe, hooks = prompted_pipeline([torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 64, 64)]), build_plugins()
    plain = Watch(hooks, Settings())
    both = Watch(hooks, Settings(signs={"noise_magnitude": {}, "update_norm": {}}))
    steps = 20
    said = {
        "prompt_embeds": prompt_embedding(0, 2),
        "negative_prompt_embeds": prompt_embedding(None, 2),
        "num_inference_steps": steps,
        "height": 64,
        "width": 64,
        "output_type": "latent",
    }

    def shortest(call: Callable[[], object], times: int) -> float:
        return min(timeit.repeat(call, timer=time.process_time, number=1, repeat=times)) * 1e6

    unwatched = shortest(lambda: watched_call(pipe, pipe.__call__, (), said, plain), 30)
    watched = shortest(lambda: watched_call(pipe, pipe.__call__, (), said, both), 30)
    return {
        "call_without_signs_us": round(shortest(lambda: watched_call(pipe, do_nothing, (), {}, plain), 1000), 1),
        "step_with_both_signs_us": round((watched - unwatched) / steps, 1),
    }


def do_nothing() -> None:
    """A pipeline's call that takes no time."""


if __name__ == "__main__":
    main()
