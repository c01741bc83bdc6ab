"""What signing costs at 512x512: run `python tests/act/measure_signing.py`."""

import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from act_samples import accepted, noise
from PIL import Image

from guardrail.act import encode_png, load_signing, make_development_keys, sdk, sign

RUNS = 25


def photo_like() -> np.ndarray:
    """A smooth picture with a little noise: uint8 (512, 512, 3)."""
    smooth = np.asarray(Image.fromarray(noise(64, 64)).resize((512, 512), Image.Resampling.BICUBIC)).astype(float)
    return np.clip(smooth + np.random.default_rng(1).normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)


def measured(call):
    """Median wall and CPU time of a call, in milliseconds."""
    times = []
    for _ in range(RUNS):
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    return tuple(round(median(column) * 1000, 1) for column in zip(*times, strict=True))


def main():
    with tempfile.TemporaryDirectory() as folder:
        make_development_keys(Path(folder) / "keys")
        signing = load_signing(Path(folder) / "keys")
        pixels, verdict = photo_like(), accepted()
        png = encode_png(pixels)
        signed = sign(png, verdict, {}, signing)
        print("wall ms, CPU ms")
        print("encode", measured(lambda: encode_png(pixels)))
        print("sign, read back and compare pixels", measured(lambda: sign(png, verdict, {}, signing)))
        print("of that, read back", measured(lambda: sdk.read(signed.content, "image/png", signing.anchors)))
        print("bytes", len(png), "added", len(signed.content) - len(png))


if __name__ == "__main__":
    main()
