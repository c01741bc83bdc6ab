"""What signing costs at 512x512, for each type of file, and what assertions weigh.

Run `python tests/act/measure_signing.py`.
"""

import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from act_samples import accepted, noise, output_of, why
from PIL import Image

from guardrail.act import (
    ATTRIBUTION_LABEL,
    DISCLOSURE_LABEL,
    GENERATION_LABEL,
    MINING_LABEL,
    SOFT_BINDING_LABEL,
    VERDICT_LABEL,
    attribution_assertion,
    decode_image,
    disclosure_assertion,
    encode_image,
    generation_assertion,
    iscc_assertion,
    load_signing,
    make_development_keys,
    mining_assertion,
    sdk,
    sign,
    verdict_assertion,
)
from guardrail.carriers import ParentFile
from guardrail.records import Adapter, GenerationContext, Limits, Watermark
from guardrail.release_settings import ProvenanceSettings
from guardrail.settings import Settings

RUNS = 40


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


def weigh(pixels, verdict, signing, folder):
    """Print the bytes that a manifest adds to a PNG, with more and more in it."""
    mark = Watermark(algorithm="com.adobe.trustmark.P", payload="5a" * 8, bits=64, bits_found=64, registered=True)
    limits = Limits.model_validate({"pdq": {"flag_within_bits": 40}, "copy": {"flag_above": 0.7, "block_above": 0.9}})
    five = verdict.model_copy(update={"nearest": (verdict.nearest * 3)[:5]})
    settings = ProvenanceSettings(training_mining="not_allowed", human_oversight="prompt_guided")
    run = GenerationContext(
        pipeline="StableDiffusionPipeline",
        weights_sha256="a" * 64,
        adapters=(Adapter(name="foxes", weight=0.8, sha256="b" * 64),),
        prompts={"prompt": "a red fox", "negative_prompt": "blur"},
        scheduler="DDIMScheduler",
        steps=50,
        guidance_scale=7.5,
    )
    told = generation_assertion(verdict, run, Settings(index="i", home=folder, provenance=settings))
    said, output = {}, output_of(pixels)
    steps = {
        "nothing but the action": {},
        "the verdict, summary": {VERDICT_LABEL: verdict_assertion(verdict, "summary")},
        "the verdict, full, 5 nearest with limits": {VERDICT_LABEL: verdict_assertion(five, "full", limits)},
        "one credit": {ATTRIBUTION_LABEL: attribution_assertion(verdict)},
        "the model": {DISCLOSURE_LABEL: disclosure_assertion(run, settings)},
        "the run, with one adapter and two prompts": {GENERATION_LABEL: told},
        "mining": {MINING_LABEL: mining_assertion(settings)},
        "an ISCC": {SOFT_BINDING_LABEL: iscc_assertion(pixels)},
    }
    for name, step in steps.items():
        said |= step
        print(len(sign(output, verdict, said, signing).content) - len(output.content), "bytes with", name)
    marked = output_of(pixels, watermark=mark)
    print(len(sign(marked, verdict, said, signing).content) - len(output.content), "bytes with a listed mark")
    parent = ParentFile(sign(output, verdict, said, signing).content, "image/png", 0.5)
    edited = output_of(pixels, watermark=mark, parent=parent)
    print(len(sign(edited, verdict, said, signing).content) - len(output.content), "bytes with such a file as parent")


def main():
    with tempfile.TemporaryDirectory() as folder:
        make_development_keys(Path(folder) / "keys")
        signing = load_signing(Path(folder) / "keys")
        pixels, verdict = photo_like(), accepted()
        said = why(verdict) | {ATTRIBUTION_LABEL: attribution_assertion(verdict)}
        print("median of", RUNS, "runs: wall ms, CPU ms")
        for mime in ("image/png", "image/jpeg", "image/webp"):
            output = output_of(pixels, mime)
            signed = sign(output, verdict, said, signing)
            print(mime, len(output.content), "bytes, the manifest adds", len(signed.content) - len(output.content))
            print("  encode", measured(lambda mime=mime: encode_image(pixels, mime)))
            print("  decode", measured(lambda output=output: decode_image(output.content, output.mime)))
            print("  sign and read back", measured(lambda output=output: sign(output, verdict, said, signing)))
            read = measured(lambda signed=signed: sdk.read(signed.content, signed.mime, signing.anchors))
            print("  of that, read back", read)
        weigh(pixels, verdict, signing, Path(folder))


if __name__ == "__main__":
    main()
