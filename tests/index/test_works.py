from datetime import UTC, datetime
from pathlib import Path

import pytest

from guardrail.errors import WorksTableInvalid
from guardrail.index import read_works
from guardrail.records import Disposition


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "works.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_columns_become_a_work(tmp_path):
    path = table(
        tmp_path,
        "file,work_id,title,creator,disposition,bank,opted_out_at,expires_at\n"
        "a/fox.png,fox,Räv,Åsa,credit,animals,2026-01-02,2030-01-01T00:00:00+02:00\n",
    )
    (row,) = read_works(path)
    assert row.file == "a/fox.png"
    assert (row.work.work_id, row.work.title, row.work.creator, row.work.bank) == ("fox", "Räv", "Åsa", "animals")
    assert row.work.disposition is Disposition.CREDIT
    assert row.work.opted_out_at == datetime(2026, 1, 2, tzinfo=UTC)
    assert row.work.expires_at.utcoffset().total_seconds() == 7200


def test_missing_columns_take_defaults(tmp_path):
    (row,) = read_works(table(tmp_path, "file\nfox.png\n"))
    assert (row.work.title, row.work.bank, row.work.disposition) == ("fox", "default", Disposition.PROTECT)
    assert row.work.work_id.startswith("file-")
    assert "fox" not in row.work.work_id, "ids leave in signed files, paths must not"


def test_parquet_reads_like_csv(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "works.parquet"
    columns = {"file": ["fox.png"], "work_id": ["fox"], "opted_out_at": [datetime(2026, 1, 2, tzinfo=UTC)]}
    parquet.write_table(pa.table(columns), path)
    assert read_works(path) == read_works(table(tmp_path, "file,work_id,opted_out_at\nfox.png,fox,2026-01-02\n"))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("path,title\nfox.png,Fox\n", "no column 'file'|unknown columns"),
        ("file,owner\nfox.png,me\n", "owner"),
        ("file,work_id\nfox.png,fox\nfox.png,wolf\n", "fox.png"),
        ("file,work_id\nfox.png,fox\nwolf.png,fox\n", "twice"),
        ("file,disposition\nfox.png,sell\n", "line 2"),
        ("file,expires_at\nfox.png,soon\n", "line 2"),
        ("file,title\nfox.png\n", "another number of fields"),
        ("file,title\nfox.png,Fox,extra\n", "another number of fields"),
        ("file\n../fox.png\n", "not a path inside"),
        ("file\n/etc/fox.png\n", "not a path inside"),
        ("file,work_id\n,fox\n", "not a path inside"),
        ("", "no column 'file'"),
    ],
)
def test_bad_table_says_where_and_what(tmp_path, text, names):
    with pytest.raises(WorksTableInvalid, match=names):
        read_works(table(tmp_path, text))


def test_table_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "works.csv"
    path.write_bytes(b"\xff\xfe\x00file")
    with pytest.raises(WorksTableInvalid):
        read_works(path)
