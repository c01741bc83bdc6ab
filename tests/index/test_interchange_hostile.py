"""Lists that are cut, edited or written to do harm: typed errors, named lines, and nothing else is lost."""

import base64
import hashlib
import json
import re
import tracemalloc

import numpy as np
import pytest
from stored import HEADER, ids, made_index

from guardrail.errors import HashListUnusable
from guardrail.index.interchange import HashList, Seal, Trusted, Wanted, export_list, import_list
from guardrail.index.interchange.form import canonical

PDQ = "a5" * 32


def listed(path, lines, **head):
    """A list of ours with a right foot, whatever its lines say."""
    said = {
        "kind": "head",
        "format": "guardrail-hash-list",
        "version": 1,
        "origin": "0" * 32,
        "snapshot": "1" * 64,
        "built_at": "2026-01-01T00:00:00Z",
        "made_at": "2026-01-02T00:00:00Z",
        "works": len(lines),
        "withdrawn": 0,
        "hashes": HEADER.hashes,
        "embedders": {"copy": HEADER.embedders["copy"].model_dump()},
        "sampling": HEADER.sampling.model_dump(),
    }
    content = canonical(said | head) + b"".join(line.rstrip(b"\n") + b"\n" for line in lines)
    foot = {"kind": "foot", "lines": 1 + len(lines), "sha256": hashlib.sha256(content).hexdigest(), "signature": None}
    path.write_bytes(content + canonical(foot))
    return path


def work(**said):
    return canonical({"kind": "work", "bank": "b", "work_id": "w", "disposition": "protect", "pdq": PDQ} | said)


def imported(index, path):
    one = HashList(path)
    return import_list(index, one, one.survey(lambda done, total: None), Trusted("", "unsigned"))


BAD = {
    "not JSON": (b"{", "Expecting"),
    "not UTF-8": (b'{"kind":"work","bank":"\xff"}', "utf-8"),
    "an array": (b"[1, 2]", "kind None"),
    "nested too deep": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "too deep"),
    "a line of 3 MB": (work(title="x" * 3_000_000), "too long"),
    "a number of a million digits": (b'{"kind":' + b"9" * 900_000 + b"}", "digits"),
    "NaN": (b'{"kind":"work","multiplicity":NaN}', "NaN"),
    "a field twice": (b'{"kind":"work","kind":"work"}', "twice"),
    "an unknown kind": (b'{"kind":"order"}', "'order'"),
    "an unknown field": (work(path="/etc/passwd"), "path"),
    "no disposition": (b'{"kind":"work","bank":"b","work_id":"w"}', "disposition"),
    "an odd disposition": (work(disposition="delete"), "disposition"),
    "an empty id": (work(work_id=""), "work_id"),
    "a long title": (work(title="x" * 5000), "title"),
    "a control character": (work(title="\x1b[2J"), r"U\+001B"),
    "a line feed in an id": (work(work_id="a\nb"), r"U\+000A"),
    "half a surrogate pair": (b'{"kind":"work","bank":"b","work_id":"\\ud800","disposition":"protect"}', "unicode"),
    "a number as an id": (work(work_id=7), "work_id"),
    "hex that is too short": (work(pdq=PDQ[:-1]), "pdq"),
    "hex that is none": (work(pdq="g" * 64), "pdq"),
    "hex in capitals": (work(pdq=PDQ.upper()), "pdq"),
    "the hash of a flat picture": (work(pdq="0" * 64), "flat"),
    "a short pHash": (work(phash="00"), "phash"),
    "no hash at all": (work(pdq=None), "nothing could be compared"),
    "a date without a zone": (work(expires_at="2026-01-01T00:00:00"), "expires_at"),
    "a date outside the calendar": (work(expires_at="0001-01-01T00:00:00+14:00"), "calendar"),
    "no copies": (work(multiplicity=0), "multiplicity"),
    "vectors that are no base64": (work(vectors={"copy": "?"}), "base64|Only"),
    "vectors that are too short": (work(vectors={"copy": "AAAA"}), "3 bytes of vectors, expected 32"),
    "vectors of no length": (work(vectors={"copy": base64.b64encode(bytes(32)).decode()}), "unit length"),
    "vectors of NaN": (work(vectors={"copy": base64.b64encode(b"\xff\x7f" * 16).decode()}), "unit length"),
    "vectors nobody spoke of": (work(vectors={"clip": "AAAA"}), "of which the head says nothing|nothing"),
    "unknown vectors": (work(vectors={"deep": "AAAA"}), "vectors"),
    "a withdrawal of nothing": (b'{"kind":"withdrawn","bank":"b"}', "work_id"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_line_is_named_and_the_others_come_in(tmp_path, what):
    line, said = BAD[what]
    index = made_index(tmp_path / "index")
    lines = [work(work_id="before"), line, work(work_id="after")]
    header = HEADER.embedders["copy"].model_dump()
    path = listed(tmp_path / "a.jsonl", lines, embedders={"copy": header}, vectors=["copy"])
    report = imported(index, path)
    if what == "vectors nobody spoke of":
        assert report.left_out  # of an embedder that neither has: the hash still counts
        assert ids(index) == ["after", "before", "w"]
        return
    assert ids(index) == ["after", "before"]
    assert report.bad_lines == 1
    assert report.bad[0][0] == 3
    assert re.search(said, report.bad[0][1]), report.bad


def test_work_that_stands_there_twice_is_taken_once_and_named(tmp_path):
    index = made_index(tmp_path / "index")
    lines = [
        work(),
        work(work_id="v"),
        work(pdq="c3" * 32),
        canonical({"kind": "withdrawn", "bank": "b", "work_id": "v"}),
    ]
    report = imported(index, listed(tmp_path / "a.jsonl", lines))
    assert [number for number, _ in report.bad] == [4, 5]
    assert index.kept([("b", "w")]).arrays["pdq"][0].tobytes().hex() == PDQ
    assert ids(index) == ["v", "w"]


HEADS = {
    "version": ({"version": 2}, "version 2"),
    "format": ({"format": "other"}, "another kind"),
    "unknown field": ({"surprise": 1}, "surprise"),
    "origin": ({"origin": "../../etc"}, "origin"),
    "counts": ({"works": -1}, "works"),
    "dimensions": ({"embedders": {"copy": {"name": "x"}}}, "embedders"),
}


@pytest.mark.parametrize("what", HEADS)
def test_head_that_is_none_is_refused(tmp_path, what):
    said, found = HEADS[what]
    with pytest.raises(HashListUnusable, match=found):
        HashList(listed(tmp_path / "a.jsonl", [work()], **said))


@pytest.mark.parametrize(
    "content", [b"", b"\0\0", b"PAR1", b"PAR1" + bytes(100) + b"PAR1", b"\n\n", b"null", b"x" * 2**21]
)
def test_file_that_is_no_list_is_refused(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(HashListUnusable):
        HashList(tmp_path / "a")
    with pytest.raises(HashListUnusable):
        HashList(tmp_path / "nowhere")


def test_cut_or_edited_list_changes_nothing(tmp_path):
    index, theirs = made_index(tmp_path / "mine", range(3)), made_index(tmp_path / "theirs")
    export_list(index.pinned(), tmp_path / "a.jsonl", Wanted(), Seal())
    whole = (tmp_path / "a.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    chance = np.random.default_rng(1)
    spoilt = [whole[:cut] for cut in chance.integers(1, len(whole) - 1, 20).tolist()]
    spoilt += [b"".join(lines[:2] + lines[3:]), b"".join(lines[:-1]), b"".join([lines[0], *lines[2:0:-1], *lines[3:]])]
    spoilt += [whole + b"\n", whole + lines[1], whole.replace(b'"works":3', b'"works":4')]
    for at in chance.integers(0, len(whole) - 1, 40).tolist():
        spoilt.append(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    for content in spoilt:
        (tmp_path / "b.jsonl").write_bytes(content)
        with pytest.raises(HashListUnusable):
            imported(theirs, tmp_path / "b.jsonl")
    assert theirs.header.works == 0


def test_cut_or_edited_parquet_changes_nothing(tmp_path):
    index, theirs = made_index(tmp_path / "mine", range(3)), made_index(tmp_path / "theirs")
    export_list(index.pinned(), tmp_path / "a.parquet", Wanted(vectors=True), Seal())
    whole = (tmp_path / "a.parquet").read_bytes()
    chance = np.random.default_rng(1)
    refused = 0
    for at in chance.integers(0, len(whole) - 1, 60).tolist():
        for content in (whole[:at], whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]):
            (tmp_path / "b.parquet").write_bytes(content)
            try:
                report = imported(theirs, tmp_path / "b.parquet")
            except HashListUnusable:
                refused += 1
            else:  # a byte that means nothing, such as a statistic: then what it says is what was written
                assert (report.change.added + report.change.unchanged, report.bad_lines) == (3, 0)
    assert refused > 100


def test_list_that_changes_while_it_is_read_is_told(tmp_path):
    theirs = made_index(tmp_path / "theirs")
    path = listed(tmp_path / "a.jsonl", [work()])
    one = HashList(path)
    survey = one.survey(lambda done, total: None)
    listed(path, [work(pdq="c3" * 32)])
    with pytest.raises(HashListUnusable, match="changed while it was read"):
        import_list(theirs, one, survey, Trusted("", "unsigned"))


def test_huge_line_is_not_held_in_memory(tmp_path):
    path = tmp_path / "a.jsonl"
    listed(path, [work(work_id="before"), work(title="x" * 60_000_000), work(work_id="after")])
    index = made_index(tmp_path / "index")
    tracemalloc.start()
    try:
        report = imported(index, path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (ids(index), report.bad_lines) == (["after", "before"], 1)
    assert peak < 20_000_000


def test_parquet_of_others_with_our_head_is_checked(tmp_path):
    """Columns of other types, nested ones, and rows that say nothing are named or refused."""
    import pyarrow as pa
    from pyarrow import parquet

    index = made_index(tmp_path / "mine", range(1))
    export_list(index.pinned(), tmp_path / "a.parquet", Wanted(), Seal())
    metadata = parquet.read_metadata(tmp_path / "a.parquet").metadata
    kept = {key: metadata[key] for key in (b"guardrail.head", b"guardrail.foot")}
    for table in (
        pa.table({"work_id": [1], "bank": [{"a": [1]}]}),
        pa.table({"copy": [[1.0]], "withdrawn": [True]}),
        pa.table({"bank": ["b"], "work_id": [b"\xff"]}),
        pa.table({"x": pa.array([], pa.int8())}),
    ):
        parquet.write_table(table.replace_schema_metadata(kept), tmp_path / "b.parquet")
        with pytest.raises(HashListUnusable):
            imported(
                made_index(tmp_path / f"index-{table.num_columns}-{table.column_names[0]}"), tmp_path / "b.parquet"
            )


def test_reports_name_a_thousand_lines_and_count_all(tmp_path):
    index = made_index(tmp_path / "index")
    report = imported(index, listed(tmp_path / "a.jsonl", [b"{}"] * 1500 + [work()]))
    assert (report.bad_lines, len(report.bad), ids(index)) == (1500, 1000, ["w"])


def test_many_works_of_many_kinds_come_in_in_few_steps(tmp_path, monkeypatch):
    lines = []
    for number in range(300):
        said = {"work_id": f"w{number}", "pdq": hashlib.sha256(str(number).encode()).hexdigest()}
        lines.append(work(**said | ({"phash": "0f" * 8} if number % 2 else {})))
    index = made_index(tmp_path / "index")
    steps = []
    put = type(index).put
    monkeypatch.setattr(type(index), "put", lambda self, rows: steps.append(len(rows)) or put(self, rows))
    imported(index, listed(tmp_path / "a.jsonl", lines))
    assert sorted(steps) == [150, 150]
    assert index.header.works == 300
    assert json.loads((index.folder / "ORIGINS.json").read_text())["schema_version"] == 1
