"""A fake embedder, the plugin that offers it, and a fake pipeline."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from PIL import Image

from guardrail.hookspecs import hookimpl
from guardrail.records import EmbedderSpec, SimilarityLimit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from guardrail.protocols import Embedder

__all__ = ["FakeEmbedder", "FakePipeline", "FakePlugin"]

_COARSE_SIDE_PX = 8


class FakeEmbedder:
    """An embedder without weights: the picture at 8x8, mean-removed, as a unit vector of 192 dimensions."""

    def __init__(self, weights: str = "none", flag_above: float = 0.95, block_above: float = 0.99) -> None:
        self.spec = EmbedderSpec(
            name="fake",
            weights_sha256=hashlib.sha256(weights.encode()).hexdigest(),
            preprocessing="area-8",
            dimensions=3 * _COARSE_SIDE_PX**2,
        )
        self.shipped_limit = self.shipped_tile_limit = SimilarityLimit(flag_above=flag_above, block_above=block_above)

    def embed(self, pictures: Sequence[torch.Tensor]) -> NDArray[np.float32]:
        """See `Embedder.embed`."""
        rows = [self._row(picture) for picture in pictures]
        return np.stack(rows) if rows else np.zeros((0, self.spec.dimensions), np.float32)

    def _row(self, picture: torch.Tensor) -> NDArray[np.float32]:
        coarse = torch.nn.functional.interpolate(
            picture[None].float(), size=(_COARSE_SIDE_PX, _COARSE_SIDE_PX), mode="area"
        )
        values = (coarse - coarse.mean()).flatten().cpu().numpy()
        values[0] += 1e-3  # a flat picture has a direction too
        return np.asarray(values / np.linalg.norm(values), np.float32)


class FakePlugin:
    """A plugin that offers the fake embedder as `fake`."""

    def __init__(self, embedder: FakeEmbedder | None = None) -> None:
        self.embedder = embedder or FakeEmbedder()

    @hookimpl
    def register_embedders(self) -> Mapping[str, Callable[[str, str], Embedder]]:
        """Offer it."""
        return {"fake": lambda rest, device: self.embedder}


class FakePipeline(DiffusionPipeline):  # type: ignore[misc]
    """A diffusers pipeline without a model: every call returns the next of the outputs it was given.

    Args:
        batches: what each call makes: lists of Pillow images; the last one repeats.
    """

    def __init__(self, batches: Sequence[Sequence[Image.Image]] = ()) -> None:
        super().__init__()
        self.register_modules()
        self.register_to_config(batches=None)
        self.batches = [list(batch) for batch in batches]
        self.calls: list[dict[str, Any]] = []

    def __call__(
        self,
        prompt: str | None = None,
        num_inference_steps: int = 1,
        generator: torch.Generator | None = None,
        latents: torch.Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> Any:
        """Return the next batch as `output_type`: pil, np, pt, or anything else for lists nested once."""
        self.calls.append({"prompt": prompt, "generator": generator})
        images: Any = self.batches[min(len(self.calls), len(self.batches)) - 1]
        if output_type in ("np", "pt"):
            images = np.stack([np.asarray(image.convert("RGB")) for image in images]).astype(np.float32) / 255
        if output_type == "pt":
            images = torch.from_numpy(images).permute(0, 3, 1, 2)
        if output_type == "nested":
            images = [images]
        return ImagePipelineOutput(images=images) if return_dict else (images,)
