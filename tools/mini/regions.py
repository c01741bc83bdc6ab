"""Make many real vectors of `mini` cheaply: regions of pictures, cut out of the network's last feature map.

`mini` takes the maximum of each of its 1,280 channels over a map of 7 x 7 places. The maximum over a part of that map
is what the network saw in a part of the picture, with some of its surroundings, since places see beyond their own
square. One run of the network so gives up to 225 vectors (windows of 3 to 7 places a side) in place of one. Vectors of
one picture are alike, as those of a picture with many near-duplicates are.

Usage: python tools/mini/regions.py VECTORS.npy COUNT FOLDER...
"""

import sys
from itertools import product
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from guardrail.fingerprint.embedders import _MINI_MEAN, _MINI_SIDE_PX, _MINI_STD, MINI_WEIGHTS, _image_tower, squashed
from guardrail.intake import find_images, read_picture

LARGEST_PX = 64_000_000
SMALLEST_WINDOW = 3  # places of 7 a side


def windows(side: int) -> list[tuple[slice, slice]]:
    """Every window of a map, the whole first."""
    spans = [slice(at, at + long) for long in range(side, SMALLEST_WINDOW - 1, -1) for at in range(side - long + 1)]
    return list(product(spans, spans))


def regions(network: torch.nn.Module, path: Path, wanted: int, chance: np.random.Generator) -> NDArray[np.float16]:
    """Vectors of a picture, float16 (n, 1280), the whole first; none where it cannot be read."""
    picture = read_picture(path, LARGEST_PX)
    if picture.pixels is None:
        return np.zeros((0, 1280), np.float16)
    inputs = squashed([picture.pixels], (_MINI_SIDE_PX, _MINI_SIDE_PX), torch.device("cpu"))
    with torch.inference_mode():
        found = network.forward_features(inputs.sub_(_MINI_MEAN).div_(_MINI_STD))[0]
    places = windows(found.shape[1])
    chosen = [0, *(1 + chance.permutation(len(places) - 1)[: wanted - 1])]
    rows = torch.stack([found[:, places[at][0], places[at][1]].amax((1, 2)) for at in chosen])
    return torch.nn.functional.normalize(rows, dim=1).numpy().astype(np.float16)


def main() -> None:
    """See the module."""
    target, count, folders = Path(sys.argv[1]), int(sys.argv[2]), [Path(folder) for folder in sys.argv[3:]]
    paths = [folder / name for folder in folders for name in find_images(folder)[0]]
    network, chance = _image_tower(MINI_WEIGHTS), np.random.default_rng(0)
    whole = np.lib.format.open_memmap(target, "w+", np.float16, (count, 1280))
    done = 0
    for number, path in enumerate(paths):
        left = len(paths) - number
        rows = regions(network, path, min(225, -(-(count - done) // left)), chance)[: count - done]
        whole[done : done + len(rows)] = rows
        done += len(rows)
        if number % 500 == 0:
            print(f"{number} of {len(paths)} pictures, {done} vectors", file=sys.stderr, flush=True)  # noqa: T201
    if done < count:
        sys.exit(f"{len(paths)} pictures give {done} vectors, expected {count}; name more folders")


if __name__ == "__main__":
    main()
