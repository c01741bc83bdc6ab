"""What an edit is, and the few helpers that several edits share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["FULL_INTENSITY", "Edit", "Family", "as_image", "as_values", "either", "sides_px"]

FULL_INTENSITY = 100.0  # the strongest sensible edit; 0 is the picture itself

Family = Literal["photometric", "geometric", "overlay", "collage", "reencoding", "style", "thorn"]
Plain = Callable[[Image.Image, float, np.random.Generator], Image.Image]
WithOthers = Callable[[Image.Image, float, np.random.Generator, Sequence[Image.Image]], Image.Image]


@dataclass(frozen=True, slots=True)
class Edit:
    """A named picture edit: a pure function of picture, intensity and random generator.

    Attributes:
        name: as it is asked for; lower case, words joined by `_`.
        family: what kind of edit it is.
        strongest: what intensity 100 does, in a few words.
        change: the edit itself, of (picture, share 0..1, generator).
        collage: in its place, an edit that also takes other pictures to paste the work among.
        graded: whether intensities between 0 and 100 differ; an edit that is not graded is done in full above 0.
    """

    name: str
    family: Family
    strongest: str
    change: Plain | None = None
    collage: WithOthers | None = None
    graded: bool = True

    def __call__(
        self,
        picture: Image.Image,
        intensity: float,
        random: np.random.Generator,
        others: Sequence[Image.Image] = (),
    ) -> Image.Image:
        """Edit a picture.

        Args:
            picture: mode RGB, any size of at least 1 x 1; it is not written to.
            intensity: 0..100; 0 gives a copy of the picture.
            random: where directions, places and colours are drawn from; the same state gives the same pixels, and what
                is drawn does not depend on the intensity.
            others: pictures of mode RGB to paste the work among; where there are none, a painted ground is used.

        Returns:
            A new picture of mode RGB, at least 1 x 1; its size may differ.

        Raises:
            ValueError: the intensity lies outside 0..100, or the picture is of another mode.
        """
        if not 0 <= intensity <= FULL_INTENSITY:
            raise ValueError(f"found intensity {intensity!r}, expected 0..100; choose one between them")
        if picture.mode != "RGB":
            raise ValueError(f"found a picture of mode {picture.mode!r}, expected 'RGB'; convert it first")
        if intensity == 0:
            return picture.copy()
        share = intensity / FULL_INTENSITY if self.graded else 1.0
        if self.collage is not None:
            return self.collage(picture, share, random, others)
        assert self.change is not None, "an edit has a change or a collage"
        return self.change(picture, share, random)


def as_values(picture: Image.Image) -> NDArray[np.float32]:
    """A picture as float32 (H, W, 3), 0..255, a copy."""
    return np.array(picture, np.float32)


def as_image(values: NDArray[np.floating]) -> Image.Image:
    """Values (H, W, 3), clipped to 0..255 and rounded, as a picture of mode RGB."""
    return Image.fromarray(np.rint(values.clip(0, 255)).astype(np.uint8))


def either(random: np.random.Generator) -> float:
    """1 or -1, evenly drawn: which way an edit goes."""
    return 1.0 if random.random() < 0.5 else -1.0


def sides_px(picture: Image.Image, factor: float) -> tuple[int, int]:
    """Width and height times a factor, at least 1."""
    return max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
