"""The tables of ledger, queue and releases, format 3."""

from typing import Any

from sqlalchemy import JSON, BigInteger, Float, ForeignKey, Index, LargeBinary, String, false
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

__all__ = [
    "FORMAT",
    "REVISION",
    "STATE_ID",
    "Base",
    "Case",
    "Label",
    "LedgerState",
    "Print",
    "Sighting",
    "StoredRow",
    "Unfinished",
]

FORMAT = 3  # of these tables; 1 was a hash chain, 2 had no accounts and no decisions
REVISION = "0002"  # of Alembic that made format 3, see versions/
STATE_ID = 1  # of the one row of `ledger_state`
_ID_LENGTH = 32  # letters of a verdict's, an intent's and a writer's id
_LABEL_LENGTH = 512  # letters, more than any manifest's URN has
_KIND_LENGTH = 16  # letters


class Base(DeclarativeBase):
    """What all tables are registered with."""


class StoredRow(Base):
    """One row of the ledger: the canonical JSON (RFC 8785) of its kind and content, None once erased, and its hash."""

    __tablename__ = "ledger"
    __table_args__ = (Index("ledger_by_kind", "kind", "sequence"),)

    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(_KIND_LENGTH))
    leaf: Mapped[bytes | None] = mapped_column(LargeBinary)
    leaf_hash: Mapped[bytes] = mapped_column(LargeBinary)


class Label(Base):
    """By which id a row is found: that of a verdict (`v:`), an intent (`i:`) or a manifest (`m:`)."""

    __tablename__ = "ledger_labels"

    name: Mapped[str] = mapped_column(String(_LABEL_LENGTH), primary_key=True)
    sequence: Mapped[int] = mapped_column(ForeignKey("ledger.sequence"), primary_key=True, index=True)


class LedgerState(Base):
    """The tables' format, the ledger's id, and the tree over its rows; one row, which writers lock."""

    __tablename__ = "ledger_state"

    state_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    format: Mapped[int]
    ledger_id: Mapped[str] = mapped_column(String(_ID_LENGTH))
    size: Mapped[int] = mapped_column(BigInteger)
    frontier: Mapped[bytes] = mapped_column(LargeBinary)


class Unfinished(Base):
    """One image that is being released; the row is gone once its file is in place or it was withdrawn."""

    __tablename__ = "unfinished"

    intent_id: Mapped[str] = mapped_column(String(_ID_LENGTH), primary_key=True)
    verdict_id: Mapped[str] = mapped_column(String(_ID_LENGTH))
    file: Mapped[str]
    part: Mapped[str]
    stage: Mapped[str] = mapped_column(String(_KIND_LENGTH))  # intent | committed
    writer: Mapped[str] = mapped_column(String(_ID_LENGTH), index=True)
    file_sha256: Mapped[str | None] = mapped_column(String(64))


class Print(Base):
    """What is kept of a released image to know copies of it again; its row in the ledger holds the digest of it."""

    __tablename__ = "prints"

    sequence: Mapped[int] = mapped_column(ForeignKey("ledger.sequence"), primary_key=True)
    pdq: Mapped[bytes] = mapped_column(LargeBinary)
    embedder: Mapped[str]
    copy: Mapped[bytes] = mapped_column(LargeBinary)  # float16 (rows, D), little-endian, row by row
    copy_rows: Mapped[int]
    iscc: Mapped[str]
    preview: Mapped[bytes] = mapped_column(LargeBinary)


class Case(Base):
    """One flagged image that waits for a person, or waited.

    `band` is severity in tenths, by which the queue is sorted before age; `group_id` the first case of those that are
    nearly the same picture. The picture lies in the store under `picture_sha256`, and in `png` in cases of format 2.
    """

    __tablename__ = "cases"
    __table_args__ = (Index("cases_by_queue", "organisation", "state", "band", "opened_at", "case_id", "group_id"),)

    case_id: Mapped[int] = mapped_column(primary_key=True)
    verdict_id: Mapped[str] = mapped_column(String(_ID_LENGTH), unique=True)
    sequence: Mapped[int] = mapped_column(ForeignKey("ledger.sequence"))
    opened_at: Mapped[str] = mapped_column(String(40))
    state: Mapped[str] = mapped_column(String(16), default="open", index=True)
    png: Mapped[bytes | None] = mapped_column(LargeBinary)
    context: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    organisation: Mapped[str] = mapped_column(String(64), default="default", server_default="default")
    group_id: Mapped[int | None] = mapped_column(index=True)
    picture_sha256: Mapped[str | None] = mapped_column(String(64), index=True)
    pixels_sha256: Mapped[str | None] = mapped_column(String(64), index=True)
    pdq: Mapped[bytes | None] = mapped_column(LargeBinary)
    rule: Mapped[str] = mapped_column(default="", server_default="")
    judged: Mapped[str] = mapped_column(String(16), default="flag", server_default="flag")  # the verdict's decision
    severity: Mapped[float] = mapped_column(Float, default=0.0, server_default="0")
    band: Mapped[int] = mapped_column(default=0, server_default="0")
    image: Mapped[str] = mapped_column(default="", server_default="")
    nearest_work: Mapped[str] = mapped_column(default="", server_default="", index=True)  # bank/work_id
    nearest_title: Mapped[str] = mapped_column(default="", server_default="")
    nearest_bank: Mapped[str] = mapped_column(default="", server_default="")
    nearest_holder: Mapped[str] = mapped_column(default="", server_default="")
    seen_times: Mapped[int] = mapped_column(default=1, server_default="1")
    lease_account: Mapped[str | None] = mapped_column(String(_ID_LENGTH))
    lease_until: Mapped[str | None] = mapped_column(String(40))
    outcome: Mapped[str | None] = mapped_column(String(24))
    decided_at: Mapped[str | None] = mapped_column(String(40))
    settled_by: Mapped[str | None] = mapped_column(String(_ID_LENGTH))  # the decision that its outcome is of
    released_by: Mapped[str | None] = mapped_column(String(_ID_LENGTH))  # the decision that it is released by
    purged_at: Mapped[str | None] = mapped_column(String(40))
    sensitive: Mapped[bool] = mapped_column(default=False, server_default=false())
    revision: Mapped[int] = mapped_column(default=0, server_default="0")


class Sighting(Base):
    """One more verdict on the very pixels of a case."""

    __tablename__ = "sightings"

    verdict_id: Mapped[str] = mapped_column(String(_ID_LENGTH), primary_key=True)
    case_id: Mapped[int] = mapped_column(ForeignKey("cases.case_id"), index=True)
    sequence: Mapped[int] = mapped_column(ForeignKey("ledger.sequence"))
    at: Mapped[str] = mapped_column(String(40))
