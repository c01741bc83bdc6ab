"""Tables of today, made new or out of those of an older format, in the one transaction that is handed in."""

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import rfc8785
from sqlalchemy import (
    JSON,
    Column,
    Connection,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.orm import Session

from guardrail.errors import LedgerBroken, MemoryUnwritable
from guardrail.memory import append_only  # noqa: F401  # the tables of the desk, and their triggers
from guardrail.memory.appending import append
from guardrail.memory.shapes import is_shaped
from guardrail.memory.tables import FORMAT, REVISION, STATE_ID, Base, LedgerState

__all__ = ["bring_to_today", "is_of_today"]

_STEPS = Path(__file__).parent  # with env.py, and versions/
_REVISIONS = {2: (None, "0001"), FORMAT: (REVISION,)}  # what Alembic may say beside a format; it came after format 2
_NO_ROW_BEFORE = "0" * 64
_ROWS_AT_A_TIME = 1000
_OLD_KINDS = frozenset({"verdict", "remedy", "release", "withdrawal"})
_REVISION = Table(  # as Alembic makes it; read and written without it, for loading it takes longer than all else here
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)
_OLD = Table(
    "ledger_format_1",
    MetaData(),
    Column("sequence", Integer),
    Column("kind", String),
    Column("content", JSON),
    Column("previous_sha256", String),
    Column("row_sha256", String),
)
_OLD_CASES = "case_id, verdict_id, sequence, opened_at, state, png, context"  # the same in formats 1 and 2


def is_of_today(connection: Connection, place: str) -> bool:
    """Whether the tables are there, in the format of today; False: there are none, or they are older.

    Raises:
        MemoryUnwritable: they are of a format that is not known, or Alembic's revision is that of another one.
    """
    names = inspect(connection).get_table_names()
    if "ledger_state" not in names:
        return False
    found = connection.scalar(select(LedgerState.format).where(LedgerState.state_id == STATE_ID))
    revision = connection.scalar(select(_REVISION.c.version_num)) if _REVISION.name in names else None
    if revision not in _REVISIONS.get(found or 0, ()):
        of_alembic = f" at revision {revision!r}" if revision else ""
        raise MemoryUnwritable(place, f"found a ledger of format {found}{of_alembic}, expected 1 to {FORMAT}")
    return found == FORMAT


def bring_to_today(connection: Connection, place: str) -> None:
    """Make the tables, or carry those of an older format over to today; to be called where `is_of_today` is False.

    Raises:
        MemoryUnwritable: they are of no format that is known.
        LedgerBroken: a ledger of format 1 whose chain does not hold.
    """
    names = inspect(connection).get_table_names()
    if "ledger_state" in names:
        _take_steps(connection, "0001", REVISION)
    elif "ledger" in names:
        _carry_over(connection, place)
        _take_steps(connection, "0001", REVISION)
    else:
        Base.metadata.create_all(connection)
        _begin(connection, FORMAT)
        _REVISION.create(connection)
        connection.execute(insert(_REVISION), {"version_num": REVISION})


def _begin(connection: Connection, number: int) -> None:
    """The state of an empty ledger of a format."""
    state = {"state_id": STATE_ID, "format": number, "ledger_id": uuid4().hex, "size": 0, "frontier": b""}
    connection.execute(insert(LedgerState), state)


def _take_steps(connection: Connection, since: str | None, until: str) -> None:
    """Have Alembic take the steps from one revision to another."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_STEPS).replace("%", "%%"))
    config.attributes["connection"] = connection
    if since is not None:
        command.stamp(config, since)
    command.upgrade(config, until)


def _carry_over(connection: Connection, place: str) -> None:
    """Turn a ledger of format 1 into one of format 2; each old row becomes a leaf, and one more notes the old tip.

    Raises:
        MemoryUnwritable: the tables are not those of format 1.
        LedgerBroken: the chain does not hold.
    """
    columns = {column["name"] for column in inspect(connection).get_columns("ledger")}
    if columns != {column.name for column in _OLD.columns} or "cases" not in inspect(connection).get_table_names():
        raise MemoryUnwritable(place, "found tables of no format that is known")
    for table in ("ledger", "cases"):
        connection.execute(text(f"CREATE TABLE {table}_format_1 AS SELECT * FROM {table}"))  # noqa: S608  # our names
    connection.execute(text("DROP TABLE cases"))
    connection.execute(text("DROP TABLE ledger"))
    _take_steps(connection, None, "0001")
    _begin(connection, 2)
    with Session(connection, join_transaction_mode="conditional_savepoint") as session:
        state = session.scalars(select(LedgerState)).one()
        rows, tip = 0, _NO_ROW_BEFORE
        for row in _chain(connection):
            append(session, state, row["kind"], [row["content"]])
            rows, tip = rows + 1, row["row_sha256"]
        note = {"format": 1, "rows": rows, "tip": tip, "at": datetime.now(UTC).isoformat()}
        append(session, state, "migration", [note])
        session.flush()
    connection.execute(text(f"INSERT INTO cases ({_OLD_CASES}) SELECT {_OLD_CASES} FROM cases_format_1"))  # noqa: S608
    if connection.dialect.name == "postgresql":
        connection.execute(
            text("SELECT setval(pg_get_serial_sequence('cases', 'case_id'), (SELECT max(case_id) FROM cases))")
        )
    for table in ("cases", "ledger"):
        connection.execute(text(f"DROP TABLE {table}_format_1"))


def _chain(connection: Connection) -> Iterator[dict[str, Any]]:
    """The rows of the old ledger, each checked against the one before it.

    Raises:
        LedgerBroken: naming the first that does not hold.
    """
    previous, count = _NO_ROW_BEFORE, 0
    while True:
        query = select(_OLD).order_by(_OLD.c.sequence).limit(_ROWS_AT_A_TIME).offset(count)
        try:
            rows = connection.execute(query).mappings().all()
        except (TypeError, ValueError, RecursionError) as error:
            raise LedgerBroken(count + 1, f"content that cannot be read ({error})", "JSON") from error
        if not rows:
            return
        for row in rows:
            count += 1
            previous = _checked(dict(row), count, previous)
            yield dict(row)


def _checked(row: dict[str, Any], count: int, previous: str) -> str:
    """The digest of a row of the chain, which is what the row says."""
    if row["kind"] not in _OLD_KINDS or not is_shaped(row["kind"], row["content"]):
        raise LedgerBroken(count, f"content in another shape, of kind {str(row['kind'])[:32]!r}", "that of its kind")
    if row["sequence"] != count or row["previous_sha256"] != previous:
        raise LedgerBroken(row["sequence"], "a row out of order", f"row {count} after {previous[:12]}")
    try:
        stored = rfc8785.dumps({"kind": row["kind"], "content": json.loads(json.dumps(row["content"]))})
    except (ValueError, RecursionError) as error:
        raise LedgerBroken(count, f"content that cannot be read ({error})", "canonical JSON") from error
    digest = hashlib.sha256(bytes.fromhex(previous) + stored).hexdigest()
    if digest != row["row_sha256"]:
        raise LedgerBroken(count, f"content of digest {digest[:12]}", f"digest {str(row['row_sha256'])[:12]}")
    return digest
