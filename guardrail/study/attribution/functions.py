"""A denoiser and an image in, the number whose gradient stands for the image out; epsilon, v and flow prediction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch

from guardrail.attribution_errors import AttributionImpossible
from guardrail.study.attribution.draws import Draws

__all__ = ["Function", "Noising", "Predictor", "function_of", "noising_of"]

Function = Literal["noise_norm", "loss"]
Predictor = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
_FLOW_STEPS = 1000  # timesteps of flow models run from 0 to 1000
_IMAGE_DIMS = 3  # (C, H, W)


class Noising(NamedTuple):
    """How a model was trained to see noise.

    Attributes:
        kept: float64 (T,), the share of the image's variance that is left at each timestep; None for flow models.
        predicts: what the network predicts.
    """

    kept: torch.Tensor | None
    predicts: Literal["epsilon", "v_prediction", "sample", "flow"]

    def at(self, times: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Timesteps, and how much of image and noise is in what the network sees there.

        Args:
            times: float64 (K,), 0..1.

        Returns:
            Timesteps for the network (K,), and two float32 (K,) factors: of the image, and of the noise.
        """
        if self.kept is None:
            return (times * _FLOW_STEPS).float(), (1 - times).float(), times.float()
        steps = (times * len(self.kept)).long().clamp(max=len(self.kept) - 1)
        kept = self.kept[steps]
        return steps, kept.sqrt().float(), (1 - kept).sqrt().float()

    def target(
        self, clean: torch.Tensor, noise: torch.Tensor, image: torch.Tensor, added: torch.Tensor
    ) -> torch.Tensor:
        """What the network was trained to predict, (K, *shape)."""
        if self.predicts == "flow":
            return noise - clean
        if self.predicts == "v_prediction":
            return image * noise - added * clean
        return noise if self.predicts == "epsilon" else clean.expand_as(noise)

    def noise_in(
        self, predicted: torch.Tensor, noisy: torch.Tensor, image: torch.Tensor, added: torch.Tensor
    ) -> torch.Tensor:
        """The noise that a prediction says is in what the network saw, (K, *shape)."""
        if self.predicts == "flow":
            return noisy + image * predicted
        if self.predicts == "v_prediction":
            return image * predicted + added * noisy
        return predicted if self.predicts == "epsilon" else (noisy - image * predicted) / added


def noising_of(scheduler: Any) -> Noising:
    """How the model of a diffusers scheduler sees noise.

    Raises:
        AttributionImpossible: it is of a kind that is not understood.
    """
    kept = getattr(scheduler, "alphas_cumprod", None)
    if isinstance(kept, torch.Tensor):
        predicts = str(scheduler.config.get("prediction_type", "epsilon"))
        if predicts not in ("epsilon", "v_prediction", "sample"):
            raise AttributionImpossible(
                type(scheduler).__name__,
                f"prediction_type {predicts!r}",
                "epsilon, v_prediction or sample",
                "set the one that the model was trained with",
            )
        return Noising(kept.detach().to("cpu", torch.float64), predicts)  # type: ignore[arg-type]
    if type(scheduler).__name__.startswith("FlowMatch") and not scheduler.config.get("invert_sigmas"):
        return Noising(None, "flow")
    raise AttributionImpossible(
        type(scheduler).__name__,
        "a scheduler without alphas_cumprod that is no flow",
        "one of the kind that the model was trained with",
        "give the pipeline its DDPMScheduler or FlowMatchEulerDiscreteScheduler",
    )


def function_of(
    predict: Predictor, noising: Noising, clean: torch.Tensor, draws: Draws, function: Function
) -> torch.Tensor:
    """The mean over the draws of the squared norm of the predicted noise, or of the training loss.

    Args:
        predict: the network: (K, *shape) and timesteps (K,) in, its prediction (K, *shape) out; further channels, with
            which some predict the variance, are left out.
        noising: how it sees noise.
        clean: float `shape`, the image as the network is given it: (C, H, W), or tokens (L, C).
        draws: where it is asked.
        function: `noise_norm` (D-TRAK) or `loss` (TRAK); both are sums over the values of an image.

    Returns:
        A scalar that can be differentiated.

    Source: Zheng et al. 2024 (D-TRAK), section 3; Park et al. 2023 (TRAK). We differ in that models which predict no
    noise are asked for the noise that their prediction says, because the norm is then the same function of all.
    """
    steps, image, added = noising.at(draws.times)
    each = (-1, *(1,) * clean.ndim)
    image, added = (one.to(clean).view(each) for one in (image, added))
    noise = draws.noise.to(clean)
    noisy = image * clean + added * noise
    predicted = predict(noisy, steps.to(clean.device))
    predicted = (predicted[:, : clean.shape[0]] if clean.ndim == _IMAGE_DIMS else predicted).to(clean)
    if function == "loss":
        off = predicted - noising.target(clean, noise, image, added)
    else:
        off = noising.noise_in(predicted, noisy, image, added)
    return off.square().flatten(1).sum(dim=1).mean()
