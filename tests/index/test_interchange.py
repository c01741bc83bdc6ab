"""Hash lists of ours: what leaves, what comes in, in which order, and that nothing of a damaged one is taken."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
import rfc8785
from stored import DIMENSIONS, HEADER, SPEC, asked, ids, made_index, made_up

from guardrail.errors import HashListUnusable, IndexDamaged
from guardrail.index import FolderIndex
from guardrail.index.interchange import (
    ORIGINS,
    HashList,
    ListSigner,
    Seal,
    Trusted,
    Wanted,
    export_list,
    find_former,
    import_list,
    read_origins,
)
from guardrail.index.interchange.form import ListedWork, canonical
from guardrail.records import Disposition, Sampling, Signal

WHO = Trusted("somebody", "a" * 64)
SUFFIXES = pytest.mark.parametrize("suffix", ["jsonl", "parquet"])


@pytest.fixture
def mine(tmp_path):
    return made_index(tmp_path / "mine", range(5))


@pytest.fixture
def theirs(tmp_path):
    header = HEADER.model_copy(update={"built_at": datetime(2026, 2, 2, tzinfo=UTC)})
    return made_index(tmp_path / "theirs", header=header)


def exported(index, path, seal=None, **wanted):
    return export_list(index.pinned(), path, Wanted(**wanted), seal or Seal())


def imported(index, path, trusted=WHO, bank=None):
    listed = HashList(path)
    return import_list(index, listed, listed.survey(lambda done, total: None, bank), trusted, bank=bank)


def delta(index, path, former, **wanted):
    return exported(index, path, former=find_former(str(former), path.parent), **wanted)


def entries(path):
    listed = HashList(path)
    return [item.entry for item in listed.items(listed.survey(lambda done, total: None).sha256)]


def everything(index):
    """Every row as it is kept, by bank and id, apart from where it came from."""
    found = {}
    for batch in index.export_batches():
        for at, work in enumerate(batch.works):
            columns = {name: rows[at].tobytes() for name, rows in batch.arrays.items()}
            facts = work.model_dump(exclude={"source", "title"})
            digests = (batch.file_sha256[at], batch.pixels_sha256[at])
            found[work.bank, work.work_id] = (facts, digests, columns)
    return found


@SUFFIXES
def test_work_comes_in_as_it_went_out(mine, theirs, tmp_path, suffix):
    facts = {
        "title": "Böses \N{FOX FACE}",
        "creator": "A",
        "rights_holder": "B",
        "licence": "CC0-1.0",
        "disposition": Disposition.CREDIT,
        "multiplicity": 7,
        "opted_out_at": datetime(2026, 3, 4, 5, 6, 7, 100000, timezone(timedelta(hours=2))),
        "expires_at": datetime(9999, 1, 1, tzinfo=UTC),
    }
    mine.put(made_up([9], bank="other", **facts))
    exported(mine, tmp_path / f"a.{suffix}", vectors=True)
    change = imported(theirs, tmp_path / f"a.{suffix}").change
    assert (change.added, change.works) == (6, 6)
    came, went = everything(theirs), everything(mine)
    for columns in went.values():
        del columns[2]["pixels"]
    assert came == went
    assert next(work for work in theirs.works if work.bank == "other").title == facts["title"]


@SUFFIXES
def test_imported_work_is_found_by_its_hashes(mine, theirs, tmp_path, suffix):
    exported(mine, tmp_path / f"a.{suffix}")
    imported(theirs, tmp_path / f"a.{suffix}")
    near = [near for near in theirs.search(asked(made_up([3])), 1)[0] if near.distance_bits == 0]
    assert {one.work.work_id for one in near} == {"work-3"}
    assert {one.signal for one in near} == {Signal.BYTES, Signal.PIXELS, Signal.PDQ, Signal.PHASH}


@pytest.mark.parametrize("count", [1, 2])
def test_index_of_very_few_hashes_finds_them(theirs, tmp_path, count):
    exported(made_index(tmp_path / "few", range(count)), tmp_path / "a.jsonl")
    imported(theirs, tmp_path / "a.jsonl")
    found = theirs.search(asked(made_up(range(count))), 5)
    assert all(any(one.signal is Signal.PDQ and one.distance_bits == 0 for one in near) for near in found)


@SUFFIXES
def test_no_path_and_no_file_name_leaves(tmp_path, suffix):
    index = made_index(tmp_path / "mine")
    rows = replace(made_up([1, 2, 3]), files=("Secret/Folder/wolf-a.png", "Secret/wolf-b.png", "wolf-c"))
    titles = ("wolf-a", "wolf-b.png", "The wolf")
    index.put(
        replace(
            rows,
            works=tuple(
                work.model_copy(update={"title": title, "source": "/home/Secret/x"})
                for work, title in zip(rows.works, titles, strict=True)
            ),
        )
    )
    exported(index, tmp_path / f"a.{suffix}")
    assert [entry.title for entry in entries(tmp_path / f"a.{suffix}")] == ["", "", "The wolf"]
    content = (tmp_path / f"a.{suffix}").read_bytes()
    assert not re.search(rb"Secret|wolf-[abc]|/home|preview", content)


def test_list_is_made_of_canonical_json(mine, tmp_path):
    mine.put(made_up([9], title='\N{FOX FACE} é "quoted" \\ \u2028', multiplicity=2**53 - 1))
    exported(mine, tmp_path / "a.jsonl", vectors=True)
    lines = (tmp_path / "a.jsonl").read_bytes().splitlines(keepends=True)
    assert [rfc8785.dumps(json.loads(line)) + b"\n" for line in lines] == lines
    foot = json.loads(lines[-1])
    assert foot["sha256"] == hashlib.sha256(b"".join(lines[:-1])).hexdigest()


def test_pdq_is_written_as_its_hex_text(mine, tmp_path):
    exported(mine, tmp_path / "a.jsonl")
    bits = np.unpackbits(made_up([0]).arrays["pdq"][0])
    assert int(entries(tmp_path / "a.jsonl")[0].pdq, 16) == int("".join(map(str, bits)), 2)


def test_both_forms_have_the_same_digest_of_the_same_state(mine, tmp_path, monkeypatch):
    class Stopped(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2026, 5, 5, tzinfo=tz)

    monkeypatch.setattr("guardrail.index.interchange.writing.datetime", Stopped)
    seal = Seal(ListSigner(name="me", chain="..."), lambda content: base64.b64encode(content).decode())
    made = [exported(mine, tmp_path / name, seal, vectors=True).foot for name in ("a.jsonl", "a.parquet")]
    assert made[0] == made[1]
    assert base64.b64decode(made[0].signature).hex() == made[0].sha256


def test_head_says_what_it_is_of(mine, tmp_path):
    mine.put(made_up([1], bank="other"))
    head = exported(mine, tmp_path / "a.jsonl", bank="other").head
    assert (head.works, head.withdrawn, head.snapshot, head.bank) == (1, 0, mine.header.snapshot, "other")
    assert (head.built_at, head.embedders, head.hashes) == (HEADER.built_at, HEADER.embedders, HEADER.hashes)
    assert head.origin != exported(mine, tmp_path / "b.jsonl").head.origin
    assert HashList(tmp_path / "a.jsonl").head == head


def test_withdrawn_rows_do_not_leave(mine, tmp_path):
    mine.withdraw([("default", "work-2")])
    mine.put(made_up([3], look="new"))
    exported(mine, tmp_path / "a.jsonl")
    assert [entry.work_id for entry in entries(tmp_path / "a.jsonl")] == ["work-0", "work-1", "work-4", "work-3"]


def test_export_leaves_what_is_there(mine, tmp_path):
    exported(mine, tmp_path / "a.jsonl")
    before = (tmp_path / "a.jsonl").read_bytes()
    with pytest.raises(HashListUnusable, match="--overwrite"):
        exported(mine, tmp_path / "a.jsonl")
    with pytest.raises(HashListUnusable, match=r"\.jsonl or \.parquet"):
        exported(mine, tmp_path / "a.csv")
    with pytest.raises(HashListUnusable, match="make it"):
        exported(mine, tmp_path / "nowhere" / "a.jsonl")

    def fails(content):
        raise OSError("the key is gone")

    with pytest.raises(HashListUnusable, match="the key is gone"):
        export_list(mine.pinned(), tmp_path / "a.jsonl", Wanted(), Seal(None, fails), overwrite=True)
    assert (tmp_path / "a.jsonl").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["a.jsonl"]


def test_id_that_cannot_be_written_is_named(mine, tmp_path):
    bad = made_up([7])
    mine.put(replace(bad, works=(bad.works[0].model_copy(update={"work_id": "a\nb", "title": "\x1b[31m"}),)))
    with pytest.raises(HashListUnusable, match=r"U\+000A"):
        exported(mine, tmp_path / "a.jsonl")
    mine.withdraw([("default", "a\nb")])
    mine.put(replace(bad, works=(bad.works[0].model_copy(update={"title": "\x1b[31m"}),)))
    exported(mine, tmp_path / "a.jsonl")
    assert entries(tmp_path / "a.jsonl")[-1].title == "\N{REPLACEMENT CHARACTER}[31m"


def test_hash_of_a_flat_picture_does_not_leave(mine, tmp_path):
    flat = made_up([7])
    flat.arrays["pdq"][:] = 0
    mine.put(flat)
    exported(mine, tmp_path / "a.jsonl")
    assert entries(tmp_path / "a.jsonl")[-1].pdq is None
    assert entries(tmp_path / "a.jsonl")[-1].phash is not None


# --- in its order ---------------------------------------------------------------------------------------------


@SUFFIXES
def test_delta_says_what_changed_and_what_was_withdrawn(mine, theirs, tmp_path, suffix):
    full, change = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    exported(mine, full)
    mine.withdraw([("default", "work-2")])
    mine.put(made_up([3], look="new"))
    mine.put(made_up([8]))
    head = delta(mine, change, full).head
    assert (head.works, head.withdrawn) == (2, 1)
    assert [entry.work_id for entry in entries(change)] == ["work-3", "work-8", "work-2"]
    imported(theirs, full)
    done = imported(theirs, change).change
    assert (done.added, done.replaced, done.withdrawn, done.works) == (1, 1, 1, 5)
    exported(mine, tmp_path / "all.jsonl", vectors=True)
    assert ids(theirs) == ids(mine)
    assert {key: row[1] for key, row in everything(theirs).items()} == {
        key: row[1] for key, row in everything(mine).items()
    }


def test_delta_follows_on_deltas_by_file_and_by_snapshot(mine, theirs, tmp_path):
    lists = tmp_path / "lists"
    lists.mkdir()
    exported(mine, lists / "a.jsonl")
    mine.withdraw([("default", "work-2")])
    second = delta(mine, lists / "b.parquet", lists / "a.jsonl").head
    mine.put(made_up([2]))
    mine.withdraw([("default", "work-0")])
    third = delta(mine, lists / "c.jsonl", second.snapshot[:10]).head
    assert (third.works, third.withdrawn) == (1, 1)
    mine.put(made_up([0]))
    fourth = delta(mine, lists / "d.jsonl", lists / "c.jsonl").head
    assert (fourth.works, fourth.withdrawn) == (1, 0)
    for name in ("a.jsonl", "b.parquet", "c.jsonl", "d.jsonl"):
        imported(theirs, lists / name)
    assert ids(theirs) == ids(mine)


def test_delta_needs_the_lists_before_it(mine, tmp_path):
    exported(mine, tmp_path / "a.jsonl")
    delta(mine, tmp_path / "b.jsonl", tmp_path / "a.jsonl")
    (tmp_path / "a.jsonl").unlink()
    with pytest.raises(HashListUnusable, match="put it there, or export a full list"):
        find_former(str(tmp_path / "b.jsonl"), tmp_path)
    with pytest.raises(HashListUnusable, match="no such snapshot"):
        find_former("ffffffffff", tmp_path)
    exported(
        made_index(tmp_path / "x", header=HEADER.model_copy(update={"built_at": datetime.now(UTC)})),
        tmp_path / "x.jsonl",
    )
    with pytest.raises(HashListUnusable, match="export a full list"):
        delta(mine, tmp_path / "c.jsonl", tmp_path / "x.jsonl")


def test_delta_out_of_turn_is_refused_and_nothing_changes(mine, theirs, tmp_path):
    exported(mine, tmp_path / "a.jsonl")
    for number, name in enumerate("bcd"):
        mine.withdraw([("default", f"work-{number}")])
        delta(mine, tmp_path / f"{name}.jsonl", sorted(tmp_path.glob("?.jsonl"))[-1])
    with pytest.raises(HashListUnusable, match="import the full list that it goes on from"):
        imported(theirs, tmp_path / "b.jsonl")
    imported(theirs, tmp_path / "a.jsonl")
    imported(theirs, tmp_path / "b.jsonl")
    before = theirs.header
    with pytest.raises(HashListUnusable, match="import the lists in between in their order"):
        imported(theirs, tmp_path / "d.jsonl")
    with pytest.raises(HashListUnusable, match="an old one would undo changes"):
        imported(theirs, tmp_path / "a.jsonl")
    assert theirs.header == before
    imported(theirs, tmp_path / "c.jsonl")
    imported(theirs, tmp_path / "d.jsonl")
    assert ids(theirs) == ["work-3", "work-4"]


def test_importing_again_changes_nothing(mine, theirs, tmp_path):
    exported(mine, tmp_path / "a.jsonl")
    mine.withdraw([("default", "work-2")])
    delta(mine, tmp_path / "b.jsonl", tmp_path / "a.jsonl")
    for name in ("a.jsonl", "b.jsonl"):
        imported(theirs, tmp_path / name)
        before = theirs.header
        again = imported(theirs, tmp_path / name).change
        assert (again.added, again.replaced, again.withdrawn) == (0, 0, 0)
        assert theirs.header == before


def test_full_list_takes_the_place_of_the_one_before(mine, theirs, tmp_path):
    theirs.put(made_up([50]))
    exported(mine, tmp_path / "a.jsonl")
    imported(theirs, tmp_path / "a.jsonl")
    mine.withdraw([("default", "work-2")])
    exported(mine, tmp_path / "b.jsonl")
    assert imported(theirs, tmp_path / "b.jsonl").change.withdrawn == 1
    assert ids(theirs) == ["work-0", "work-1", "work-3", "work-4", "work-50"]


def test_interrupted_import_is_finished_by_the_same_list(mine, theirs, tmp_path, monkeypatch):
    exported(mine, tmp_path / "a.jsonl")
    imported(theirs, tmp_path / "a.jsonl")
    mine.withdraw([("default", "work-2")])
    mine.put(made_up([8]))
    delta(mine, tmp_path / "b.jsonl", tmp_path / "a.jsonl")
    mine.put(made_up([9]))
    delta(mine, tmp_path / "c.jsonl", tmp_path / "b.jsonl")
    with monkeypatch.context() as patched:
        patched.setattr(FolderIndex, "withdraw", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            imported(theirs, tmp_path / "b.jsonl")
    assert "work-8" in ids(theirs)
    with pytest.raises(HashListUnusable, match="interrupted"):
        imported(theirs, tmp_path / "c.jsonl")
    imported(theirs, tmp_path / "b.jsonl")
    imported(theirs, tmp_path / "c.jsonl")
    assert ids(theirs) == ids(mine)


def test_record_of_origins_is_checked(mine, theirs, tmp_path):
    exported(mine, tmp_path / "a.jsonl")
    imported(theirs, tmp_path / "a.jsonl")
    record = theirs.folder / ORIGINS
    content = record.read_text()
    for spoilt in (content.replace("somebody", "nobody"), content[:-9], "[" * 5000):
        record.write_text(spoilt)
        with pytest.raises(IndexDamaged, match=ORIGINS):
            imported(theirs, tmp_path / "a.jsonl")
    record.write_text(content)
    with pytest.raises(IndexDamaged, match="built at"):
        read_origins(theirs.folder, datetime(2000, 1, 1, tzinfo=UTC))
    assert len(read_origins(theirs.folder, theirs.header.built_at).origins) == 1


def test_record_of_origins_survives_compaction(mine, theirs, tmp_path):
    exported(mine, tmp_path / "a.jsonl")
    imported(theirs, tmp_path / "a.jsonl")
    theirs.compact()
    assert (theirs.folder / ORIGINS).exists()


# --- whose works ----------------------------------------------------------------------------------------------


def test_works_from_elsewhere_are_left_as_they_are(mine, theirs, tmp_path):
    theirs.put(made_up([2], look="own"))
    exported(mine, tmp_path / "a.jsonl")
    report = imported(theirs, tmp_path / "a.jsonl")
    assert (report.change.added, report.clashes, report.clashing) == (4, ["default/work-2"], 1)
    mine.withdraw([("default", "work-2")])
    delta(mine, tmp_path / "b.jsonl", tmp_path / "a.jsonl")
    report = imported(theirs, tmp_path / "b.jsonl")
    assert (report.change.withdrawn, report.clashes) == (0, ["default/work-2"])
    assert "pixels" in theirs.kept([("default", "work-2")]).arrays


def test_other_signer_of_the_same_origin_touches_nothing(mine, theirs, tmp_path):
    exported(mine, tmp_path / "a.jsonl")
    imported(theirs, tmp_path / "a.jsonl")
    before = everything(theirs)
    mine.put(made_up([1], look="forged"))
    exported(mine, tmp_path / "b.jsonl")
    report = imported(theirs, tmp_path / "b.jsonl", Trusted("another", "b" * 64))
    assert report.clashing == 5
    assert everything(theirs) == before


def test_works_may_be_put_into_one_bank(mine, theirs, tmp_path):
    mine.put(made_up([7], bank="other"))
    exported(mine, tmp_path / "a.jsonl")
    imported(theirs, tmp_path / "a.jsonl", bank="partners")
    assert theirs.header.banks == {"partners": 6}
    mine.withdraw([("other", "work-7")])
    delta(mine, tmp_path / "b.jsonl", tmp_path / "a.jsonl")
    assert imported(theirs, tmp_path / "b.jsonl", bank="partners").change.withdrawn == 1


# --- other specifications -------------------------------------------------------------------------------------


@SUFFIXES
def test_vectors_of_another_embedder_are_left_out_and_hashes_count(mine, tmp_path, suffix):
    other = SPEC.model_copy(update={"weights_sha256": "b" * 64})
    header = HEADER.model_copy(update={"embedders": {"copy": other}, "built_at": datetime(2026, 2, 2, tzinfo=UTC)})
    index = made_index(tmp_path / "theirs", header=header)
    exported(mine, tmp_path / f"a.{suffix}", vectors=True)
    report = imported(index, tmp_path / f"a.{suffix}")
    assert report.change.added == 5
    assert [(count, "another embedder" in why) for why, count in report.left_out.items()] == [(5, True)]
    assert set(next(index.export_batches()).arrays) == {"pdq", "phash"}


def test_hashes_of_another_version_are_left_out(mine, tmp_path):
    header = HEADER.model_copy(update={"hashes": {"pdq": "2", "phash": "1"}})
    index = made_index(tmp_path / "theirs", header=header)
    exported(mine, tmp_path / "a.jsonl")
    imported(index, tmp_path / "a.jsonl")
    assert set(next(index.export_batches()).arrays) == {"phash"}
    header = HEADER.model_copy(update={"hashes": {"pdq": "2", "phash": "2"}})
    index = made_index(tmp_path / "strange", header=header)
    with pytest.raises(HashListUnusable, match="build an index of that specification"):
        imported(index, tmp_path / "a.jsonl")
    assert index.header.works == 0


def test_tile_vectors_come_in_where_tiles_are_the_same(tmp_path):
    header = HEADER.model_copy(update={"sampling": Sampling(tiles=5)})
    index = made_index(tmp_path / "mine", header=header)
    rows = made_up([1])
    index.put(replace(rows, arrays={**rows.arrays, "tiles": rows.arrays["copy"][:, None].repeat(4, 1)}))
    exported(index, tmp_path / "a.parquet", vectors=True)
    same = made_index(tmp_path / "same", header=header)
    imported(same, tmp_path / "a.parquet")
    assert next(same.export_batches()).arrays["tiles"].shape == (1, 4, DIMENSIONS)
    none = made_index(tmp_path / "none")
    assert "tile vectors of another specification" in imported(none, tmp_path / "a.parquet").left_out
    assert set(next(none.export_batches()).arrays) == {"pdq", "phash", "copy"}


def test_work_with_a_digest_alone_comes_in(theirs, tmp_path):
    index = made_index(tmp_path / "mine")
    rows = made_up([1])
    index.put(replace(rows, arrays={}))
    exported(index, tmp_path / "a.jsonl")
    imported(theirs, tmp_path / "a.jsonl")
    assert {near.signal for near in theirs.search(asked(rows), 3)[0]} == {Signal.BYTES, Signal.PIXELS}


def test_line_of_a_work_says_only_what_there_is():
    work = ListedWork(bank="b", work_id="w", disposition="protect", pdq="a" * 64)
    assert canonical(work.line()) == (
        b'{"bank":"b","disposition":"protect","kind":"work","pdq":"' + b"a" * 64 + b'","work_id":"w"}\n'
    )
