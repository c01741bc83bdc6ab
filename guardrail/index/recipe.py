"""The recipe of an index: what it is made with, and how."""

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from guardrail.errors import SettingsInvalid
from guardrail.records import Disposition, Limits, Sampling

__all__ = ["Recipe"]


class Recipe(BaseModel, frozen=True, extra="forbid"):
    """How an index is made. Written as TOML; every field may be left out.

    Paths are taken from the recipe's folder. `tiles`, `query_tiles` and `query_views` are those of `Sampling`. With a
    `background`, a folder of pictures that are no works, each similarity is lessened by the mean similarity of the
    image to the `background_nearest` nearest of them. `limits` take the place of the shipped ones: those that
    a calibration of the same recipe fitted, named by its id in `limits.calibration`.
    """

    embedder: str = "mini"
    clip: str = ""
    works: str = ""
    bank: str = "default"
    disposition: Disposition = Disposition.PROTECT
    unlisted: Literal["index", "skip"] = "index"
    tiles: Literal[1, 5, 10, 14] = 1
    query_tiles: Literal[1, 5, 10, 14] = 1
    query_views: Literal[1, 4, 8] = 1
    background: str = ""
    background_nearest: int = Field(default=3, ge=1, le=1000)
    limits: Limits | None = None

    @property
    def sampling(self) -> Sampling:
        """Where the copy descriptor looks."""
        return Sampling(tiles=self.tiles, query_tiles=self.query_tiles, query_views=self.query_views)

    @classmethod
    def from_file(cls, path: Path) -> "Recipe":
        """Read a recipe.

        Raises:
            SettingsInvalid: it cannot be read, is not TOML, or says something unknown.
        """
        try:
            recipe = cls.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
            raise SettingsInvalid(str(path), str(error)) from error
        if not recipe.background:
            return recipe
        return recipe.model_copy(update={"background": str(path.parent / recipe.background)})
