"""What it costs to compare a model's weights with its files: `python tests/intake/measure_model_files.py [MIB]`."""

import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from guardrail.intake.digests_kept import KeptDigests
from guardrail.intake.model_files import files_of_part
from guardrail.intake.weights import digest_of_module


class Weights(torch.nn.Module):
    """A model of one large table after another, as it says where it was loaded from."""

    def __init__(self, tensors, folder):
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)
        self.config = {"_name_or_path": str(folder)}


def timed(call):
    began = time.perf_counter(), time.process_time()
    given = call()
    return given, time.perf_counter() - began[0], time.process_time() - began[1]


def main(size_mib):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tensors = {f"table_{at:04d}": torch.rand(2**20 // 2).half() for at in range(size_mib)}
        save_file(tensors, folder / "diffusion_pytorch_model.safetensors")
        model = Weights(tensors, folder)
        kept = folder / "model-files.json"
        _, wall_s, cpu_s = timed(lambda: digest_of_module(model).result())
        print(f"digest of {size_mib} MiB in memory: {wall_s:.2f} s, {cpu_s:.2f} CPU-s")
        started = timed(lambda: files_of_part("unet", model, KeptDigests(kept)))
        found, wall_s, cpu_s = timed(started[0].result)
        print(f"the call itself: {started[1] * 1000:.1f} ms; compared with its file: {wall_s:.2f} s, {found.state}")
        again = Weights(tensors, folder)
        digest_of_module(again).result()
        found, wall_s, _ = timed(lambda: files_of_part("unet", again, KeptDigests(kept)).result())
        print(f"the next process: {wall_s * 1000:.1f} ms, {found.state}")
        call = [timed(lambda: files_of_part("unet", again, KeptDigests(kept)))[1] for _ in range(50)]
        print(f"every call afterwards: {sorted(call)[25] * 1000:.2f} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 256)
