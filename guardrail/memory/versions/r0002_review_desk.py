"""Format 3: what the review desk needs: cases with facts, decisions, accounts, audit, jobs, webhooks.

Cases of format 2 keep their picture in `png`; what the queue shows of them is read from their verdict.
"""

import json
from typing import Any

from alembic import op
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    column,
    false,
    insert,
    select,
    table,
    update,
)

from guardrail.memory.append_only import make_append_only

__all__ = ["branch_labels", "depends_on", "down_revision", "revision", "upgrade"]

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TABLES = MetaData()
Table("ledger", _TABLES, Column("sequence", BigInteger, primary_key=True))  # they are there, and referred to
Table("cases", _TABLES, Column("case_id", Integer, primary_key=True))
Table(
    "audit_events",
    _TABLES,
    Column("event_id", Integer, primary_key=True),
    Column("at", String(40), nullable=False),
    Column("organisation", String(64), nullable=False),
    Column("account_id", String(32)),
    Column("token_id", String(32)),
    Column("action", String(64), nullable=False),
    Column("target", String(256), nullable=False),
    Column("details", JSON, nullable=False),
    Column("address", String(64), nullable=False),
    Index("audit_by_organisation", "organisation", "event_id"),
    Index("audit_by_target", "organisation", "action", "target"),
)
Table(
    "idempotency",
    _TABLES,
    Column("organisation", String(64), primary_key=True),
    Column("key", String(256), primary_key=True),
    Column("request_sha256", String(64), nullable=False),
    Column("status", Integer),
    Column("answer", LargeBinary),
    Column("at", String(40), nullable=False),
)
Table(
    "jobs",
    _TABLES,
    Column("job_id", String(32), primary_key=True),
    Column("organisation", String(64), nullable=False, index=True),
    Column("account_id", String(32)),
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("asked", JSON, nullable=False),
    Column("answer", JSON),
    Column("done", Integer, nullable=False),
    Column("total", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", String(40), nullable=False),
    Column("leased_until", String(40)),
    Column("created_at", String(40), nullable=False),
    Index("jobs_by_state", "state", "due_at"),
)
Table(
    "limit_changes",
    _TABLES,
    Column("change_id", String(32), primary_key=True),
    Column("organisation", String(64), nullable=False, index=True),
    Column("account_id", String(32), nullable=False),
    Column("proposal", JSON, nullable=False),
    Column("spared_share", Float, nullable=False),
    Column("at", String(40), nullable=False),
)
Table(
    "organisations",
    _TABLES,
    Column("organisation", String(64), primary_key=True),
    Column("title", String, nullable=False),
    Column("created_at", String(40), nullable=False),
)
Table(
    "webhooks",
    _TABLES,
    Column("webhook_id", String(32), primary_key=True),
    Column("organisation", String(64), nullable=False, index=True),
    Column("url", String, nullable=False),
    Column("secret", String, nullable=False),
    Column("events", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_at", String(40), nullable=False),
)
Table(
    "accounts",
    _TABLES,
    Column("account_id", String(32), primary_key=True),
    Column("organisation", String(64), ForeignKey("organisations.organisation"), nullable=False, index=True),
    Column("email", String(254), nullable=False, unique=True),
    Column("name", String, nullable=False),
    Column("role", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("password_hash", String),
    Column("totp_secret", String),
    Column("totp_pending", String),
    Column("totp_last_step", BigInteger, nullable=False),
    Column("recovery_hashes", JSON, nullable=False),
    Column("oidc_issuer", String),
    Column("oidc_subject", String),
    Column("preferences", JSON, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("locked_until", String(40)),
    Column("created_at", String(40), nullable=False),
    UniqueConstraint("oidc_issuer", "oidc_subject"),
)
Table(
    "deliveries",
    _TABLES,
    Column("delivery_id", String(32), primary_key=True),
    Column("webhook_id", String(32), ForeignKey("webhooks.webhook_id"), nullable=False, index=True),
    Column("event", String(64), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", String(40), nullable=False),
    Column("last_status", Integer),
    Column("last_error", String, nullable=False),
    Column("created_at", String(40), nullable=False),
    Index("deliveries_by_state", "state", "due_at"),
)
Table(
    "api_tokens",
    _TABLES,
    Column("token_id", String(32), primary_key=True),
    Column("token_sha256", String(64), nullable=False, unique=True),
    Column("organisation", String(64), nullable=False, index=True),
    Column("account_id", String(32), ForeignKey("accounts.account_id"), nullable=False),
    Column("name", String, nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("created_at", String(40), nullable=False),
    Column("expires_at", String(40)),
    Column("revoked_at", String(40)),
    Column("used_at", String(40)),
)
Table(
    "appeals",
    _TABLES,
    Column("appeal_id", String(32), primary_key=True),
    Column("case_id", Integer, ForeignKey("cases.case_id"), nullable=False, index=True),
    Column("organisation", String(64), nullable=False),
    Column("account_id", String(32), nullable=False),
    Column("note", String, nullable=False),
    Column("answered_by", String(32)),
    Column("at", String(40), nullable=False),
)
Table(
    "case_facts",
    _TABLES,
    Column("case_id", Integer, ForeignKey("cases.case_id"), primary_key=True),
    Column("name", String(16), primary_key=True),
    Column("value", String(512), primary_key=True),
    Column("organisation", String(64), nullable=False),
    Index("case_facts_by_value", "organisation", "name", "value", "case_id"),
)
Table(
    "decisions",
    _TABLES,
    Column("decision_id", String(32), primary_key=True),
    Column("case_id", Integer, ForeignKey("cases.case_id"), nullable=False),
    Column("organisation", String(64), nullable=False),
    Column("account_id", String(32), nullable=False),
    Column("round", String(16), nullable=False),
    Column("outcome", String(24), nullable=False),
    Column("reasons", JSON, nullable=False),
    Column("answers", JSON, nullable=False),
    Column("note", String, nullable=False),
    Column("asks_second", Boolean, nullable=False),
    Column("undoes", String(32), unique=True),
    Column("repeats", String(32), index=True),
    Column("batch_id", String(32), index=True),
    Column("sequence", BigInteger, ForeignKey("ledger.sequence"), nullable=False),
    Column("at", String(40), nullable=False),
    Index("decisions_by_account", "organisation", "account_id", "at"),
    Index("decisions_by_case", "case_id", "at"),
)
Table(
    "sessions",
    _TABLES,
    Column("session_sha256", String(64), primary_key=True),
    Column("account_id", String(32), ForeignKey("accounts.account_id"), nullable=False, index=True),
    Column("stage", String(16), nullable=False),
    Column("csrf", String(64), nullable=False),
    Column("created_at", String(40), nullable=False),
    Column("seen_at", String(40), nullable=False),
    Column("expires_at", String(40), nullable=False),
)
Table(
    "sightings",
    _TABLES,
    Column("verdict_id", String(32), primary_key=True),
    Column("case_id", Integer, ForeignKey("cases.case_id"), nullable=False, index=True),
    Column("sequence", BigInteger, ForeignKey("ledger.sequence"), nullable=False),
    Column("at", String(40), nullable=False),
)
Table(
    "sign_in_links",
    _TABLES,
    Column("link_sha256", String(64), primary_key=True),
    Column("account_id", String(32), ForeignKey("accounts.account_id"), nullable=False),
    Column("purpose", String(16), nullable=False),
    Column("expires_at", String(40), nullable=False),
    Column("used_at", String(40)),
)

_CASES_OF_FORMAT_2 = Table(
    "cases",
    MetaData(),
    Column("case_id", Integer, primary_key=True),
    Column("verdict_id", String(32), nullable=False, unique=True),
    Column("sequence", BigInteger, ForeignKey("ledger.sequence"), nullable=False),
    Column("opened_at", String(40), nullable=False),
    Column("state", String(16), nullable=False),
    Column("png", LargeBinary, nullable=False),
    Column("context", JSON),
)
_INDEXED = ("state", "group_id", "nearest_work", "picture_sha256", "pixels_sha256")
_QUEUE = ("organisation", "state", "band", "opened_at", "case_id", "group_id")
_CASES_AT_A_TIME = 500


def upgrade() -> None:
    """Make the new tables and columns, and fill the columns in for the cases that are there."""
    op.drop_index("ix_cases_state", "cases")
    with op.batch_alter_table("cases", copy_from=_CASES_OF_FORMAT_2) as cases:
        cases.alter_column("png", existing_type=LargeBinary(), nullable=True)
        for one in _new_columns():
            cases.add_column(one)
    for name in _INDEXED:
        op.create_index(f"ix_cases_{name}", "cases", [name])
    op.create_index("cases_by_queue", "cases", list(_QUEUE))
    connection = op.get_bind()
    there = ("ledger", "cases")
    _TABLES.create_all(connection, [one for one in _TABLES.sorted_tables if one.name not in there], checkfirst=False)
    make_append_only(connection, "audit_events", "event_id")
    _fill_in(connection)
    op.execute("UPDATE ledger_state SET format = 3")


def _new_columns() -> tuple[Column[Any], ...]:
    return (
        Column("organisation", String(64), nullable=False, server_default="default"),
        Column("group_id", Integer),
        Column("picture_sha256", String(64)),
        Column("pixels_sha256", String(64)),
        Column("pdq", LargeBinary),
        Column("rule", String, nullable=False, server_default=""),
        Column("judged", String(16), nullable=False, server_default="flag"),
        Column("severity", Float, nullable=False, server_default="0"),
        Column("band", Integer, nullable=False, server_default="0"),
        Column("image", String, nullable=False, server_default=""),
        Column("nearest_work", String, nullable=False, server_default=""),
        Column("nearest_title", String, nullable=False, server_default=""),
        Column("nearest_bank", String, nullable=False, server_default=""),
        Column("nearest_holder", String, nullable=False, server_default=""),
        Column("seen_times", Integer, nullable=False, server_default="1"),
        Column("lease_account", String(32)),
        Column("lease_until", String(40)),
        Column("outcome", String(24)),
        Column("decided_at", String(40)),
        Column("settled_by", String(32)),
        Column("released_by", String(32)),
        Column("purged_at", String(40)),
        Column("sensitive", Boolean, nullable=False, server_default=false()),
        Column("revision", Integer, nullable=False, server_default="0"),
    )


def _fill_in(connection: Connection) -> None:
    """What the queue shows of a case, and is asked by, out of the verdict that it is about; erased ones stay blank."""
    names = (
        "case_id",
        "sequence",
        "state",
        "group_id",
        "pixels_sha256",
        "rule",
        "image",
        "nearest_work",
        "nearest_title",
        "nearest_bank",
        "nearest_holder",
    )
    cases = table("cases", *map(column, names))
    ledger = table("ledger", column("sequence"), column("leaf", LargeBinary))
    rows = select(cases.c.case_id, cases.c.state, ledger.c.leaf).join(ledger, ledger.c.sequence == cases.c.sequence)
    after = 0
    while found := connection.execute(
        rows.where(cases.c.case_id > after).order_by(cases.c.case_id).limit(_CASES_AT_A_TIME)
    ).all():
        after = found[-1].case_id
        for case_id, state, leaf in found:
            said, facts = _said(leaf) if state == "open" and leaf is not None else ({}, [])
            connection.execute(update(cases).where(cases.c.case_id == case_id).values(group_id=case_id, **said))
            if facts:
                rows_of_facts = [
                    {"case_id": case_id, "name": name, "value": value, "organisation": "default"}
                    for name, value in facts
                ]
                connection.execute(insert(_TABLES.tables["case_facts"]), rows_of_facts)


def _said(leaf: bytes) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Columns of a case, and what it is filtered by, from the row of its verdict."""
    content = json.loads(leaf)["content"]
    verdict, run = content["verdict"], content.get("context") or {}
    works = [one["work"] for one in verdict.get("nearest") or ()]
    first = works[0] if works else None
    named = f"{first['bank']}/{first['work_id']}" if first else ""
    title = (first.get("title") or "") if first else ""
    columns = {"rule": verdict["rule"], "image": verdict["image"], "pixels_sha256": verdict.get("pixels_sha256")}
    facts = {("rule", verdict["rule"]), ("model", run.get("model_id") or run.get("pipeline") or "")}
    facts |= {("adapter", one["name"]) for one in run.get("adapters") or ()}
    if first:
        facts |= {("bank", first["bank"]), ("holder", first.get("rights_holder") or ""), ("work", named)}
    columns |= {"nearest_bank": first["bank"], "nearest_holder": first.get("rights_holder") or ""} if first else {}
    return columns | {"nearest_work": named, "nearest_title": title}, sorted(one for one in facts if one[1])
