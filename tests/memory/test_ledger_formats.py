"""Ledgers of every format that there was load for ever; those of another are refused."""

import json
import shutil
import sqlite3
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest
import rfc8785

from guardrail.errors import LedgerBroken, MemoryUnwritable
from guardrail.memory import Held, Memory
from guardrail.records import Decision, Release, RemedyTried, Verdict

FORMAT_1 = Path(__file__).parent / "ledger-format-1.db"  # of seven rows, written when the ledger was a chain
TIP = "c9d0d52d72c38fe835c0b7adaa0e56dc739c5a636b2369d7376f75cd20bf3f25"


@pytest.fixture
def old(tmp_path):
    shutil.copy(FORMAT_1, tmp_path / "memory.db")
    return tmp_path / "memory.db"


def edit(path, *statements):
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def test_ledger_of_format_1_is_carried_over_row_by_row(old):
    for _ in range(2):  # once carried over, it is as any other
        memory = Memory(f"sqlite:///{old}")
        rows = list(memory.rows())
        kinds = ["verdict", "verdict", "release", "verdict", "release", "withdrawal", "remedy", "migration"]
        assert [row.kind for row in rows] == kinds
        assert memory.verify(deep=True).rows == 8
        memory.close()
    note = rows[-1].content
    assert (note["format"], note["rows"], note["tip"]) == (1, 7, TIP)
    verdict = Verdict.model_validate(rows[1].content["verdict"])
    assert (verdict.verdict_id, verdict.decision) == ("2" * 32, Decision.FLAG)
    assert Release.model_validate(rows[2].content["release"]).manifest_id == "urn:c2pa:1"
    assert RemedyTried.model_validate(rows[6].content["remedy"]).seeds == (2**63 + 7,)


def test_old_rows_are_found_and_the_ledger_goes_on(old, making):
    memory = Memory(f"sqlite:///{old}")
    assert [memory.fate_of(f"urn:c2pa:{digit}") for digit in "13"] == ["released", "withdrawn"]
    (case,) = memory.open_cases()
    assert (case.case_id, case.verdict_id, case.sequence) == (1, "2" * 32, 2)
    assert case.png.startswith(b"\x89PNG")
    assert case.context["prompts"] == {"prompt": "a secret fox"}
    memory.record_verdicts([Held(making.verdict(Decision.FLAG, pixels_sha256="e" * 64), b"png")], None)
    assert [one.sequence for one in memory.open_cases()] == [2, 9]
    assert memory.erase("2" * 32, "request 17") == (2,)
    assert memory.verify(deep=True).rows == 10
    memory.close()


@pytest.mark.parametrize(
    "statement",
    [
        "update ledger set content = replace(content, 'accept', 'block') where sequence = 1",
        "update ledger set kind = 'release' where sequence = 2",
        "delete from ledger where sequence = 3",
        "update ledger set sequence = 99 where sequence = 3",
        "update ledger set content = '{bad json' where sequence = 2",
        "update ledger set content = '{\"a\": 123456789012345678901234567890}' where sequence = 2",
        "update ledger set previous_sha256 = 'x' where sequence = 1",
    ],
)
def test_broken_ledger_of_format_1_is_not_carried_over(old, statement):
    edit(old, statement)
    before = old.read_bytes()
    with pytest.raises(LedgerBroken):
        Memory(f"sqlite:///{old}")
    assert old.read_bytes() == before


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("release", ["a"]),
        ("release", "x"),
        ("release", 5),
        ("release", {"release": 5}),
        ("release", {"release": {"manifest_id": "urn:x"}}),
        ("withdrawal", {}),
        ("erasure", {"rows": "abc"}),
        ("verdict", None),
        ("verdict", {"verdict": {"verdict_id": 5}}),
        ("x" * 100, {}),
    ],
)
def test_ledger_of_format_1_with_a_row_of_no_shape_of_ours_is_refused(old, kind, content):
    digest = sha256(bytes(32) + rfc8785.dumps({"kind": kind, "content": content})).hexdigest()
    row = f"(1, '{kind}', '{json.dumps(content)}', '{'0' * 64}', '{digest}')"
    columns = "(sequence, kind, content, previous_sha256, row_sha256)"
    edit(old, "delete from cases", "delete from ledger", f"insert into ledger {columns} values {row}")
    before = old.read_bytes()
    with pytest.raises(LedgerBroken, match="row 1: found content in another shape"):
        Memory(f"sqlite:///{old}")
    assert old.read_bytes() == before


@pytest.mark.parametrize(
    "statement",
    [
        "alter table ledger add column another text",
        "drop table cases",
        "create table ledger_state (state_id int, format int, ledger_id text, size int, frontier blob)",
    ],
)
def test_tables_of_no_known_format_are_refused(old, statement):
    edit(old, statement)
    before = old.read_bytes()
    with pytest.raises(MemoryUnwritable, match="format"):
        Memory(f"sqlite:///{old}")
    assert old.read_bytes() == before


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("update ledger_state set format = 4", "format 4 at revision '0002'"),
        ("update ledger_state set format = 2", "format 2 at revision '0002'"),
        ("update alembic_version set version_num = '0003'", "format 3 at revision '0003'"),
        ("update alembic_version set version_num = '0001'", "format 3 at revision '0001'"),
        ("drop table alembic_version", "format 3, expected 1 to 3"),
        ("delete from ledger_state", "format None"),
    ],
)
def test_ledger_of_a_later_format_or_of_none_is_refused(url, tamper, statement, found):
    Memory(url).close()
    tamper(statement)
    with pytest.raises(MemoryUnwritable, match=f"{found}.*expected 1 to 3" if "1 to 3" not in found else found):
        Memory(url)
