"""Make `tests/fingerprint/golden_pdq.json`: what `pdqhash` says of some pictures, for machines that cannot build it.

    python tools/make_golden_pdq.py

Each entry names a work, the size it was cut to, its pixel digest, its quality, and PDQ's hex text for the picture in
each of the eight views of Pillow's `Image.Transpose`. Pieces of nearly one colour are left out: there the bits
are the noise of float32 sums, in any program.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from guardrail.fingerprint import pixels_digest
from guardrail.records import VIEWS

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "tests/fingerprint/golden_pdq.json"
WORKS = 8
NEARLY_FLAT = 8  # levels of 256
SIZES = ((256, 256), (211, 37), (37, 211), (64, 64), (5, 9), (4, 200), (512, 768))  # height, width


def cut(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """A piece of the picture around its middle, of pixels repeated three times where the picture is too small."""
    if height > picture.shape[0] or width > picture.shape[1]:
        picture = picture.repeat(3, 0).repeat(3, 1)
    top, left = ((have - want) // 2 for have, want in zip(picture.shape[:2], (height, width), strict=True))
    return picture[top : top + height, left : left + width]


def hashed(picture: NDArray[np.uint8]) -> tuple[list[str], int]:
    """Hex text of the eight views, and the quality of the picture as it is."""
    import pdqhash  # tests import this module on machines that cannot build it

    image = Image.fromarray(picture)
    views = [image] + [image.transpose(Image.Transpose[view.upper()]) for view in VIEWS[1:]]
    found = [pdqhash.compute(np.asarray(view)) for view in views]
    return [np.packbits(bits.astype(np.uint8)).tobytes().hex() for bits, _ in found], int(found[0][1])


def main() -> None:
    """Write the file."""
    entries = []
    for path in sorted((ROOT / "indexes/demo/works").iterdir())[:WORKS]:
        whole = np.asarray(Image.open(path).convert("RGB"))
        for height, width in SIZES:
            picture = np.ascontiguousarray(cut(whole, height, width))
            if np.ptp(picture, (0, 1)).max() < NEARLY_FLAT:
                continue
            views, quality = hashed(picture)
            digest = pixels_digest(torch.from_numpy(picture.copy()).permute(2, 0, 1))
            entry = {"work": path.name, "height": height, "width": width, "pixels_sha256": digest}
            entries.append(entry | {"quality": quality, "views": views})
    TARGET.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{len(entries)} entries in {TARGET}\n")


if __name__ == "__main__":
    main()
