"""What every index backend must do, checked against brute force, and made-up fingerprints and rows to check it with."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from guardrail.carriers import Fingerprints, IndexRows
from guardrail.errors import IndexMismatch, PictureNotKept
from guardrail.records import VIEWS, Disposition, Neighbour, Signal, Work

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from guardrail.protocols import IndexBackend, WritableIndex

__all__ = ["IndexContract", "WritableIndexContract", "made_up_prints", "made_up_rows"]


def made_up_prints(count: int, seed: int = 0, dimensions: int = 16) -> Fingerprints:
    """Random fingerprints of `count` images, as a search or an index sees them."""
    chance = np.random.default_rng(seed)
    vectors = chance.normal(size=(count, dimensions)).astype(np.float32)
    digests = tuple(hashlib.sha256(f"{seed}/{at}".encode()).hexdigest() for at in range(count))
    return Fingerprints(
        failures=(None,) * count,
        file_sha256=digests,
        pixels_sha256=digests,
        pdq=chance.integers(0, 256, (count, len(VIEWS), 32), np.uint8),
        pdq_quality=np.full(count, 100, np.int64),
        phash=chance.integers(0, 256, (count, len(VIEWS), 8), np.uint8),
        copy=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
    )


def made_up_rows(prints: Fingerprints, works: Sequence[Work], columns: Sequence[str] = ()) -> IndexRows:
    """What an index keeps of works, the n-th with the n-th fingerprint in its identity view and a picture of its own.

    Args:
        prints: as `made_up_prints` makes them.
        works: as many as there are fingerprints.
        columns: those to keep of `pdq`, `phash`, `copy` and `pixels`; all by default.
    """
    count = len(works)
    arrays: dict[str, NDArray[Any]] = {
        "pdq": prints.pdq[:, 0],
        "phash": prints.phash[:, 0],
        "copy": prints.copy.astype(np.float16),
        "pixels": np.random.default_rng(count).integers(0, 256, (count, 32, 32, 3), np.uint8),
    }
    return IndexRows(
        works=tuple(works),
        files=tuple(f"{work.work_id}.png" for work in works),
        file_sha256=prints.file_sha256,
        pixels_sha256=prints.pixels_sha256,
        arrays={name: array for name, array in arrays.items() if not columns or name in columns},
        previews=tuple(b"\xff\xd8" + work.work_id.encode() if not columns else b"" for work in works),
    )


class IndexContract:
    """What every index backend must do, checked against brute force. Subclass it and implement `backend`."""

    @abstractmethod
    def backend(self, prints: Fingerprints, works: Sequence[Work]) -> IndexBackend:
        """An index of these works (work n has fingerprint n; its hash is that of view 0)."""

    def _made(self, count: int) -> tuple[IndexBackend, Fingerprints]:
        prints = made_up_prints(count)
        return self.backend(prints, [Work(work_id=f"work-{at}") for at in range(count)]), prints

    def test_search_agrees_with_brute_force(self) -> None:
        """The same works at the same measures, for sizes around the limit asked for."""
        for count in (1, 2, 5, 6, 63, 64, 65):
            index, prints = self._made(count)
            queries = made_up_prints(3, seed=1)
            for row, found in enumerate(index.search(queries, 5)):
                for signal in (Signal.COPY, Signal.PDQ, Signal.PHASH):
                    ours = [_measure(near) for near in found if near.signal is signal]
                    assert np.allclose(ours, _brute_force(prints, queries, row, signal)[:5], atol=1e-5), (count, signal)

    def test_a_work_finds_itself_by_every_signal(self) -> None:
        """Exact matches first, then distance 0 and similarity 1; one row, whatever the signal."""
        index, prints = self._made(10)
        for row, found in enumerate(index.search(prints, 1)):
            assert [near.work.work_id for near in found] == [f"work-{row}"] * 5
            assert len({near.row for near in found}) == 1
            assert [near.signal for near in found[:2]] == [Signal.BYTES, Signal.PIXELS]

    def test_other_rows_never_crowd_out_a_protected_one(self) -> None:
        """More credited, generic and expired rows than the limit, all the same as one protected work: it is found."""
        prints = made_up_prints(1)
        many = _repeated(prints, 40)
        past = datetime(2020, 1, 1, tzinfo=UTC)
        works = [Work(work_id=f"owl-{at}", disposition=Disposition.CREDIT) for at in range(13)]
        works += [Work(work_id=f"sky-{at}", disposition=Disposition.IGNORE) for at in range(13)]
        works += [Work(work_id=f"old-{at}", expires_at=past) for at in range(13)]
        (found,) = self.backend(many, [*works, Work(work_id="fox")]).search(prints, 2)
        for signal in (Signal.BYTES, Signal.PIXELS, Signal.PDQ, Signal.PHASH, Signal.COPY):
            assert "fox" in {near.work.work_id for near in found if near.signal is signal}, signal

    def test_failed_row_finds_nothing(self) -> None:
        """A row that could not be fingerprinted is not searched; the others are."""
        from dataclasses import replace

        from guardrail.records import CheckFailed

        index, prints = self._made(3)
        failed = (None, CheckFailed(check="read_file", image="b", error="broken"), None)
        assert [len(found) > 0 for found in index.search(replace(prints, failures=failed), 1)] == [True, False, True]

    def test_no_query_no_answer(self) -> None:
        """A batch of none is answered with none."""
        index, _ = self._made(2)
        assert index.search(made_up_prints(0), 3) == ()


class WritableIndexContract(IndexContract):
    """What every index that works are put into and withdrawn from must do besides. Implement `empty` and `again`."""

    @abstractmethod
    def empty(self) -> WritableIndex:
        """An index without a work, of the specification of `made_up_prints`."""

    @abstractmethod
    def again(self, index: WritableIndex) -> WritableIndex:
        """The same index, opened as another process opens it."""

    def backend(self, prints: Fingerprints, works: Sequence[Work]) -> IndexBackend:
        """See `IndexContract.backend`."""
        index = self.empty()
        index.put(made_up_rows(prints, works))
        return index

    def _filled(self, count: int) -> tuple[WritableIndex, IndexRows]:
        index, prints = self.empty(), made_up_prints(count)
        rows = made_up_rows(prints, [Work(work_id=f"work-{at}", bank=f"bank-{at % 2}") for at in range(count)])
        index.put(rows)
        return index, rows

    def test_index_without_a_work_finds_nothing(self) -> None:
        """No error, no answer, and a header that says so."""
        index = self.empty()
        assert index.search(made_up_prints(2), 5) == ((), ())
        assert (index.header.works, index.header.banks) == (0, {})

    def test_what_is_put_is_found_at_once_by_whoever_has_it_open(self) -> None:
        """In the object that put it and in one that was opened before."""
        index = self.empty()
        other, prints = self.again(index), made_up_prints(3)
        change = index.put(made_up_rows(prints, [Work(work_id=f"work-{at}") for at in range(3)]))
        assert (change.works, change.added, change.replaced) == (3, 3, 0)
        for one in (index.pinned(), other.pinned(), self.again(index)):
            assert one.header.snapshot == change.snapshot
            assert one.header.works == 3
            assert [near.work.work_id for near in one.search(prints, 1)[2]] == ["work-2"] * 5

    def test_putting_twice_changes_nothing(self) -> None:
        """A retry is harmless: the same state, by name and by what is found."""
        index, rows = self._filled(3)
        before, found = index.pinned().header, index.search(made_up_prints(3), 5)
        change = index.put(rows)
        assert (change.added, change.replaced, change.works) == (0, 0, 3)
        assert change.snapshot == before.snapshot == index.pinned().header.snapshot
        assert index.search(made_up_prints(3), 5) == found

    def test_same_work_put_with_another_picture_is_replaced(self) -> None:
        """It has one row, a new one; its former picture is nobody's."""
        index, rows = self._filled(2)
        fresh = made_up_prints(1, seed=7)
        former = {near.row for near in index.search(made_up_prints(1), 1)[0]}
        change = index.put(made_up_rows(fresh, [rows.works[0].model_copy(update={"title": "Fox"})]))
        assert (change.added, change.replaced, change.works) == (0, 1, 2)
        (found,) = index.search(fresh, 1)
        assert [near.work.title for near in found] == ["Fox"] * 5
        assert former.isdisjoint(near.row for near in found)
        (left,) = index.search(made_up_prints(1), 5)
        assert not [near for near in left if near.signal in (Signal.BYTES, Signal.PIXELS)]
        assert all(near.distance_bits != 0 for near in left)

    def test_what_is_withdrawn_counts_for_nothing_at_once(self) -> None:
        """By no signal, exact ones included, whoever has the index open; what was not there is named."""
        index, _ = self._filled(3)
        other = self.again(index)
        change = index.withdraw([("bank-0", "work-0"), ("bank-1", "work-0"), ("bank-0", "work-0")])
        assert (change.withdrawn, change.works, change.unknown) == (1, 2, ("bank-1/work-0",))
        for one in (index.pinned(), other.pinned(), self.again(index)):
            found = one.search(made_up_prints(3), 5)
            assert "work-0" not in {near.work.work_id for some in found for near in some}
            assert one.header.banks == {"bank-0": 1, "bank-1": 1}
        again = index.withdraw([("bank-0", "work-0")])
        assert (again.withdrawn, again.snapshot) == (0, change.snapshot)

    def test_every_change_gives_the_state_a_new_name(self) -> None:
        """Verdicts name the state that they rest on: no two states have one name."""
        index, rows = self._filled(2)
        names = [index.header.snapshot, index.withdraw([("bank-0", "work-0")]).snapshot, index.put(rows).snapshot]
        assert len({*names, self.again(index).header.snapshot}) == 3

    def test_all_that_was_put_is_kept(self) -> None:
        """Works, digests, columns and pictures come back in the order asked for; putting them back changes nothing."""
        index, rows = self._filled(3)
        kept = index.kept([("bank-0", "work-2"), ("bank-9", "work-9"), ("bank-0", "work-0")])
        assert [kept.works, kept.files] == [(rows.works[2], rows.works[0]), (rows.files[2], rows.files[0])]
        assert kept.file_sha256 == (rows.file_sha256[2], rows.file_sha256[0])
        assert kept.previews == (rows.previews[2], rows.previews[0])
        assert {name: array.dtype for name, array in kept.arrays.items()} == {
            name: array.dtype for name, array in rows.arrays.items()
        }
        assert all(np.array_equal(kept.arrays[name], rows.arrays[name][[2, 0]]) for name in rows.arrays)
        assert index.put(kept).replaced == 0

    def test_pictures_are_those_of_the_row(self) -> None:
        """What proof and people look at is what was put."""
        index, rows = self._filled(3)
        pinned = index.pinned()
        for at, found in enumerate(pinned.search(made_up_prints(3), 1)):
            assert np.array_equal(pinned.proof_pixels(found[0].row), rows.arrays["pixels"][at])
            assert pinned.preview(found[0].row) == rows.previews[at]

    def test_work_of_a_hash_list_is_found_by_its_hash_alone(self) -> None:
        """No vector, no picture: found by PDQ, and whoever asks for its picture is told so."""
        index, prints = self.empty(), made_up_prints(2)
        index.put(made_up_rows(prints, [Work(work_id="a"), Work(work_id="b")], columns=("pdq",)))
        near = [one for one in index.search(prints, 1)[0] if one.signal not in (Signal.BYTES, Signal.PIXELS)]
        assert [(one.signal, one.distance_bits, one.work.work_id) for one in near] == [(Signal.PDQ, 0, "a")]
        for picture in (index.proof_pixels, index.preview):
            try:
                picture(near[0].row)
            except PictureNotKept:
                continue
            raise AssertionError("a picture was made up")

    def test_rows_of_another_specification_are_refused(self) -> None:
        """Vectors of another length of row, or not of unit length: an error, and nothing is changed."""
        index, rows = self._filled(1)
        for prints in (made_up_prints(1, dimensions=8), made_up_prints(1)):
            wrong = made_up_rows(prints, [Work(work_id="wrong")])
            wrong.arrays["copy"][:] *= 2
            try:
                index.put(wrong)
            except IndexMismatch:
                continue
            raise AssertionError("rows of another specification were taken")
        assert index.pinned().header.works == len(rows)

    def test_dates_count_when_a_search_is_made(self) -> None:
        """Works that expired are not near; an opt-out that is due protects what was credited, and one to come not."""
        past, future = datetime(2020, 1, 1, tzinfo=UTC), datetime(2999, 1, 1, tzinfo=UTC)
        credit = Disposition.CREDIT
        index, prints = self.empty(), made_up_prints(1)
        works = [
            Work(work_id="expired", expires_at=past),
            Work(work_id="kept", expires_at=future),
            Work(work_id="opted-out", disposition=credit, opted_out_at=past),
            Work(work_id="licence-ended", disposition=credit, expires_at=past),
            Work(work_id="licensed", disposition=credit, opted_out_at=future, expires_at=future),
            Work(work_id="sky", disposition=Disposition.IGNORE, expires_at=past),
        ]
        index.put(made_up_rows(_repeated(prints, len(works)), works))
        (found,) = index.search(prints, 5)
        near = [one.work for one in found if one.signal is Signal.COPY]
        now = datetime.now(UTC)
        protected = {work.work_id for work in near if work.standing(now) is Disposition.PROTECT}
        assert protected == {"kept", "opted-out", "licence-ended"}
        assert {work.work_id for work in near} - protected == {"licensed"}


def _repeated(prints: Fingerprints, count: int) -> Fingerprints:
    """The first fingerprint, `count` times."""
    return Fingerprints(
        failures=(None,) * count,
        file_sha256=prints.file_sha256[:1] * count,
        pixels_sha256=prints.pixels_sha256[:1] * count,
        pdq=prints.pdq[:1].repeat(count, 0),
        pdq_quality=prints.pdq_quality[:1].repeat(count, 0),
        phash=prints.phash[:1].repeat(count, 0),
        copy=prints.copy[:1].repeat(count, 0),
    )


def _measure(near: Neighbour) -> float:
    return float(near.similarity if near.similarity is not None else near.distance_bits or 0)


def _brute_force(prints: Fingerprints, queries: Fingerprints, row: int, signal: Signal) -> list[float]:
    """Every work's measure, nearest first, in plain NumPy."""
    if signal is Signal.COPY:  # vectors are kept as float16
        stored = prints.copy.astype(np.float16).astype(np.float64)
        return sorted((stored @ queries.copy[row]).tolist(), reverse=True)
    works, asked = getattr(prints, str(signal))[:, 0], getattr(queries, str(signal))[row]
    bits = np.unpackbits(works[:, None] ^ asked[None], axis=-1).sum(-1).min(1)
    return sorted(bits.tolist())
