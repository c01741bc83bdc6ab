"""Train the small text tower of `mini` on titles and captions, against the finished image tower.

    python tools/mini/train_text.py PACK OUT/step-003400.pt OUT/text.pt

The image tower stays as it is: its vectors of the plain pictures are made once, and the text tower learns to meet them
(the way of Zhai et al., "LiT", 2022). Prints how often a held-out picture is among the first ten of all held-out ones
for its own title.
"""

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np
import open_clip
import torch
from export import whole_model
from PIL import Image
from torch.nn import functional
from train import embedded, tower_of

CONTEXT_LENGTH = 24
SIDE_PX = 224
BATCH = 256
TEMPERATURE = 0.05
DROPPED_WORDS = 0.15


def captioned(folder: Path) -> tuple[list[str], list[dict[str, int]], list[bool]]:
    """Caption, packed entry and whether it is held out, of every drawing and stamp."""
    entries = json.loads((folder / "pictures.json").read_text(encoding="utf-8"))
    chosen = [entry for entry in entries if entry["kind"] != "wallpaper"]
    return [entry["title"] for entry in chosen], chosen, [entry["held_out"] for entry in chosen]


@torch.inference_mode()
def image_vectors(network: torch.nn.Module, folder: Path, entries: list[dict[str, int]]) -> torch.Tensor:
    """Unit vectors of plain pictures on white: float32 (N, D)."""
    packed, rows = np.memmap(folder / "pictures.bin", np.uint8, "r"), []
    for start in range(0, len(entries), 64):
        shown = []
        for entry in entries[start : start + 64]:
            shape = entry["height"], entry["width"], entry["channels"]
            pixels = np.array(packed[entry["offset"] : entry["offset"] + math.prod(shape)]).reshape(shape)
            picture = Image.fromarray(pixels)
            white = Image.new("RGB", picture.size, "white")
            white.paste(picture, (0, 0), picture if picture.mode == "RGBA" else None)
            shown.append(np.asarray(white.resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR)))
        rows.append(embedded(network, torch.from_numpy(np.stack(shown)).permute(0, 3, 1, 2)))
        sys.stderr.write(f"\r{start}/{len(entries)} pictures")
    return torch.cat(rows)


def thinned(tokens: torch.Tensor) -> torch.Tensor:
    """The captions with some words left out; start and end tokens stay."""
    kept = tokens.clone()
    inner = (tokens > 0) & (tokens < 49406)
    words = torch.where(inner & (torch.rand(tokens.shape) < DROPPED_WORDS), 0, kept)
    order = (words == 0).int().argsort(dim=1, stable=True)
    return words.gather(1, order)


def recall_at_ten(model: torch.nn.Module, tokens: torch.Tensor, vectors: torch.Tensor) -> float:
    """The share of captions whose own picture is among the ten nearest."""
    with torch.inference_mode():
        near = functional.normalize(model.encode_text(tokens), dim=1) @ vectors.T
    ranks = (near >= near.diag()[:, None]).sum(1)
    return float((ranks <= 10).float().mean())


def main() -> None:
    """Train, and write the tensors of everything but the image tower."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("pack", type=Path)
    arguments.add_argument("image", type=Path, help="a checkpoint of tools/mini/train.py")
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--steps", type=int, default=1500)
    given = arguments.parse_args()
    torch.manual_seed(20261122)
    captions, entries, held = captioned(given.pack)
    vectors = image_vectors(tower_of(given.image), given.pack, entries).clone()
    tokens = open_clip.SimpleTokenizer()(captions, CONTEXT_LENGTH)
    test = torch.tensor(held)
    model = whole_model().train()
    learnt = [tensor for name, tensor in model.named_parameters() if not name.startswith("visual")]
    optimiser = torch.optim.AdamW(learnt, lr=1e-3, weight_decay=0.2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=given.steps)
    own_tokens, own_vectors = tokens[~test], vectors[~test]
    for step in range(given.steps):
        rows = torch.randint(len(own_tokens), (BATCH,))
        said = functional.normalize(model.encode_text(thinned(own_tokens[rows])), dim=1)
        near = said @ own_vectors[rows].T / TEMPERATURE
        loss = functional.cross_entropy(near, torch.arange(BATCH)) + functional.cross_entropy(
            near.T, torch.arange(BATCH)
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 100 == 0 or step == given.steps - 1:
            found = recall_at_ten(model.eval(), tokens[test], vectors[test])
            sys.stderr.write(
                f"step {step} loss {float(loss):.3f} held-out recall@10 {found:.3f} of {int(test.sum())}\n"
            )
            model.train()
    text = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("visual")}
    torch.save(text, given.out)


if __name__ == "__main__":
    main()
