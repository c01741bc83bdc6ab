"""Small pipelines whose steps are watched, and what they are called with."""

from types import SimpleNamespace

import torch
from diffusers import DDIMPipeline, DDIMScheduler

from guardrail.intake.watching import Watch, watched_call
from guardrail.plugins import build_plugins
from guardrail.settings import Settings
from guardrail.study.conditional_denoiser import prompt_embedding, prompted_pipeline
from guardrail.study.optimal_denoiser import OptimalDenoiser

SIDE = 16
STEPS = 6
PROMPTS = 4


def works(count, seed=0):
    """Smooth random pictures: float (count, 3, 16, 16) in -1..1."""
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bicubic").clamp(-1, 1)


def prompted():
    """A pipeline of four prompts; the first two are memorised."""
    return prompted_pipeline([works(1, 1), works(1, 2), works(6, 3), works(6, 4)])


def unconditional():
    """A pipeline without prompts, guidance, callbacks and interruption."""
    denoiser = OptimalDenoiser(images=5, sample_size=SIDE)
    denoiser.works.data.copy_(works(5))
    pipe = DDIMPipeline(unet=denoiser, scheduler=DDIMScheduler(clip_sample=False, timestep_spacing="trailing"))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def said(prompt=0, seed=0, **more):
    """The arguments of one call of `prompted()`."""
    embeddings = {
        "prompt_embeds": prompt_embedding(prompt, PROMPTS),
        "negative_prompt_embeds": prompt_embedding(None, PROMPTS),
    }
    generator = torch.Generator().manual_seed(seed)
    size = {"height": SIDE, "width": SIDE, "num_inference_steps": STEPS}
    return {**embeddings, **size, "guidance_scale": 4.0, "generator": generator, "output_type": "np", **more}


def settings_of(tmp_path, **signs):
    """Settings with some signs, and nothing of anybody's in the folder of calibrations."""
    return Settings(home=tmp_path, signs=signs)


def watched(pipe, kwargs, settings, *plugins, **more):
    """A watched call of a pipeline."""
    return watched_call(pipe, pipe.__call__, (), kwargs, Watch(hooks=build_plugins(plugins), settings=settings, **more))


def plain_state(pipe):
    """What must be as before once a call is over."""
    modules = [one for one in pipe.components.values() if isinstance(one, torch.nn.Module)]
    hooks = sum(len(one._forward_hooks) for module in modules for one in module.modules())
    return SimpleNamespace(
        classes=[type(one) for one in pipe.components.values()],
        hooks=hooks,
        guidance=getattr(pipe, "_guidance_scale", None),
        interrupt=getattr(pipe, "_interrupt", None),
    )
