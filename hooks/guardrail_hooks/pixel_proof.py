"""Compares the pixels of an image and its neighbours at 32x32, blind to brightness, tint and contrast."""

import io

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from guardrail.carriers import Picture
from guardrail.errors import PictureNotKept
from guardrail.hookspecs import hookimpl
from guardrail.proof import compare_viewed
from guardrail.protocols import IndexBackend
from guardrail.records import VIEWS, Decision, Limits, Neighbour, PixelMatch, Work

_SIDE_PX = 32
_LEAST_CONTRAST = 2.0  # of 255, root mean square: a flatter picture has nothing to correlate


@hookimpl
def find_evidence(
    picture: Picture, neighbours: tuple[Neighbour, ...], index: IndexBackend, limits: Limits
) -> list[PixelMatch]:
    """Correlate the image, in its eight views, with every work that any signal brought up.

    Source: mean-removed correlation in place of the plain l2 of Carlini et al. 2023, section 4.2, because copies that a
    model gives back carry a tint, which l2 counts as a difference. What correlates is then compared tile by tile with
    the work's preview by that l2, once the tint is fitted: works of one series differ in single tiles.
    """
    assert picture.pixels is not None, "only images that could be fingerprinted come here"
    views = _views(_small(picture.pixels))
    found = []
    for row, work in {near.row: near.work for near in neighbours}.items():
        try:
            best = _best_match(views, work, index.proof_pixels(row))
        except PictureNotKept:  # from a hash list: its hash is all the evidence there is
            continue
        if limits.correlation.reached(best.similarity) is not Decision.ACCEPT:
            found.append(_with_tiles(best, picture.pixels, index.preview(row)))
    return sorted(found, key=lambda match: -match.similarity)


def _with_tiles(match: PixelMatch, pixels: torch.Tensor, preview: bytes) -> PixelMatch:
    """The match with the distance of its farthest tile."""
    with Image.open(io.BytesIO(preview)) as opened:
        work = np.asarray(opened.convert("RGB"))
    image = np.ascontiguousarray(pixels.permute(1, 2, 0).cpu().numpy())
    return match.model_copy(update={"tile_l2": compare_viewed(image, work, match.view)})


def _small(pixels: torch.Tensor) -> NDArray[np.float64]:
    """The picture at 32x32: uint8 (3, H, W) in, float64 (32, 32, 3) out, by area."""
    small = torch.nn.functional.interpolate(pixels[None].float(), size=(_SIDE_PX, _SIDE_PX), mode="area")
    return np.asarray(small[0].permute(1, 2, 0).double().cpu().numpy(), np.float64)


def _views(small: NDArray[np.float64]) -> NDArray[np.float64]:
    """The eight views in the order of `VIEWS`, each mean-removed and of unit length: float64 (8, 3072)."""
    turned = [np.rot90(small, turns) for turns in range(4)]
    flipped = [small[:, ::-1], small[::-1], small.transpose(1, 0, 2), np.rot90(small.transpose(1, 0, 2), 2)]
    return np.stack([_centred(view) for view in (*turned, *flipped)])


def _centred(small: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without its mean in each channel, and of unit length; zeros where there is no contrast."""
    values = small - small.mean(axis=(0, 1))
    contrast = float(np.sqrt(np.mean(values**2)))
    if contrast < _LEAST_CONTRAST:
        return np.zeros(values.size)
    return np.asarray(np.ravel(values / np.linalg.norm(values)), np.float64)


def _best_match(views: NDArray[np.float64], work: Work, proof: NDArray[np.uint8]) -> PixelMatch:
    similarities = views @ _centred(proof.astype(np.float64))
    best = int(np.argmax(similarities))
    return PixelMatch(work=work, similarity=float(np.clip(similarities[best], -1, 1)), view=VIEWS[best])
