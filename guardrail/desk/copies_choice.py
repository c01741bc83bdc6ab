"""Split a folder of pictures into works, clean pictures and backdrops, by the digest of their pixels and a seed."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from guardrail import intake
from guardrail.errors import NothingToIndex
from guardrail.fingerprint import hash_pdq, pixels_digest
from guardrail.intake import find_images

__all__ = ["Choice", "Chosen", "LeftOut", "Sides", "as_picture", "as_pixels", "choose", "written"]

_BACKDROPS_MOST = 24  # other pictures that collages are made with; never works, never judged
_BACKDROPS_SHARE = 0.05  # of all pictures, where they are few

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Sides:
    """How a folder is split.

    Attributes:
        folder: where works are from.
        clean: where clean pictures and backdrops are from; None: the same folder.
        works, clean_take: how many of each at most.
        side_px: the longer side that every picture is brought down to.
        seed: of the split.
        duplicate_bits: PDQ distance, of 256, within which a picture is another's near-duplicate and left out.
        least_quality: PDQ quality, of 100, below which a picture has too little in it to be told from others.
        largest_image_px: pictures of more pixels are not decoded.
        leave_out: patterns (`*`, `?`) of files that shall not take part, such as variants of one picture.
    """

    folder: Path
    clean: Path | None
    works: int
    clean_take: int
    side_px: int
    seed: int
    duplicate_bits: int
    least_quality: int
    largest_image_px: int
    leave_out: tuple[str, ...] = ()


class Chosen(NamedTuple):
    """One picture that takes part: its file, and the digest of its pixels as the file has them."""

    file: str
    pixels_sha256: str


class LeftOut(NamedTuple):
    """One picture that does not: `named`, `unreadable`, `identical`, `near_duplicate` or `faint`; of which, or why."""

    file: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Choice:
    """The pictures that take part; each lies as PNG in a folder of its role, in this order."""

    works: tuple[Chosen, ...]
    clean: tuple[Chosen, ...]
    backdrops: tuple[Chosen, ...]
    left_out: tuple[LeftOut, ...]
    found: int

    def write(self, path: Path) -> None:
        """Write it down, so that an interrupted run need not choose again."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Choice":
        """Read what `write` wrote."""
        said = json.loads(path.read_text(encoding="utf-8"))
        chosen = {role: tuple(Chosen(*one) for one in said[role]) for role in ("works", "clean", "backdrops")}
        return cls(**chosen, left_out=tuple(LeftOut(*one) for one in said["left_out"]), found=said["found"])


def choose(sides: Sides, into: Path, progress: Progress) -> Choice:
    """Choose works, clean pictures and backdrops, and write each as PNG to a folder of its role below `into`.

    Pictures are taken in the order of sha256(seed, digest of pixels), so that neither names nor copies of a file
    matter. Near-duplicates of what was taken before are left out: as works they would make two right answers, as clean
    pictures they would be copies in truth.

    Raises:
        NothingToIndex: a folder holds too few pictures that can be told apart.
    """
    left_out: list[LeftOut] = []
    files = _ordered(sides.folder, sides, left_out, progress)
    others = _ordered(sides.clean, sides, left_out, progress) if sides.clean else []
    found = len(files) + len(others)
    sifter = _Sifter(sides, left_out)
    if sides.clean:
        works = sifter.take(files, sides.works, into / "works")
        clean = sifter.take(others, sides.clean_take, into / "clean")
        backdrops = sifter.take(others, _BACKDROPS_MOST, into / "backdrops")
    else:
        spare = min(_BACKDROPS_MOST, int(_BACKDROPS_SHARE * len(files)))
        works = sifter.take(files, min(sides.works, (len(files) - spare) // 2), into / "works")
        clean = sifter.take(files, sides.clean_take, into / "clean", leaving=spare)
        backdrops = sifter.take(files, spare, into / "backdrops")
    if not works or not clean:
        reason = f"{len(works)} works and {len(clean)} clean pictures that can be told apart"
        raise NothingToIndex(str(sides.folder if not works else sides.clean or sides.folder), reason)
    choice = Choice(tuple(works), tuple(clean), tuple(backdrops), tuple(sorted(left_out)), found)
    choice.write(into / "choice.json")
    return choice


def _ordered(folder: Path, sides: Sides, left_out: list[LeftOut], progress: Progress) -> list[tuple[Path, Chosen]]:
    """The readable pictures of a folder, each pixel content once, in the order of the seeded digest."""
    if not folder.is_dir():
        raise NothingToIndex(str(folder), "no such folder")
    names, _ = find_images(folder)
    seen: dict[str, tuple[Path, Chosen]] = {}
    for done, name in enumerate(names, start=1):
        if pattern := next((one for one in sides.leave_out if fnmatch(name, one)), ""):
            left_out.append(LeftOut(name, "named", pattern))
            continue
        picture = intake.read_picture(folder / name, sides.largest_image_px)
        progress(done, len(names))
        if picture.pixels is None:
            reason = picture.failure.error if picture.failure else "no pixels"
            left_out.append(LeftOut(intake.shown_path(Path(name)), "unreadable", reason))
            continue
        digest = pixels_digest(picture.pixels)
        if digest in seen:
            left_out.append(LeftOut(name, "identical", seen[digest][1].file))
        else:
            seen[digest] = (folder / name, Chosen(name, digest))
    return sorted(
        seen.values(), key=lambda one: hashlib.sha256(f"{sides.seed}:{one[1].pixels_sha256}".encode()).digest()
    )


class _Sifter:
    """Takes pictures one after the other, and leaves out what cannot be told from one taken before."""

    def __init__(self, sides: Sides, left_out: list[LeftOut]) -> None:
        self._sides = sides
        self._left_out = left_out
        self._codes = np.zeros((0, 32), np.uint8)
        self._files: list[str] = []

    def take(self, files: list[tuple[Path, Chosen]], count: int, into: Path, leaving: int = 0) -> list[Chosen]:
        """Take `count` pictures off the front of `files`, if `leaving` others stay, and write them as PNG."""
        into.mkdir(parents=True, exist_ok=True)
        taken: list[Chosen] = []
        while files and len(taken) < count and len(files) > leaving:
            path, chosen = files.pop(0)
            picture = self._told_apart(path, chosen)
            if picture is not None:
                picture.save(into / f"{len(taken):06d}.png")
                taken.append(chosen)
        return taken

    def _told_apart(self, path: Path, chosen: Chosen) -> Image.Image | None:
        picture = intake.read_picture(path, self._sides.largest_image_px)
        if picture.pixels is None:
            self._left_out.append(LeftOut(chosen.file, "unreadable", "it changed while it was read"))
            return None
        image = as_picture(picture.pixels, self._sides.side_px)
        views, quality = hash_pdq(as_pixels(image)[None])
        code = views[0].numpy()
        if int(quality[0]) < self._sides.least_quality:
            self._left_out.append(LeftOut(chosen.file, "faint", f"PDQ quality {int(quality[0])} of 100"))
            return None
        if len(self._files):
            bits = _distances(code, self._codes)
            nearest = int(np.argmin(bits))
            if bits[nearest] <= self._sides.duplicate_bits:
                self._left_out.append(LeftOut(chosen.file, "near_duplicate", self._files[nearest]))
                return None
        self._codes = np.concatenate([self._codes, code[:1]])
        self._files.append(chosen.file)
        return image


def _distances(views: NDArray[np.uint8], codes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Bits between the nearest of eight views (8, 32) and each of N codes (N, 32): int64 (N,)."""
    apart = np.bitwise_count(views[:, None] ^ codes[None]).sum(axis=2, dtype=np.int64)
    return np.asarray(apart.min(axis=0), np.int64)


def as_picture(pixels: torch.Tensor, side_px: int) -> Image.Image:
    """Pixels, uint8 (3, H, W), as a picture whose longer side is at most `side_px`."""
    image = Image.fromarray(np.ascontiguousarray(pixels.cpu().numpy().transpose(1, 2, 0)))
    image.thumbnail((side_px, side_px), Image.Resampling.LANCZOS, reducing_gap=None)
    return image


def as_pixels(image: Image.Image) -> torch.Tensor:
    """A picture of mode RGB as uint8 (3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def written(folder: Path, chosen: Sequence[Chosen]) -> Iterator[Image.Image]:
    """The pictures of a role, as `choose` wrote them."""
    for at in range(len(chosen)):
        with Image.open(folder / f"{at:06d}.png") as image:
            yield image.convert("RGB")
