"""Small models and pictures that the attacks of an audit are tried on."""

import numpy as np
import torch
from diffusers import DDIMPipeline

from guardrail.study import overfitted_pipeline
from guardrail.study.audit.asks import Generations, PictureSet, Subject
from guardrail.study.audit.candidates import Asked, Candidate
from guardrail.study.audit.denoisers import access_to

SIDE_PX = 16


def pictures(count: int, seed: int) -> np.ndarray:
    """Smooth random pictures, far from one another: uint8 (count, 16, 16, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3)).astype(np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


def as_set(pixels: np.ndarray, name: str) -> PictureSet:
    names = tuple(f"{name}{row}" for row in range(len(pixels)))
    return PictureSet(names, (None,) * len(pixels), lambda row, side_px: pixels[row])


def overfitted(pixels: np.ndarray) -> DDIMPipeline:
    pipeline = overfitted_pipeline(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def subject(members: np.ndarray, held_out: np.ndarray, knows: np.ndarray, seed: int = 0) -> Subject:
    """A subject whose exactly overfitted network knows some pictures, its members or others."""
    pipeline = overfitted(knows)
    none = Generations(np.zeros((0, SIDE_PX, SIDE_PX, 3), np.uint8), (), (), (), ())
    return Subject(
        pipeline=pipeline,
        name="overfitted",
        training=as_set(members, "member"),
        held_out=as_set(held_out, "other"),
        generated=none,
        side_px=SIDE_PX,
        seed=seed,
        denoiser=access_to(pipeline, "cpu"),
    )


def asked(pixels: np.ndarray) -> Asked:
    return Asked(tuple(Candidate(True, row) for row in range(len(pixels))), pixels, (None,) * len(pixels), ())


def quiet(done: int, total: int) -> None:
    """Progress that nobody watches."""
    assert 0 <= done <= total
