"""What the sampling of video frames saves and misses: clips in which a work fades in, flashes up, or passes by.

    python tools/measure_frames.py WORKS_FOLDER --clips 12

Each clip is judged twice by one guard: every frame, and the frames that `sampled_frames` keeps at the shipped settings.
Once a sampled frame is not accepted, the guard looks at every frame of that clip. A frame that is blocked on its own
and not looked at is missed.
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from guardrail.carriers import ImageBatch, Picture
from guardrail.desk.making import build_folder_index
from guardrail.guard import Guard
from guardrail.index import Recipe
from guardrail.intake.frames import sampled_frames
from guardrail.intake.pixels import from_pillow
from guardrail.records import Decision
from guardrail.settings import Settings

FRAMES, SIDE_PX = 32, 256


def fade(other: np.ndarray, work: np.ndarray) -> list[np.ndarray]:
    """From one picture to the work and back, evenly."""
    shares = 1 - np.abs(np.linspace(-1, 1, FRAMES))
    return [share * work + (1 - share) * other for share in shares]


def flash(other: np.ndarray, work: np.ndarray) -> list[np.ndarray]:
    """One frame of the work in a still clip."""
    return [work if at == FRAMES // 2 else other for at in range(FRAMES)]


def passing(other: np.ndarray, work: np.ndarray) -> list[np.ndarray]:
    """The work slides in from the left until it fills the picture, and out again."""
    made = []
    for share in 1 - np.abs(np.linspace(-1, 1, FRAMES)):
        frame, width = other.copy(), round(share * SIDE_PX)
        frame[:, :width] = work[:, SIDE_PX - width :]
        made.append(frame)
    return made


def still(other: np.ndarray, work: np.ndarray) -> list[np.ndarray]:
    """A slow zoom into a picture that copies nothing."""
    del work
    image = Image.fromarray(other.astype(np.uint8))
    boxes = ((at, at, SIDE_PX - at, SIDE_PX - at) for at in range(FRAMES))
    return [np.asarray(image.resize((SIDE_PX, SIDE_PX), box=box), np.float64) for box in boxes]


def opened(path: Path) -> np.ndarray:
    """A picture on white, square."""
    image = Image.open(path).convert("RGBA").resize((SIDE_PX, SIDE_PX))
    ground = Image.new("RGBA", image.size, "white")
    ground.alpha_composite(image)
    return np.asarray(ground.convert("RGB"), np.float64)


def as_batch(frames: list[np.ndarray]) -> ImageBatch:
    """The frames of one video, by the names that they have in an output."""
    images = (Image.fromarray(frame.round().astype(np.uint8)) for frame in frames)
    return ImageBatch(tuple(Picture(f"frames[0][{at}]", from_pillow("frame", one)) for at, one in enumerate(images)))


def measured(guard: Guard, batch: ImageBatch, settings: Settings) -> Counter[str]:
    """How many frames there are, were looked at, are blocked on their own, and are missed."""
    alone = {one.image: one.decision for one in guard.judge(batch)}
    kept = sampled_frames(batch, settings.frame_every, settings.frame_change_above)
    suspect = any(alone[picture.name] is not Decision.ACCEPT for picture in kept.pictures)
    behind = [] if suspect else [name for picture in kept.pictures for name in picture.stands_for]
    missed = sum(alone[name] is Decision.BLOCK for name in behind)
    blocked = sum(decision is Decision.BLOCK for decision in alone.values())
    found = any(alone[picture.name] is Decision.BLOCK for picture in kept.pictures)
    return Counter(
        clips=1,
        frames=len(batch),
        looked_at=len(batch) - len(behind),
        blocked=blocked,
        missed=missed,
        clips_blocked=blocked > 0,
        clips_found=found,
    )


def main() -> None:
    """Parse, build, judge, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("works", type=Path)
    parser.add_argument("--clips", type=int, default=12, help="of each kind")
    asked = parser.parse_args()
    paths = sorted(asked.works.rglob("*.png"))
    chosen = [paths[at] for at in np.random.default_rng(0).choice(len(paths), 2 * asked.clips, replace=False)]
    works, others = chosen[: asked.clips], chosen[asked.clips :]
    with TemporaryDirectory() as scratch:
        home = Path(scratch)
        (home / "works").mkdir()
        for at, path in enumerate(works):
            Image.fromarray(opened(path).astype(np.uint8)).save(home / "works" / f"{at}.png")
        settings = Settings(home=home, index=str(home / "index"), device="cpu")
        build_folder_index(home / "works", home / "index", settings, Recipe())
        guard = Guard(settings=settings)
        totals = {}
        for kind in (fade, flash, passing, still):
            counts: Counter[str] = Counter()
            for work, other in zip(works, others, strict=True):
                counts += measured(guard, as_batch(kind(opened(other), opened(work))), settings)
            totals[kind.__name__] = dict(counts)
        guard.memory.close()
    sys.stdout.write(json.dumps(totals, indent=2) + "\n")


if __name__ == "__main__":
    main()
