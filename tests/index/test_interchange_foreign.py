"""PDQ lists as others write them; the forms are those of python-threatexchange 1.2.17 and of HMA."""

import json

import numpy as np
import pytest
from stored import asked, ids, made_index, made_up

from guardrail.errors import HashListUnusable
from guardrail.index.interchange import guess_dialect, import_foreign
from guardrail.records import Signal

ROWS = made_up(range(3))
HEX = tuple(row.tobytes().hex() for row in ROWS.arrays["pdq"])
MD5 = "d41d8cd98f00b204e9800998ecf8427e"
NAMES = sorted(f"pdq-{one}" for one in HEX)

FORMS = {
    "threatexchange hash": ("text", "".join(f"pdq {one}\n" for one in HEX)),
    "hashes alone": ("text", "\r\n".join(one.upper() for one in HEX)),
    "dataset -P": ("text", "".join(f"pdq {one} 'Sample Signals' INVESTIGATION_SEED\n" for one in HEX)),
    "dataset -P -s pdq": ("text", "".join(f"{one} 'Sample Signals' INVESTIGATION_SEED a,b\n" for one in HEX)),
    "dataset -P --csv": (
        "csv",
        "signal_type,signal_str,collab,category,tags\r\n"
        + "".join(f"pdq,{one},Sample Signals,POSITIVE_CLASS,a b\r\n" for one in HEX),
    ),
    "simple.HASH_PDQ.te": ("csv", "".join(f'{one},1234,2021-01-01,"a b"\n' for one in HEX)),
    "pdq-photo-hasher": ("csv", "hash,quality,filename\n" + "".join(f"{one},100,a.jpg\n" for one in HEX)),
    "/threat_updates": (
        "json",
        json.dumps(
            {"data": [{"id": "1", "indicator": one, "type": "HASH_PDQ", "should_delete": False} for one in HEX]}
        ),
    ),
    "/threat_updates, indented": (
        "json",
        json.dumps({"data": [{"id": "1", "indicator": one, "type": "HASH_PDQ"} for one in HEX]}, indent=2),
    ),
    "HMA /c/bank/B/content": (
        "json",
        "".join(json.dumps({"id": 7, "signals": {"pdq": one, "md5": MD5}}) + "\n" for one in HEX),
    ),
    "HMA /c/bank/B/signal": ("json", "".join(json.dumps({"pdq": one}) + "\n" for one in HEX)),
    "HMA matches": (
        "json",
        json.dumps([{"signal_type": "pdq", "signal_hash": one, "tags": ["test"]} for one in HEX]),
    ),
}


def written(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def imported(index, path, bank="exchange"):
    return import_foreign(index, path, guess_dialect(path), bank)


@pytest.fixture
def index(tmp_path):
    return made_index(tmp_path / "index")


@pytest.mark.parametrize("name", FORMS)
def test_form_is_guessed_and_its_hashes_are_found(index, tmp_path, name):
    dialect, text = FORMS[name]
    path = written(tmp_path / "list", text)
    assert guess_dialect(path) == dialect
    report = imported(index, path)
    assert (report.change.added, report.bad, dict(report.left_out)) == (3, [], {})
    assert ids(index) == NAMES
    found = index.search(asked(ROWS), 1)
    assert [[one.distance_bits for one in near if one.signal is Signal.PDQ] for near in found] == [[0]] * 3


def test_contents_of_an_exchange_are_known_by_its_ids(index, tmp_path):
    entries = [{"id": "5", "member_id": 42, "entry_type": "image", "fingerprints": {"PDQ": HEX[0], "MD5": MD5}}]
    imported(index, written(tmp_path / "a", json.dumps(entries)))
    assert ids(index) == ["content-42-5"]
    entries[0]["fingerprints"] = {"PDQ": HEX[1]}
    assert imported(index, written(tmp_path / "b", json.dumps(entries))).change.replaced == 1
    gone = [{"id": "5", "member_id": 42, "deleted": True, "fingerprints": {}}]
    assert imported(index, written(tmp_path / "c", json.dumps(gone))).change.withdrawn == 1


def test_deleted_indicator_is_withdrawn_wherever_it_stands(index, tmp_path):
    def updates(*said):
        return "".join(
            json.dumps({"indicator": one, "type": "HASH_PDQ", "should_delete": gone}) + "\n" for one, gone in said
        )

    imported(index, written(tmp_path / "a", updates((HEX[0], False), (HEX[1], False), (HEX[1], True), (HEX[0], True))))
    assert ids(index) == []
    imported(index, written(tmp_path / "b", updates((HEX[0], True), (HEX[0], False), (HEX[1], False))))
    assert ids(index) == sorted(NAMES[at] for at in range(3) if NAMES[at][4:] in HEX[:2])
    assert imported(index, written(tmp_path / "c", updates((HEX[0], True), (HEX[2], True)))).change.withdrawn == 1


def test_other_signals_and_harmless_entries_are_left_out_and_counted(index, tmp_path):
    csv = "signal_type,signal_str,collab,category,tags\n"
    csv += f"md5,{MD5},c,POSITIVE_CLASS,\nvideo_md5,{MD5},c,POSITIVE_CLASS,\nmd5,{MD5},c,POSITIVE_CLASS,\n"
    csv += f"pdq,{HEX[0]},c,NEGATIVE_CLASS,\npdq,{HEX[1]},c,POSITIVE_CLASS,x\n"
    report = imported(index, written(tmp_path / "a", csv))
    assert ids(index) == [f"pdq-{HEX[1]}"]
    assert dict(report.left_out) == {
        "a signal of the type 'md5'": 2,
        "a signal of the type 'video_md5'": 1,
        "an entry that somebody says is harmless": 1,
    }
    assert index.works[0].title == "c: x"
    said = {"indicator": HEX[2], "type": "HASH_PDQ", "descriptors": {"data": [{"status": "NON_MALICIOUS"}]}}
    assert imported(index, written(tmp_path / "b", json.dumps(said))).left_out.total() == 1
    said["descriptors"]["data"].append({"status": "MALICIOUS"})
    assert imported(index, written(tmp_path / "c", json.dumps(said))).change.added == 1


def test_hash_of_low_quality_is_left_out(index, tmp_path):
    rows = "".join(f"{one},{quality},a.jpg\n" for one, quality in zip(HEX, ("49", "50", "nan"), strict=True))
    report = imported(index, written(tmp_path / "a", "hash,quality,filename\n" + rows))
    assert (ids(index), report.left_out.total()) == ([f"pdq-{HEX[1]}"], 2)


def test_same_hash_again_changes_nothing(index, tmp_path):
    path = written(tmp_path / "a", "".join(f"pdq {one}\n" for one in HEX * 2))
    assert imported(index, path).change.added == 3
    report = imported(index, path)
    assert (report.change.added, report.change.unchanged, report.bad_lines) == (0, 3, 0)


def test_own_work_of_that_id_is_left_as_it_is(index, tmp_path):
    own = made_up([9], bank="exchange")
    work = own.works[0].model_copy(update={"work_id": f"pdq-{HEX[0]}"})
    index.put(type(own)((work,), own.files, own.file_sha256, own.pixels_sha256, own.arrays, own.previews))
    report = imported(index, written(tmp_path / "a", f"pdq {HEX[0]}\npdq {HEX[1]}\n"))
    assert (report.change.added, report.clashes) == (1, [f"exchange/pdq-{HEX[0]}"])


BAD = {
    "short hex": "pdq abcd",
    "one word": "hello",
    "flat": "pdq " + "0" * 64,
    "not UTF-8": b"pdq \xff\xfe",
    "control characters": "pdq \x1b[31m" + HEX[2],
    "endless": b"pdq " + b"a" * 3_000_000,
}


@pytest.mark.parametrize("what", BAD)
def test_bad_line_of_text_is_named_and_the_others_come_in(index, tmp_path, what):
    bad = BAD[what]
    lines = [f"pdq {HEX[0]}".encode(), bad if isinstance(bad, bytes) else bad.encode(), f"pdq {HEX[1]}".encode()]
    report = imported(index, written(tmp_path / "a", b"\n".join(lines)))
    assert [number for number, _ in report.bad] == [2]
    assert index.header.works == 2


@pytest.mark.parametrize(
    "bad", ['pdq,"abc', "pdq,a", "pdq," + "a" * 64 + ",c,d,e,f", "pdq,,c,d,e", "pdq," + "é" * 64 + ",c,d,e"]
)
def test_bad_line_of_csv_is_named(index, tmp_path, bad):
    text = f"signal_type,signal_str,collab,category,tags\npdq,{HEX[0]},c,,\n{bad}\npdq,{HEX[1]},c,,\n"
    report = imported(index, written(tmp_path / "a", text))
    assert ([number for number, _ in report.bad], index.header.works) == ([3], 2)
    assert imported(index, written(tmp_path / "b", "a,b\n1,2\n")).bad_lines == 2


@pytest.mark.parametrize(
    "bad", ["[1]", "3", "null", '{"signals": {"pdq": ["a"]}}', '{"indicator": {}}', '{"deleted": true}', "{"]
)
def test_bad_line_of_json_is_named(index, tmp_path, bad):
    text = json.dumps({"pdq": HEX[0]}) + "\n" + bad + "\n" + json.dumps({"pdq": HEX[1]}) + "\n"
    report = imported(index, written(tmp_path / "a", text))
    assert ([number for number, _ in report.bad], index.header.works) == ([2], 2)


@pytest.mark.parametrize(
    "content", [b"", b"  \n", b"\x80\x04\x95pickle", b"PAR1\0\0", b"{\n" + b"[" * 100_000, b'{"a":\n NaN}', b"[{]"]
)
def test_file_that_is_no_list_is_refused(index, tmp_path, content):
    with pytest.raises(HashListUnusable):
        imported(index, written(tmp_path / "a", content))
    assert index.header.works == 0
    with pytest.raises(HashListUnusable):
        guess_dialect(tmp_path / "nowhere")


def test_python_threatexchange_matches_what_we_export(tmp_path):
    """Against the package itself, where it is: pip install --no-deps threatexchange."""
    pytest.importorskip("threatexchange")
    from threatexchange.exchanges.impl.file_api import FileCollaborationConfig, LocalFileSignalExchangeAPI
    from threatexchange.signal_type.pdq.pdq_index import PDQIndex
    from threatexchange.signal_type.pdq.signal import PdqSignal

    from guardrail.index.interchange import HashList, Seal, Wanted, export_list

    mine = made_index(tmp_path / "mine", range(5))
    export_list(mine.pinned(), tmp_path / "a.jsonl", Wanted(), Seal())
    said = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()[1:-1]]
    (tmp_path / "list.txt").write_text("".join(f"pdq {line['pdq']}\n" for line in said))
    api = LocalFileSignalExchangeAPI(
        FileCollaborationConfig(name="x", api="local_file", filename=str(tmp_path / "list.txt"))
    )
    (fetched,) = api.fetch_iter([PdqSignal], None)
    hashes = [PdqSignal.validate_signal_str(signal) for kind, signal in fetched.updates if kind == "pdq"]
    assert len(hashes) == HashList(tmp_path / "a.jsonl").head.works == 5
    index = PDQIndex([(signal, at) for at, signal in enumerate(hashes)])
    for at, signal in enumerate(hashes):
        (match,) = index.query(signal)
        assert (match.metadata, match.similarity_info.distance) == (at, 0)
    flipped = made_up(range(5)).arrays["pdq"][3].copy()
    flipped[:3] ^= np.uint8(1)
    (match,) = index.query(flipped.tobytes().hex())
    assert (match.metadata, match.similarity_info.distance) == (3, 3)
