"""Pipelines for `bench overhead`: the demo's small UNet, and one that makes nothing, to time the wrapper itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from guardrail.guard import Guard

__all__ = ["demo_pipeline", "wrapped_stub"]

_SIDE_PX = 64  # of the stub's picture: so small that copying its pixels takes no time


def demo_pipeline(device: str) -> Any:
    """The `DDIMPipeline` that ships with the demo, on a torch device."""
    import torch
    from diffusers import DDIMPipeline
    from diffusers.utils import logging as diffusers_logging

    from guardrail.shipped import shipped_folder

    diffusers_logging.disable_progress_bar()
    unet = shipped_folder("demo") / "memorised-unet"
    pipe = DDIMPipeline.from_pretrained(unet, dtype=torch.float32, low_cpu_mem_usage=False).to(device)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def wrapped_stub(guard: Guard) -> Callable[[], object]:
    """A guarded pipeline that makes nothing, of a guard that accepts without looking: what is left is the wrapper.

    It has the demo's network as its own, so that its weights are looked at as in any run.
    """
    import torch
    from diffusers import DDIMPipeline
    from diffusers.pipelines.pipeline_utils import ImagePipelineOutput

    from guardrail.records import Decision

    small = torch.rand(1, 3, _SIDE_PX, _SIDE_PX)
    (verdict,) = guard.check(small).verdicts
    accepted = verdict.model_copy(update={"decision": Decision.ACCEPT, "image": "images[0]"})
    instant: Any = object.__new__(type(guard))
    vars(instant).update(vars(guard), judge=lambda *_: (accepted,))

    class Stub(DDIMPipeline):  # type: ignore[misc]
        def __call__(self, prompt: str = "", generator: torch.Generator | None = None) -> object:
            return ImagePipelineOutput(images=small)

    parts = demo_pipeline("cpu")
    stub: Callable[[], object] = instant.wrap(Stub(unet=parts.unet, scheduler=parts.scheduler))
    return stub
