"""Real pictures at odd sizes, and the devices to check them on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

WORKS = Path(__file__).parents[2] / "indexes/demo/works"


def _at_hand(path: Path, side: tuple[int, int] | None, grey: bool) -> NDArray[np.uint8]:
    picture = Image.open(path).convert("L" if grey else "RGB").convert("RGB")
    return np.array(picture.resize(side) if side else picture)


@pytest.fixture(scope="session")
def originals() -> list[NDArray[np.uint8]]:
    """Sixteen works, uint8 (256, 256, 3)."""
    return [_at_hand(path, None, grey=False) for path in sorted(WORKS.iterdir())[:16]]


@pytest.fixture(scope="session")
def pictures(originals: list[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Works at their own size and at odd ones (both lying and standing), grey, and with transparency put on white."""
    sides = (None, (211, 37), (37, 211), (64, 64), (32, 32), (333, 500), (97, 101), (5, 7))
    odd = [_at_hand(path, side, grey=False) for side in sides for path in sorted(WORKS.iterdir())[16:20]]
    grey = [_at_hand(path, (200, 120), grey=True) for path in sorted(WORKS.iterdir())[20:22]]
    clear = Image.fromarray(originals[0]).convert("RGBA")
    clear.putalpha(Image.linear_gradient("L"))
    white = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    return [*originals, *odd, *grey, np.array(white)]


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """Every device that the room's promises are checked on."""
    name: str = request.param
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    return name
