"""What every family of the zoo says of a pipeline, and the few small things that calls are made of."""

import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

__all__ = ["Specimen", "generator", "picture", "quiet"]

_SEED = 0
_NOISE: tuple[tuple[type[Warning], str], ...] = (
    (FutureWarning, r"(?s).*deprecat.*"),  # diffusers' and transformers' own, in their own code
    (UserWarning, r"In CPU autocast, but the target dtype is not supported.*"),  # diffusers' depth2img on a CPU
    (UserWarning, r"torch\.meshgrid: in an upcoming release.*"),  # diffusers' attention maps
    (UserWarning, r"Default grid_sample and affine_grid behavior has changed.*"),  # diffusers' text-to-video zero
    (DeprecationWarning, r"__array_wrap__ must accept context.*"),  # diffusers' Helios scheduler
    (DeprecationWarning, r"__array__ implementation doesn't accept a copy keyword.*"),  # torch tensors to NumPy
    (DeprecationWarning, r"'mode' parameter is deprecated.*"),  # diffusers' depth maps under Pillow
)


@dataclass(frozen=True)
class Specimen:
    """A tiny pipeline of one diffusers class, with random weights.

    Attributes:
        name: the name of the class in `diffusers`.
        build: makes it on the CPU in float32; the random generator is seeded around it.
        call: fresh arguments of the smallest call that returns pictures.
        returns: whether it makes single images or the frames of a film.
        several: whether one call can make two images or films.
        note: what is not as in the real pipeline, if anything.
    """

    name: str
    build: Callable[[], Any]
    call: Callable[[], dict[str, Any]]
    returns: Literal["images", "frames"] = "images"
    several: bool = True
    note: str = ""

    def made(self) -> Any:
        """The pipeline, the same every time, without its progress bar."""
        with quiet():
            torch.manual_seed(_SEED)
            pipe = self.build()
            if hasattr(pipe, "set_progress_bar_config"):
                pipe.set_progress_bar_config(disable=True)
        return pipe


@contextmanager
def quiet() -> Any:
    """Without what diffusers and transformers say of their own deprecated ways."""
    with warnings.catch_warnings():
        for category, message in _NOISE:
            warnings.filterwarnings("ignore", message, category)
        yield


def generator(seed: int = _SEED) -> torch.Generator:
    """A seeded generator on the CPU."""
    return torch.Generator("cpu").manual_seed(seed)


def picture(side_px: int = 32, seed: int = 3) -> Image.Image:
    """A smooth random picture, RGB, square; the same for the same seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return Image.fromarray(coarse).resize((side_px, side_px), Image.Resampling.BICUBIC)
