"""Format 2: the ledger as a Merkle tree, with labels, releases that can be finished, prints and a queue.

Databases of this format came before Alembic did; they are taken to be at this step.
"""

from alembic import op
from sqlalchemy import JSON, BigInteger, Column, ForeignKey, Index, Integer, LargeBinary, MetaData, String, Table

__all__ = ["branch_labels", "depends_on", "down_revision", "revision", "upgrade"]

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TABLES = MetaData()
_ROW = "ledger.sequence"
Table(
    "ledger",
    _TABLES,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", String(16), nullable=False),
    Column("leaf", LargeBinary),
    Column("leaf_hash", LargeBinary, nullable=False),
    Index("ledger_by_kind", "kind", "sequence"),
)
Table(
    "ledger_labels",
    _TABLES,
    Column("name", String(512), primary_key=True),
    Column("sequence", BigInteger, ForeignKey(_ROW), primary_key=True, index=True),
)
Table(
    "ledger_state",
    _TABLES,
    Column("state_id", Integer, primary_key=True, autoincrement=False),
    Column("format", Integer, nullable=False),
    Column("ledger_id", String(32), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("frontier", LargeBinary, nullable=False),
)
Table(
    "unfinished",
    _TABLES,
    Column("intent_id", String(32), primary_key=True),
    Column("verdict_id", String(32), nullable=False),
    Column("file", String, nullable=False),
    Column("part", String, nullable=False),
    Column("stage", String(16), nullable=False),
    Column("writer", String(32), nullable=False, index=True),
    Column("file_sha256", String(64)),
)
Table(
    "prints",
    _TABLES,
    Column("sequence", BigInteger, ForeignKey(_ROW), primary_key=True, autoincrement=False),
    Column("pdq", LargeBinary, nullable=False),
    Column("embedder", String, nullable=False),
    Column("copy", LargeBinary, nullable=False),
    Column("copy_rows", Integer, nullable=False),
    Column("iscc", String, nullable=False),
    Column("preview", LargeBinary, nullable=False),
)
Table(
    "cases",
    _TABLES,
    Column("case_id", Integer, primary_key=True),
    Column("verdict_id", String(32), nullable=False, unique=True),
    Column("sequence", BigInteger, ForeignKey(_ROW), nullable=False),
    Column("opened_at", String(40), nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("png", LargeBinary, nullable=False),
    Column("context", JSON),
)


def upgrade() -> None:
    """Make the tables, without rows."""
    _TABLES.create_all(op.get_bind(), checkfirst=False)
