"""Attack a demo UNet as an audit does, and print what each attack found: the figures of docs/audit-attacks.md.

    python indexes/demo/measure_attacks.py indexes/demo/memorised-unet openclipart/usr/share/openclipart/png

Members are the demo's works, or with `--all-training` a sample of the not-overfitted model's training pictures; held
out are the pictures of its `held-out.txt`, which neither model has seen.
"""

import argparse
import json
import sys
import time
from functools import cache
from pathlib import Path

import numpy as np
import torch
from collect import HERE, squared
from diffusers import DDIMPipeline
from PIL import Image
from split_clipart import work_names

from guardrail.records import PrivacyClaim
from guardrail.study.audit import Budget, Generations, PictureSet, Subject, access_to
from guardrail.study.audit.attacks import Inpainting
from guardrail.study.audit.candidates import batches, drawn, nearest_timesteps, split
from guardrail.study.audit.membership import Membership, denoising_losses, inversion_errors, proximal_errors
from guardrail.study.audit.privacy import PrivacyBound
from guardrail.study.audit.sweeps import StrengthSweep
from guardrail.study.audit.telling import area_under

LISTS = HERE / "not-overfitted-unet"
LEVELS = (0.99, 0.9, 0.66, 0.27, 0.05)  # shares of the signal
PARTS = ("membership", "inpainting", "strength", "privacy")


def picture_set(root: Path, names: list[str]) -> PictureSet:
    """Pictures of openclipart, squared as both models were shown them."""

    @cache
    def read(row: int, side_px: int) -> np.ndarray:
        return np.asarray(squared(Image.open(root / names[row])).resize((side_px, side_px), Image.Resampling.LANCZOS))

    return PictureSet(tuple(names), (None,) * len(names), read)


def areas_by_level(subject: Subject, most: int) -> dict[str, dict[str, float]]:
    """The uncalibrated area of every membership attack at each noise level, by the share of the signal that is kept."""
    network, candidates = subject.denoiser, drawn(subject, most)
    traits: dict[str, dict[str, list[float]]] = {}
    for some in batches(subject, candidates):
        clean = network.encode(some.pixels)
        for kept, at in zip(LEVELS, nearest_timesteps(network.alphas, LEVELS), strict=True):
            found = {
                "loss": denoising_losses(network, clean, some, (at,), subject.seed)[:, 0],
                "proximal": proximal_errors(network, clean, some, at, normalised=False),
                "proximal normalised": proximal_errors(network, clean, some, at, normalised=True),
                "inversion": inversion_errors(network, clean, some, at),
            }
            for name, errors in found.items():
                traits.setdefault(name, {}).setdefault(f"{kept:g}", []).extend(-errors)
    return {
        name: {kept: round(area_under(*split(candidates, np.array(values))), 3) for kept, values in levels.items()}
        for name, levels in traits.items()
    }


def main() -> None:
    """Attack, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--all-training", action="store_true")
    parser.add_argument("--part", choices=PARTS, action="append")
    parser.add_argument("--most", type=int, default=256, help="members, held-out pictures that membership asks about")
    parser.add_argument("--claim", type=float, default=1.0, help="epsilon that part privacy tests")
    parser.add_argument("--levels", action="store_true", help="the area of each membership attack at five noise levels")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    pipeline = DDIMPipeline.from_pretrained(asked.pipeline, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    listed = (LISTS / "training.txt").read_text(encoding="utf-8").splitlines()
    held_out = (LISTS / "held-out.txt").read_text(encoding="utf-8").splitlines()
    side_px = pipeline.unet.config.sample_size
    subject = Subject(
        pipeline=pipeline,
        name=str(asked.pipeline),
        training=picture_set(asked.pictures, listed if asked.all_training else work_names()),
        held_out=picture_set(asked.pictures, held_out),
        generated=Generations(np.zeros((0, side_px, side_px, 3), np.uint8), (), (), (), ()),
        side_px=side_px,
        seed=asked.seed,
        denoiser=access_to(pipeline, "cpu"),
    )
    if asked.levels:
        print(json.dumps(areas_by_level(subject, asked.most), indent=2))
        return
    share = len(listed) / (len(listed) + len(held_out))
    parts = (
        Membership(asked.most),
        Inpainting(),
        StrengthSweep(),
        PrivacyBound(PrivacyClaim(epsilon=asked.claim, trained_share=share), asked.most),
    )
    found = []
    for part in parts:
        if part.name in (asked.part or PARTS[:3]):
            began = time.monotonic()
            finding = part.run(subject, Budget(), lambda done, total: print(done, total, end="\r", file=sys.stderr))
            found.append(finding.model_dump(mode="json") | {"seconds": round(time.monotonic() - began)})
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
