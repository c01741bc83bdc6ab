"""A new work, and what was released before it came: which outputs would be flagged now, told by their prints alone."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import PurePath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from guardrail import act, judge
from guardrail import plugins as tools
from guardrail.carriers import Fingerprints, ImageBatch, Look, OutputPrints, Picture
from guardrail.desk.learning import current_limits
from guardrail.desk.rescan_report import NearOutput, RescanReport
from guardrail.errors import PictureNotKept
from guardrail.index import FolderIndex
from guardrail.memory import Held
from guardrail.records import (
    VIEWS,
    Actor,
    CheckFailed,
    Decision,
    Disposition,
    Evidence,
    Neighbour,
    Release,
    Signal,
    Verdict,
    View,
    Work,
)
from guardrail.review_errors import CaseMissing
from guardrail.study.nearness import least_bits, most_alike

if TYPE_CHECKING:
    from guardrail.guard import Guard
    from guardrail.memory import Memory
    from guardrail.protocols import IndexBackend

__all__ = ["Rescan", "SoughtWork", "ask_rescan"]

_PRINTS_AT_A_TIME = 512  # of released outputs compared at once: 10 MB of vectors
_PDQ_BYTES = 32
_INVERSE: dict[View, View] = {"rotate_90": "rotate_270", "rotate_270": "rotate_90"}  # all other views undo themselves


@dataclass(frozen=True, slots=True)
class SoughtWork:
    """A work that outputs are compared with.

    Attributes:
        work: whose it is.
        row: in the index.
        pdq: uint8 (8, 32), in the eight views.
        wholes: float32 (8, D), unit length copy descriptors of the whole, in the eight views.
        tiles: float32 (T, D), of its tiles.
    """

    work: Work
    row: int
    pdq: NDArray[np.uint8]
    wholes: NDArray[np.float32]
    tiles: NDArray[np.float32]


class _Vectors(NamedTuple):
    """float32 (N, D), and int64 (N,): the output that each row is of."""

    rows: NDArray[np.float32]
    owners: NDArray[np.int64]


class _Outputs(NamedTuple):
    """Some released outputs, side by side: hashes and vectors with the output that each is of."""

    kept: list[tuple[Release, OutputPrints]]
    hashes: NDArray[np.uint8]
    hash_owners: NDArray[np.int64]
    wholes: _Vectors
    tiles: _Vectors


def ask_rescan(
    memory: Memory, organisation: str, keys: Sequence[tuple[str, str]], account_id: str | None = None
) -> str:
    """Enter the job that compares works with all that was released; returns its id.

    Args:
        memory: with jobs and prints.
        organisation: whose works, and whose outputs.
        keys: bank and id of the works.
        account_id: who asked.

    Raises:
        MemoryUnwritable: nothing was entered.
    """
    return memory.jobs.add(organisation, "rescan", {"works": [list(key) for key in keys]}, account_id)


class Rescan:
    """Compares works with what one organisation released, and opens a case for every output that would be flagged.

    Args:
        guard: of the organisation; its index holds the works, its limits and policy judge.
        memory: keeps the prints of outputs, verdicts and cases.
        job_id: of this rescan: run again after an interruption, it opens no case twice.
    """

    def __init__(self, guard: Guard, memory: Memory, job_id: str) -> None:
        from guardrail.fingerprint import Fingerprinter, resolve_device  # torch, which came with the guard

        self._guard, self._memory, self._job_id = guard, memory, job_id
        self._organisation = guard.settings.organisation
        self._limits = current_limits(guard)
        spec = guard.fingerprint.copy.spec
        self._embedder = f"{spec.name}@{spec.weights_sha256}"
        turned = [Look(view, None) for view in VIEWS[1:]]
        device = resolve_device(guard.settings.device)
        self._eightfold = Fingerprinter(guard.fingerprint.copy, None, device, guard.settings.batch, turned)
        self._background = getattr(guard.index.pinned(), "background", None)
        self._by_copy = guard.index.header.normalisation is None or self._background is not None

    def __call__(
        self, keys: Sequence[tuple[str, str]], progress: Callable[[int, int], None] = lambda done, total: None
    ) -> RescanReport:
        """Compare.

        Args:
            keys: bank and id of the works.
            progress: called with how many outputs were compared, and how many there are.

        Raises:
            LedgerBroken: prints in memory were edited.
            MemoryUnwritable: cases could not be opened.
        """
        sought, missing = self._sought(keys)
        total = self._memory.counts().prints
        done, by_hash = 0, 0
        found: list[NearOutput] = []
        for outputs in self._outputs():
            found += self._near(outputs, sought)
            done += len(outputs.kept)
            by_hash += sum(prints.embedder != self._embedder for _, prints in outputs.kept)
            progress(done, max(done, total))
        return RescanReport(len(sought), missing, done, by_hash, tuple(found), self._cases(sought, found))

    # --- works ---------------------------------------------------------------------------------------------

    def _sought(self, keys: Sequence[tuple[str, str]]) -> tuple[list[SoughtWork], tuple[str, ...]]:
        """The works as they are compared; and those that cannot be."""
        sought, missing = [], []
        for bank, work_id in keys:
            found = self._work(bank, work_id)
            if found is None:
                missing.append(f"{bank}/{work_id}")
            else:
                sought.append(found)
        return sought, tuple(missing)

    def _work(self, bank: str, work_id: str) -> SoughtWork | None:
        from guardrail.intake.files import read_content

        index = self._guard.index
        if not isinstance(index, FolderIndex):
            return None
        pinned = index.pinned()
        row = pinned.state.find_key(bank, work_id)
        if row is None:
            return None
        kept = pinned.kept([(bank, work_id)])
        try:
            picture = read_content(work_id, pinned.preview(row))
        except PictureNotKept:
            return None
        prints = self._eightfold(ImageBatch((picture,)))
        if prints.failures[0] is not None or prints.copy_looks is None:
            return None
        wholes = np.concatenate([kept.arrays["copy"].astype(np.float32), prints.copy_looks[0]])
        tiles = kept.arrays.get("tiles", np.zeros((1, 0, wholes.shape[1]), np.float16))[0].astype(np.float32)
        pdq = prints.pdq[0].copy()
        pdq[0] = kept.arrays["pdq"][0]
        return SoughtWork(kept.works[0], row, pdq, wholes, tiles)

    # --- outputs -------------------------------------------------------------------------------------------

    def _outputs(self) -> Iterator[_Outputs]:
        every = iter(self._memory.released_prints())
        while kept := list(islice(every, _PRINTS_AT_A_TIME)):
            yield self._beside(kept)

    def _beside(self, kept: list[tuple[Release, OutputPrints]]) -> _Outputs:
        width = self._guard.fingerprint.copy.spec.dimensions
        hashes = [np.frombuffer(prints.pdq, np.uint8).reshape(-1, _PDQ_BYTES) for _, prints in kept]
        ours = [(at, prints.copy) for at, (_, prints) in enumerate(kept) if prints.embedder == self._embedder]
        none = np.zeros((0, width), np.float32)
        return _Outputs(
            kept,
            np.concatenate(hashes),
            np.repeat(np.arange(len(kept)), [len(one) for one in hashes]),
            _Vectors(
                np.concatenate([none, *(copy[:1].astype(np.float32) for _, copy in ours)]),
                np.array([at for at, _ in ours], np.int64),
            ),
            _Vectors(
                np.concatenate([none, *(copy[1:].astype(np.float32) for _, copy in ours)]),
                np.array([at for at, copy in ours for _ in copy[1:]], np.int64),
            ),
        )

    def _near(self, outputs: _Outputs, sought: Sequence[SoughtWork]) -> list[NearOutput]:
        """The outputs among some that would not be accepted now."""
        near: dict[int, list[Neighbour]] = {}
        for work in sought:
            for at, neighbour in self._neighbours(outputs, work):
                near.setdefault(at, []).append(neighbour)
        found = []
        for at, neighbours in near.items():
            release, prints = outputs.kept[at]
            if (verdict := self._before(release)) is not None:
                one = self._judged(release, prints, neighbours, verdict)
                found += [one] if one is not None else []
        return found

    def _neighbours(self, outputs: _Outputs, work: SoughtWork) -> Iterator[tuple[int, Neighbour]]:
        """The outputs that reach a work's flag limits, by every signal of which something is kept."""
        count = len(outputs.kept)
        bits, views = least_bits(work.pdq, outputs.hashes, outputs.hash_owners, count)
        within = self._limits.of_bank(work.work.bank).pdq.flag_within_bits
        for at in np.flatnonzero(bits <= (-1 if within is None else within)).tolist():
            view = VIEWS[int(views[at])]
            turned = _INVERSE.get(view, view)
            near = Neighbour(work=work.work, row=work.row, signal=Signal.PDQ, distance_bits=int(bits[at]), view=turned)
            yield at, near
        if self._by_copy:
            yield from self._alike(Signal.COPY, work, work.wholes, outputs.wholes)
            yield from self._alike(Signal.TILE, work, work.tiles, outputs.wholes)
            yield from self._alike(Signal.TILE, work, work.wholes, outputs.tiles)

    def _alike(
        self, signal: Signal, work: SoughtWork, ours: NDArray[np.float32], theirs: _Vectors
    ) -> Iterator[tuple[int, Neighbour]]:
        """The same by the copy descriptor, for some looks at the work and at the outputs."""
        limits = self._limits.of_bank(work.work.bank)
        above = (limits.copy_ if signal is Signal.COPY else limits.tile).flag_above
        if not len(ours) or not len(theirs.rows) or above is None:
            return
        common = self._background.commonness(theirs.rows) if self._background is not None else 0.0
        alike, looks = most_alike(ours, theirs.rows)
        alike = np.clip(alike - common, -1, 1)
        for place in np.flatnonzero(alike >= above).tolist():
            view = VIEWS[int(looks[place])] if ours is work.wholes else "identity"
            turned = _INVERSE.get(view, view)
            near = Neighbour(work=work.work, row=work.row, signal=signal, similarity=float(alike[place]), view=turned)
            yield int(theirs.owners[place]), near

    # --- verdicts and cases ----------------------------------------------------------------------------------

    def _before(self, release: Release) -> Verdict | None:
        """The verdict by which an output left; None where it is another organisation's."""
        who = Actor(account_id="", organisation=self._organisation, role="viewer")
        try:
            return self._memory.reviews.verdict(who, release.verdict_id)
        except CaseMissing:
            return None

    def _judged(
        self, release: Release, prints: OutputPrints, neighbours: list[Neighbour], before: Verdict
    ) -> NearOutput | None:
        """The new verdict on an output, and a case where it is not accepted."""
        from guardrail.intake.files import read_content

        index = self._guard.index.pinned()
        name = PurePath(release.file).name
        picture = read_content(name, prints.preview)
        seen = self._guard.fingerprint(ImageBatch((picture,)))
        evidence = self._evidence(picture, seen, tuple(neighbours), index)
        about = judge.Findings(
            image=name,
            pixels_sha256=seen.pixels_sha256[0],
            evidence=evidence,
            neighbours=tuple(neighbours),
            limits=self._limits,
            index_snapshot=index.header.snapshot,
            at=datetime.now(UTC),
            run_id=before.run_id,
        )
        verdict = judge.decide(about, self._guard.settings.policy)
        if verdict.decision is Decision.ACCEPT:
            return None
        said = f"{verdict.explanation[:-1]}; it was released on {release.at:%Y-%m-%d}, before this work was known."
        own = {"explanation": said, "verdict_id": _verdict_id(self._job_id, release), "earlier_verdict_id": None}
        verdict = verdict.model_copy(update=own)
        return NearOutput(release, verdict, verdict.nearest[0].work, self._opened(verdict, picture, prints))

    def _evidence(
        self, picture: Picture, seen: Fingerprints, neighbours: tuple[Neighbour, ...], index: IndexBackend
    ) -> tuple[Evidence, ...]:
        """What the prints say, and what a closer look at the output's preview says."""
        if (failure := seen.failures[0]) is not None:
            unseen = CheckFailed(check=failure.check, image=picture.name, error=f"its preview: {failure.error}")
            return (*judge.gather(picture.name, neighbours, 100, self._limits), unseen)
        found: list[Evidence] = [
            one
            for one in judge.gather(picture.name, neighbours, int(seen.pdq_quality[0]), self._limits)
            if not isinstance(one, CheckFailed) or any(near.signal is Signal.PDQ for near in neighbours)
        ]
        for answer in tools.call_guards(
            self._guard.plugins,
            "find_evidence",
            context=None,
            picture=replace(picture, bare=()),
            neighbours=neighbours,
            index=index,
            limits=self._limits,
            settings=self._guard.settings,
        ):
            found += tools.evidence_of(answer, picture.name)
        return tuple(found)

    def _opened(self, verdict: Verdict, picture: Picture, prints: OutputPrints) -> bool:
        """Remember a verdict, and open its case; False where an earlier run of this job did."""
        who = Actor(account_id="", organisation=self._organisation, role="viewer")
        try:
            self._memory.reviews.verdict(who, verdict.verdict_id)
        except CaseMissing:
            png = act.encode_png(picture.pixels) if picture.pixels is not None else _as_png(prints.preview)
            held = Held(verdict, png, pdq=prints.pdq[:_PDQ_BYTES], organisation=self._organisation)
            self._memory.record_verdicts([held], None, self._limits)
            return True
        return False

    def _cases(self, sought: Sequence[SoughtWork], found: Sequence[NearOutput]) -> tuple[tuple[int, int], ...]:
        """The cases whose pictures are within PDQ's flag limit of a work, but for its own: number and bits."""
        own = {one.verdict.verdict_id for one in found}
        every = self._memory.hashes.of(self._organisation)
        kept = [(case_id, pdq) for case_id, verdict_id, pdq in every if verdict_id not in own]
        if not kept or not sought:
            return ()
        hashes = np.frombuffer(b"".join(pdq[:_PDQ_BYTES] for _, pdq in kept), np.uint8).reshape(-1, _PDQ_BYTES)
        least: dict[int, int] = {}
        for work in sought:
            within = self._limits.of_bank(work.work.bank).pdq.flag_within_bits
            if within is None or work.work.standing(datetime.now(UTC)) is not Disposition.PROTECT:
                continue
            bits, _ = least_bits(work.pdq, hashes, np.arange(len(kept)), len(kept))
            for at in np.flatnonzero(bits <= within).tolist():
                case_id = kept[at][0]
                least[case_id] = min(int(bits[at]), least.get(case_id, int(bits[at])))
        return tuple(sorted(least.items(), key=lambda item: (item[1], item[0])))


def _verdict_id(job_id: str, release: Release) -> str:
    """The same for the same job and output, so that a job that is run again doubles nothing."""
    return hashlib.sha256(f"rescan {job_id} {release.verdict_id} {release.manifest_id}".encode()).hexdigest()[:32]


def _as_png(jpeg: bytes) -> bytes:
    file = io.BytesIO()
    with Image.open(io.BytesIO(jpeg)) as image:
        image.convert("RGB").save(file, "PNG")
    return file.getvalue()
