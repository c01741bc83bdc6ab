"""Tables whose rows are never changed nor deleted: the database itself refuses it, whoever asks."""

from typing import Any

from sqlalchemy import Connection, event, text

from guardrail.memory.review_tables import AuditEvent

__all__ = ["make_append_only"]

_SQLITE = (
    """CREATE TRIGGER {table}_not_changed BEFORE UPDATE ON {table}
    BEGIN SELECT RAISE(ABORT, '{table} is only appended to'); END""",
    """CREATE TRIGGER {table}_not_deleted BEFORE DELETE ON {table}
    BEGIN SELECT RAISE(ABORT, '{table} is only appended to'); END""",
    # INSERT OR REPLACE deletes without the trigger above
    """CREATE TRIGGER {table}_not_replaced BEFORE INSERT ON {table}
    WHEN EXISTS (SELECT 1 FROM {table} WHERE {key} = NEW.{key})
    BEGIN SELECT RAISE(ABORT, '{table} is only appended to'); END""",
)
_POSTGRESQL = (
    """CREATE OR REPLACE FUNCTION {table}_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION '{table} is only appended to'; END $$""",
    """CREATE TRIGGER {table}_not_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION {table}_append_only()""",
)


def make_append_only(connection: Connection, table: str, key: str) -> None:
    """Make the triggers that refuse to change, delete or replace rows of a table.

    Whoever may alter tables can take the triggers off; on a server, give the account that guardrail uses no such right
    once its tables are made.

    Args:
        connection: of a transaction that writes.
        table: its name, one of ours.
        key: the column that is its primary key.
    """
    statements = {"sqlite": _SQLITE, "postgresql": _POSTGRESQL}.get(connection.dialect.name, ())
    for statement in statements:
        connection.execute(text(statement.format(table=table, key=key)))


@event.listens_for(AuditEvent.__table__, "after_create")
def _with_triggers(table: Any, connection: Connection, **_: Any) -> None:
    make_append_only(connection, table.name, "event_id")
