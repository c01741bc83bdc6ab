"""What an audit generates: so many pictures, each by a number that says its seed and what it is asked with."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Ask", "Plan", "ordered_captions", "ordered_labels"]

_SEED_SPAN = 2**31  # seeds stay within what every generator takes


@dataclass(frozen=True, slots=True)
class Ask:
    """One generation: its number in the plan, the seed of its generator, and what it is asked with."""

    number: int
    seed: int
    prompt: str | None = None
    label: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Which generations are made, in which order; the same plan gives the same pictures on the same machine.

    Attributes:
        count: how many, >= 1.
        seed: of the first; each further one takes the next.
        prompts: each taken for `each` generations, in turn; empty for an unconditional model.
        labels: class labels, likewise; empty for other models.
        each: generations that follow one another with one prompt or label.
        call: keyword arguments of every call, plain JSON values.
        side_px: the side of the squares in which generations are kept.
        model_sha256: digest of the model's weights, so that a work folder is never continued with another model.
        training_sha256: digest of names, captions and kept pixels of the training pictures.
    """

    count: int
    seed: int = 0
    prompts: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()
    each: int = 1
    call: dict[str, Any] = field(default_factory=dict)
    side_px: int = 64
    model_sha256: str = ""
    training_sha256: str = ""

    def ask(self, number: int) -> Ask:
        """The generation of a number, 0..count-1."""
        turn = number // self.each
        prompt = self.prompts[turn % len(self.prompts)] if self.prompts else None
        label = self.labels[turn % len(self.labels)] if self.labels else None
        return Ask(number, (self.seed + number) % _SEED_SPAN, prompt, label)

    def asks(self) -> tuple[Ask, ...]:
        """All generations, in order."""
        return tuple(self.ask(number) for number in range(self.count))

    @property
    def sha256(self) -> str:
        """Digest of all that decides what each number gives: not of `count`, so that a plan can be made longer."""
        said = {name: getattr(self, name) for name in self.__slots__ if name != "count"}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def ordered_captions(captions: Sequence[str | None], seed: int) -> tuple[str, ...]:
    """Each caption once, those of most training pictures first; empty ones ask for nothing and are left out.

    Args:
        captions: of the training pictures; what was shown often is what is memorised first.
        seed: of the order among captions that are equally frequent.

    Source: Carlini et al. 2023, section 4.2, who generate 500 pictures for each of the 350,000 most duplicated
    captions; we differ in counting captions, where they counted near-duplicates by CLIP.
    """
    counts = Counter(caption for caption in captions if caption and caption.strip())
    names = sorted(counts)
    random.Random(seed).shuffle(names)  # noqa: S311 - an order, no secret
    return tuple(sorted(names, key=lambda name: -counts[name]))


def ordered_labels(labels: Sequence[int | None]) -> tuple[int, ...]:
    """Each class label once, those of most training pictures first, equally frequent ones by number."""
    counts = Counter(label for label in labels if label is not None)
    return tuple(sorted(counts, key=lambda label: (-counts[label], label)))
