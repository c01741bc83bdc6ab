"""What the parts of an audit are asked, and what they may use: the subject, a budget, the figures they hand back."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from guardrail.records import AuditFinding

__all__ = ["AuditPart", "Budget", "Cost", "DenoiserAccess", "Generations", "PictureSet", "Subject"]


class Cost(NamedTuple):
    """What a part is expected to need, beside the generations that all parts share."""

    generations: int = 0
    evaluations: int = 0


@dataclass(frozen=True, slots=True)
class Budget:
    """What a part may spend; a part that runs out says that it could not tell, or what it can say of what it has.

    Attributes:
        generations: pictures it may generate itself, at most.
        evaluations: calls of the denoiser it may make, one a picture and timestep, at most.
        ends_at: `time.monotonic()` seconds after which it stops; None: no such moment.
    """

    generations: int = 256
    evaluations: int = 100_000
    ends_at: float | None = None

    def is_over(self) -> bool:
        """Whether time is up."""
        return self.ends_at is not None and time.monotonic() >= self.ends_at


@dataclass(frozen=True, slots=True)
class PictureSet:
    """N pictures by name, read when they are asked for.

    Attributes:
        names: what each is called; no two are the same.
        captions: what the model was trained to draw it from; None where there is no caption.
        read: gives picture number `row` at `side_px`: uint8 (side_px, side_px, 3), RGB, squeezed to a square.
        labels: class labels of a class-conditional model; None where there is none.
    """

    names: tuple[str, ...]
    captions: tuple[str | None, ...]
    read: Callable[[int, int], NDArray[np.uint8]] = field(repr=False)
    labels: tuple[int | None, ...] = ()

    def __post_init__(self) -> None:
        assert len(self.captions) == len(self.names), "every picture has a caption or None"
        assert not self.labels or len(self.labels) == len(self.names), "every picture has a label or None"

    def __len__(self) -> int:
        return len(self.names)

    def pixels(self, side_px: int, rows: Sequence[int] | None = None) -> NDArray[np.uint8]:
        """Several pictures: uint8 (M, side_px, side_px, 3), RGB; all N where `rows` is None."""
        import numpy

        wanted = range(len(self)) if rows is None else rows
        read = [self.read(row, side_px) for row in wanted]
        return numpy.stack(read) if read else numpy.zeros((0, side_px, side_px, 3), numpy.uint8)


@dataclass(frozen=True, slots=True)
class Generations:
    """N pictures that the model made, with what makes each of them again.

    Attributes:
        pixels: uint8 (N, S, S, 3), RGB, as they were kept.
        numbers: of each, its number in the plan.
        seeds: of each, the seed of a `torch.Generator` on the CPU.
        prompts: of each, what it was made from; None for an unconditional model.
        labels: of each, its class label; None where there is none.
    """

    pixels: NDArray[np.uint8]
    numbers: tuple[int, ...]
    seeds: tuple[int, ...]
    prompts: tuple[str | None, ...]
    labels: tuple[int | None, ...]

    def __len__(self) -> int:
        return len(self.numbers)


@runtime_checkable
class DenoiserAccess(Protocol):
    """The network inside a pipeline, asked directly: what membership and masking attacks look at."""

    @property
    def alphas(self) -> NDArray[np.float64]:
        """Share of the signal's variance kept at each training timestep (the cumulative product): float64 (T,)."""

    def encode(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        """Pictures as the network sees them: uint8 (B, S, S, 3) in; float32 (B, C, H, W) out, latents for a VAE.

        The same picture gives the same tensor (the mean of a VAE's latents, not a draw). On the subject's device.
        """

    def decode(self, clean: torch.Tensor) -> NDArray[np.uint8]:
        """The way back: float32 (B, C, H, W) in; uint8 (B, S, S, 3) out."""

    def predict_noise(
        self,
        noisy: torch.Tensor,
        timestep: int,
        captions: Sequence[str | None],
        labels: Sequence[int | None] = (),
    ) -> torch.Tensor:
        """The noise that the network sees in noisy pictures, whatever it was trained to predict.

        Args:
            noisy: float32 (B, C, H, W): sqrt(alpha) clean + sqrt(1 - alpha) noise.
            timestep: 0..T-1.
            captions: B captions; None: the empty one, or an unconditional model.
            labels: B class labels of a class-conditional model; empty for others.

        Returns:
            float32 (B, C, H, W), without guidance.
        """


@dataclass(frozen=True, slots=True)
class Subject:
    """A model under audit, with all that its parts may look at.

    Attributes:
        pipeline: the loaded diffusers pipeline, its progress bar off.
        name: what it is called in the report.
        training: the pictures that it was trained on, or the works that it must not give back.
        held_out: pictures of the same kind that it was not trained on; empty where none were given.
        generated: what it made by plan, and all parts share; empty until that was done.
        side_px: the side of the square pictures it makes.
        seed: of everything that chance decides.
        device: where it runs, `cpu` or a torch device.
        denoiser: the network inside; None where this kind of pipeline has none that can be asked.
        call: keyword arguments that go to every call of the pipeline, such as `num_inference_steps`.
    """

    pipeline: Any
    name: str
    training: PictureSet
    held_out: PictureSet
    generated: Generations
    side_px: int
    seed: int = 0
    device: str = "cpu"
    denoiser: DenoiserAccess | None = None
    call: dict[str, Any] = field(default_factory=dict)


@runtime_checkable
class AuditPart(Protocol):
    """One question that an audit asks of a model."""

    @property
    def name(self) -> str:
        """One word for the command line and the report, such as `extraction`."""

    def cost(self, subject: Subject) -> Cost:
        """What it is expected to need, so that people can be told before it starts. Reads no picture."""

    def run(self, subject: Subject, budget: Budget, progress: Callable[[int, int], None]) -> AuditFinding:
        """Ask, and say what was found.

        Args:
            subject: the model; the part leaves it as it was.
            budget: what may be spent.
            progress: called with (done, total).

        Returns:
            A finding whose `part` is `name`. Clean only where there was enough to tell; what failed or did not apply is
            `could_not_tell`, with the reason. Deterministic for `subject.seed`.
        """
