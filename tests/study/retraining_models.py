"""A denoiser so small that a test can train it: two layers that see the whole picture, and the time."""

import torch
from diffusers import DDPMScheduler

from guardrail.study.attribution.functions import noising_of
from guardrail.study.attribution.retraining import Lessons, Recipe, retrained
from guardrail.study.audit.shapes import random_shapes

SIDE = 6
WIDE = 96


class Layers(torch.nn.Module):
    """Predicts the clean picture in noisy ones (B, 3, SIDE, SIDE)."""

    def __init__(self):
        super().__init__()
        values = 3 * SIDE * SIDE
        self.first, self.second = torch.nn.Linear(values + 2, WIDE), torch.nn.Linear(WIDE, values)
        self.labels = torch.nn.Embedding(4, WIDE)

    def forward(self, noisy, steps, label=None, return_dict=True):
        at = steps.float()[:, None] / 1000
        hidden = self.first(torch.cat([noisy.flatten(1), at, 1 - at], dim=1))
        if label is not None:
            hidden = hidden + self.labels(label)
        return (self.second(torch.nn.functional.silu(hidden)).view_as(noisy),)


class Tiny:
    """`retraining.Asked` of such a denoiser."""

    def __init__(self, seed=0):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.network = self.asked = Layers()
        self.noising = noising_of(DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="sample"))

    @property
    def parameters(self):
        return dict(self.network.named_parameters())

    @torch.no_grad()
    def make(self, seed, steps=20):
        """A picture by DDIM, float (3, SIDE, SIDE)."""
        kept = self.noising.kept.float()
        now = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
        times = torch.linspace(980, 0, steps).long()
        for at, after in zip(times, [*times[1:], None], strict=True):
            clean = self.network(now, at[None])[0]
            noise = (now - kept[at].sqrt() * clean) / (1 - kept[at]).sqrt()
            now = clean if after is None else kept[after].sqrt() * clean + (1 - kept[after]).sqrt() * noise
        return now[0]


def pictures(count, copies=1, seed=3):
    """`count` different pictures, float (N, 3, SIDE, SIDE), the first of them `copies` times."""
    pixels = torch.from_numpy(random_shapes(count, seed).pixels(SIDE)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return torch.cat([pixels[:1].expand(copies, -1, -1, -1), pixels[1:]])


def lessons(clean):
    """Without captions."""
    alone = {}
    return Lessons(clean, (alone,) * len(clean))


def trained(clean, steps=1500, seed=0):
    """A denoiser that knows these pictures."""
    import numpy as np

    tiny = Tiny(seed)
    with retrained(tiny, tiny.parameters, lessons(clean), Recipe(steps, 32, 3e-3, seed), np.zeros(len(clean), bool)):
        learnt = {name: one.detach().clone() for name, one in tiny.parameters.items()}
    tiny.network.load_state_dict(learnt)
    return tiny
