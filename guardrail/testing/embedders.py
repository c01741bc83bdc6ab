"""What every embedder must do."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from guardrail.protocols import Embedder

__all__ = ["EmbedderContract"]


class EmbedderContract:
    """What every embedder must do. Subclass it and implement `embedder`."""

    @abstractmethod
    def embedder(self) -> Embedder:
        """The embedder to test."""

    def _pictures(self) -> list[torch.Tensor]:
        chance = torch.Generator().manual_seed(0)
        sizes = ((64, 64), (37, 211), (1, 1), (300, 20))
        return [torch.randint(0, 256, (3, *size), generator=chance, dtype=torch.uint8) for size in sizes]

    def test_rows_are_unit_vectors_of_the_stated_dimensions(self) -> None:
        """float32, finite, length 1 to 1e-5, for odd sizes and one pixel too."""
        embedder = self.embedder()
        rows = embedder.embed(self._pictures())
        assert rows.shape == (4, embedder.spec.dimensions)
        assert rows.dtype == np.float32
        assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)

    def test_rows_do_not_depend_on_their_batch(self) -> None:
        """Alone or with others: the same row to 1e-5."""
        embedder, pictures = self.embedder(), self._pictures()
        alone = np.concatenate([embedder.embed([picture]) for picture in pictures])
        assert np.allclose(embedder.embed(pictures), alone, atol=1e-5)

    def test_pictures_are_not_written_to(self) -> None:
        """The caller's tensors stay as they were."""
        pictures = self._pictures()
        before = [picture.clone() for picture in pictures]
        self.embedder().embed(pictures)
        assert all(torch.equal(one, other) for one, other in zip(pictures, before, strict=True))

    def test_name_holds_no_path(self) -> None:
        """The name is written into every index and verdict: no folder of this machine may be in it."""
        rest = self.embedder().spec.name.partition(":")[2]
        assert not rest.startswith("/")
        assert "//" not in rest
        assert "\\" not in rest

    def test_shipped_limits_are_in_order(self) -> None:
        """What blocks, flags too."""
        embedder = self.embedder()
        for limit in (embedder.shipped_limit, embedder.shipped_tile_limit):
            if limit.block_above is not None:
                assert limit.flag_above is not None
                assert limit.flag_above <= limit.block_above

    def test_no_pictures_no_rows(self) -> None:
        """A batch of none gives an array (0, D)."""
        embedder = self.embedder()
        assert embedder.embed([]).shape == (0, embedder.spec.dimensions)
