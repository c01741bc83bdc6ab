"""Join the rooms for `bench copies`: choose pictures, build an index, edit, fingerprint, search, look closer."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from guardrail import __version__, judge
from guardrail import plugins as tools
from guardrail.carriers import ImageBatch, Picture
from guardrail.desk.copies_choice import Choice, Chosen, Sides, as_pixels, choose, written
from guardrail.desk.copies_peers import Peer, make_peers
from guardrail.desk.making import build_folder_index
from guardrail.errors import NothingToIndex
from guardrail.fingerprint import HASHES, resolve_device
from guardrail.guard import Guard
from guardrail.index import FolderIndex, Recipe
from guardrail.intake import find_images
from guardrail.records import CheckFailed, IndexHeader, MatchEvidence, Neighbour, Signal
from guardrail.settings import Settings
from guardrail.study.calibrate import open_limits, unit_of
from guardrail.study.copies import Looks
from guardrail.study.edits import EDITS

__all__ = ["Asked", "CopiesRun", "run_copies"]

_DEPTH = 50  # works that a search brings up for each signal and picture, at most
_CLEAN_AT_ONCE = 64  # clean pictures in one piece of work

ProgressOf = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a benchmark is asked to do.

    Attributes:
        sides: how pictures are chosen.
        queries: works that are edited, at most.
        edits: names of edits with their intensities, 0..100.
        recipe: how the index is made.
        peers: embedders to set beside ours; `none` alone for no peer at all.
        proof: whether plugins look closer.
        keep: a folder in which pictures, index and finished pieces stay, so that the same run goes on; None: none do.
    """

    sides: Sides
    queries: int
    edits: tuple[tuple[str, float], ...]
    recipe: Recipe
    peers: tuple[str, ...]
    proof: bool
    keep: Path | None


@dataclass(frozen=True, slots=True)
class CopiesRun:
    """What was looked at.

    Attributes:
        choice: the pictures that took part, and those left out.
        header: the index they were compared with.
        looks: how near each came, by signal.
        own: the signals of the guard, in the order of `Signal`; the others are peers.
        faint: by `copies` and `clean`, pictures with too little in them for PDQ; a guard flags them unseen.
        failures: checks that failed, each with its picture.
    """

    choice: Choice
    header: IndexHeader
    looks: Looks
    own: tuple[str, ...]
    faint: Mapping[str, int]
    failures: tuple[str, ...]


class _Piece(NamedTuple):
    """A piece of work that is kept once it is done: an edit of all queried works, or some clean pictures."""

    name: str
    edit: str
    intensity: float
    rows: range


def run_copies(asked: Asked, settings: Settings, progress_of: ProgressOf) -> CopiesRun:
    """Look at edited copies and at clean pictures, exactly as a guard with an index of the works does.

    Deterministic for a seed, apart from what an accelerator rounds.

    Raises:
        NothingToIndex: too few pictures that can be told apart.
        EmbedderUnknown, WeightsUnusable, ExtraMissing: an embedder cannot be had.
    """
    with _scratch(asked) as scratch:
        choice = _chosen(asked, scratch, progress_of)
        with progress_of("indexing") as progress:
            _build(asked, scratch, settings, progress)
        index = FolderIndex(scratch / "index").pinned()
        assert list(index.files) == [f"{row:06d}.png" for row in range(len(choice.works))], "rows are works, in order"
        bench = _Bench(asked, settings, scratch, choice, index.header.snapshot)
        queries = min(asked.queries, len(choice.works))
        pieces = [_Piece(f"{edit}-{at:g}", edit, at, range(queries)) for edit, at in asked.edits]
        for start in range(0, len(choice.clean), _CLEAN_AT_ONCE):
            rows = range(start, min(start + _CLEAN_AT_ONCE, len(choice.clean)))
            pieces.append(_Piece(f"clean-{start}", "", 0.0, rows))
        with progress_of("looking") as progress:
            seen = []
            for done, piece in enumerate(pieces, start=1):
                seen.append(bench.look(piece))
                progress(done, len(pieces))
        bench.guard.memory.close()
        return _joined(choice, index.header, pieces, seen)


@contextmanager
def _scratch(asked: Asked) -> Iterator[Path]:
    """A folder for pictures, index and pieces: one of this very request below `keep`, or one that is thrown away."""
    if asked.keep is None:
        with TemporaryDirectory(prefix="guardrail-bench-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)
        return
    stamps = []
    for source in (asked.sides.folder, asked.sides.clean):
        if source is not None and source.is_dir():
            paths = [source / name for name in find_images(source)[0]]
            stamps += [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths if path.is_file()]
    said = json.dumps([str(asked.sides), asked.recipe.model_dump(mode="json"), stamps])
    place = asked.keep / hashlib.sha256(said.encode()).hexdigest()[:16]
    place.mkdir(parents=True, exist_ok=True)
    yield place


def _chosen(asked: Asked, scratch: Path, progress_of: ProgressOf) -> Choice:
    if (scratch / "choice.json").is_file():
        return Choice.read(scratch / "choice.json")
    with progress_of("choosing") as progress:
        return choose(asked.sides, scratch, progress)


def _build(asked: Asked, scratch: Path, settings: Settings, progress: Callable[[int, int], None]) -> None:
    place = scratch / "index"
    if place.exists():
        device = resolve_device(settings.device)
        spec = tools.make_embedder(tools.build_plugins(), asked.recipe.embedder, device, settings.weights_dir).spec
        header = FolderIndex(place).header
        if header.embedders["copy"] == spec and header.hashes == HASHES:
            return
    report = build_folder_index(
        scratch / "works", place, settings, asked.recipe, overwrite=place.exists(), progress=progress
    )
    if report.unreadable:  # an index with holes would put copies beside the wrong rows
        name, error = report.unreadable[0]
        raise NothingToIndex(str(scratch / "works"), f"{len(report.unreadable)} works failed, {name}: {error}")


class _Bench:
    """A guard at work on one benchmark, and the peers beside it."""

    def __init__(self, asked: Asked, settings: Settings, scratch: Path, choice: Choice, snapshot: str) -> None:
        self._asked, self._choice, self._scratch = asked, choice, scratch
        unkept = settings.model_copy(update={"memory": "sqlite://", "limits": None})
        self.guard = Guard(scratch / "index", unkept)
        self._limits = open_limits(self.guard.index.header.limits)
        self._works = list(written(scratch / "works", choice.works))
        self._backdrops = list(written(scratch / "backdrops", choice.backdrops))
        self._peers = make_peers(asked.peers, settings, resolve_device(settings.device))
        self._peer_rows = {name: _in_batches(peer, self._works, settings.batch) for name, peer in self._peers.items()}
        said = [__version__, snapshot, settings.neighbours, settings.proof, asked.proof, asked.sides.seed]
        said += [[name, peer.about] for name, peer in self._peers.items()]
        said += [asked.queries, [name for name, _ in self.guard.plugins.list_name_plugin()]]
        self._pieces = scratch / "pieces" / hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]
        self._pieces.mkdir(parents=True, exist_ok=True)

    def look(self, piece: _Piece) -> dict[str, NDArray[Any]]:
        """How near the pictures of a piece come to every work, by each signal; read back if it was done before.

        Returns:
            By signal float32 (Q, W); `faint` bool (Q,); `failures`, an array of texts.
        """
        path = self._pieces / f"{piece.name}.npz"
        if path.is_file():
            with np.load(path, allow_pickle=False) as stored:
                return dict(stored)
        seen = self._seen(list(self._pictures(piece)))
        unfinished = path.with_suffix(".tmp.npz")
        np.savez_compressed(unfinished, allow_pickle=False, **seen)
        unfinished.rename(path)
        return seen

    def _pictures(self, piece: _Piece) -> Iterator[Image.Image]:
        if not piece.edit:
            for row in piece.rows:
                with Image.open(self._scratch / "clean" / f"{row:06d}.png") as image:
                    yield image.convert("RGB")
            return
        edit = EDITS[piece.edit]
        for row in piece.rows:
            random = _generator(self._asked.sides.seed, self._choice.works[row], piece.edit)
            yield edit(self._works[row], piece.intensity, random, self._backdrops)

    def _seen(self, images: Sequence[Image.Image]) -> dict[str, NDArray[Any]]:
        shape = (len(images), len(self._works))
        nearness = {str(s): np.full(shape, -np.inf, np.float32) for s in Signal if unit_of(s) is not None}
        faint = np.zeros(len(images), np.bool_)
        failures: list[str] = []
        size = self.guard.settings.batch
        for start in range(0, len(images), size):
            pictures = tuple(
                Picture(f"{start + at}", as_pixels(one)) for at, one in enumerate(images[start : start + size])
            )
            failures += self._compare(pictures, start, nearness, faint)
        for name, peer in self._peers.items():
            nearness[name] = peer.nearness(_in_batches(peer, images, size), self._peer_rows[name])
        return nearness | {"faint": faint, "failures": np.array(failures, str)}

    def _compare(
        self,
        pictures: tuple[Picture, ...],
        start: int,
        nearness: Mapping[str, NDArray[np.float32]],
        faint: NDArray[np.bool_],
    ) -> list[str]:
        """Fill in the rows of one batch; returns the checks that failed."""
        prints = self.guard.fingerprint(ImageBatch(pictures))
        found = self.guard.index.search(prints, min(len(self._works), _DEPTH))
        failures = []
        for at, (picture, neighbours) in enumerate(zip(pictures, found, strict=True)):
            if (failure := prints.failures[at]) is not None:
                failures.append(f"{failure.check}: {failure.error}")
                continue
            quality = int(prints.pdq_quality[at])
            faint[start + at] = quality < self._limits.pdq_quality_at_least
            rows = {near.work.work_id: near.row for near in neighbours}
            evidence = [*judge.gather(picture.name, neighbours, quality, self._limits)]
            if self._asked.proof:
                evidence += self._closer(picture, neighbours)
            for one in evidence:
                if isinstance(one, CheckFailed):
                    failures += [f"{one.check}: {one.error}"] if one.check != "pdq_quality" else []
                elif isinstance(one, MatchEvidence) and (near := _nearness(one)) is not None:
                    cells = nearness[str(one.signal)][start + at]
                    cells[rows[one.work.work_id]] = max(cells[rows[one.work.work_id]], near)
        return failures

    def _closer(self, picture: Picture, neighbours: tuple[Neighbour, ...]) -> list[Any]:
        """What plugins find among as many neighbours as a guard shows them."""
        shown, counts = [], dict.fromkeys(Signal, 0)
        for near in neighbours:
            counts[near.signal] += 1
            if counts[near.signal] <= self.guard.settings.neighbours:
                shown.append(near)
        found: list[Any] = []
        for answer in tools.call_guards(
            self.guard.plugins,
            "find_evidence",
            context=None,
            picture=picture,
            neighbours=tuple(shown),
            index=self.guard.index,
            limits=self._limits,
            settings=self.guard.settings,
        ):
            found += tools.evidence_of(answer, picture.name)
        return found


def _nearness(found: MatchEvidence) -> float | None:
    """What a piece of evidence measured, higher is nearer; None for exact matches, which other signals show, too."""
    unit = unit_of(found.signal)
    for name in ("similarity", "distance_bits", "inliers"):
        value = getattr(found, name, None)
        if unit is not None and value is not None:
            return unit.nearness(float(value))
    return None


def _in_batches(peer: Peer, images: Sequence[Image.Image], size: int) -> NDArray[Any]:
    return np.concatenate([peer.rows(images[start : start + size]) for start in range(0, len(images), size)])


def _generator(seed: int, work: Chosen, edit: str) -> np.random.Generator:
    """Draws that depend on seed, work and edit, not on intensity or on the order of the run."""
    digest = hashlib.sha256(f"{seed}:{work.pixels_sha256}:{edit}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def _joined(
    choice: Choice, header: IndexHeader, pieces: Sequence[_Piece], seen: Sequence[Mapping[str, NDArray[Any]]]
) -> CopiesRun:
    names = [name for name in seen[0] if name not in ("faint", "failures")]
    nearness = {name: np.concatenate([one[name] for one in seen]) for name in names}
    spoke = {name: values for name, values in nearness.items() if np.isfinite(values).any()}
    rights: list[int] = []
    edits: list[str] = []
    intensities: list[float] = []
    for piece in pieces:
        rights += piece.rows if piece.edit else [-1] * len(piece.rows)
        edits += [piece.edit] * len(piece.rows)
        intensities += [piece.intensity] * len(piece.rows)
    right = np.array(rights, np.int64)
    faint = np.concatenate([one["faint"] for one in seen])
    counted = {"copies": int(faint[right >= 0].sum()), "clean": int(faint[right < 0].sum())}
    failures = tuple(str(text) for one in seen for text in one["failures"])
    own = tuple(str(signal) for signal in Signal if str(signal) in spoke)
    looks = Looks(spoke, right, tuple(edits), tuple(intensities))
    return CopiesRun(choice, header, looks, own, counted, failures)
