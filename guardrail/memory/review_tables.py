"""The tables of the review desk: pictures and facts of cases, decisions, accounts, audit, jobs, webhooks."""

from typing import Any

from sqlalchemy import JSON, BigInteger, Float, ForeignKey, Index, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from guardrail.memory.tables import Base

__all__ = [
    "Account",
    "ApiToken",
    "Appeal",
    "AuditEvent",
    "CaseFact",
    "Delivery",
    "Idempotent",
    "Job",
    "LimitChange",
    "Organisation",
    "SignInLink",
    "SignedIn",
    "StoredDecision",
    "Webhook",
]

_ID = String(32)  # hex of a UUID
_NAME = String(64)
_DIGEST = String(64)
_AT = String(40)  # ISO 8601, UTC, microseconds: sorts as it was


class Organisation(Base):
    """One organisation; rows of all other tables here belong to one."""

    __tablename__ = "organisations"

    organisation: Mapped[str] = mapped_column(_NAME, primary_key=True)
    title: Mapped[str]
    created_at: Mapped[str] = mapped_column(_AT)


class CaseFact(Base):
    """What cases are filtered by: name is bank, holder, model, adapter, rule or work."""

    __tablename__ = "case_facts"
    __table_args__ = (Index("case_facts_by_value", "organisation", "name", "value", "case_id"),)

    case_id: Mapped[int] = mapped_column(ForeignKey("cases.case_id"), primary_key=True)
    name: Mapped[str] = mapped_column(String(16), primary_key=True)
    value: Mapped[str] = mapped_column(String(512), primary_key=True)
    organisation: Mapped[str] = mapped_column(_NAME)


class StoredDecision(Base):
    """A decision on a case, or the taking back of one; rows are appended only."""

    __tablename__ = "decisions"
    __table_args__ = (
        Index("decisions_by_case", "case_id", "at"),
        Index("decisions_by_account", "organisation", "account_id", "at"),
    )

    decision_id: Mapped[str] = mapped_column(_ID, primary_key=True)
    case_id: Mapped[int] = mapped_column(ForeignKey("cases.case_id"))
    organisation: Mapped[str] = mapped_column(_NAME)
    account_id: Mapped[str] = mapped_column(_ID)
    round: Mapped[str] = mapped_column(String(16))
    outcome: Mapped[str] = mapped_column(String(24))
    reasons: Mapped[list[str]] = mapped_column(JSON)
    answers: Mapped[dict[str, Any]] = mapped_column(JSON)
    note: Mapped[str]
    asks_second: Mapped[bool] = mapped_column(default=False)  # whether somebody else is asked before it counts
    undoes: Mapped[str | None] = mapped_column(_ID, unique=True)
    repeats: Mapped[str | None] = mapped_column(_ID, index=True)  # decision on the same pixels
    batch_id: Mapped[str | None] = mapped_column(_ID, index=True)
    sequence: Mapped[int] = mapped_column(ForeignKey("ledger.sequence"))
    at: Mapped[str] = mapped_column(_AT)


class Appeal(Base):
    """That somebody asked for another look at a case which was decided; `answered_by` is the decision it led to."""

    __tablename__ = "appeals"

    appeal_id: Mapped[str] = mapped_column(_ID, primary_key=True)
    case_id: Mapped[int] = mapped_column(ForeignKey("cases.case_id"), index=True)
    organisation: Mapped[str] = mapped_column(_NAME)
    account_id: Mapped[str] = mapped_column(_ID)
    note: Mapped[str]
    answered_by: Mapped[str | None] = mapped_column(_ID)
    at: Mapped[str] = mapped_column(_AT)


class Account(Base):
    """One person in one organisation."""

    __tablename__ = "accounts"
    __table_args__ = (UniqueConstraint("oidc_issuer", "oidc_subject"),)

    account_id: Mapped[str] = mapped_column(_ID, primary_key=True)
    organisation: Mapped[str] = mapped_column(ForeignKey("organisations.organisation"), index=True)
    email: Mapped[str] = mapped_column(String(254), unique=True)  # lower case
    name: Mapped[str]
    role: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(16))  # invited | active | disabled
    password_hash: Mapped[str | None]  # argon2id
    totp_secret: Mapped[str | None]
    totp_pending: Mapped[str | None]  # shown, not confirmed by a code yet
    totp_last_step: Mapped[int] = mapped_column(BigInteger, default=0)
    recovery_hashes: Mapped[list[str]] = mapped_column(JSON, default=list)
    oidc_issuer: Mapped[str | None]
    oidc_subject: Mapped[str | None]
    preferences: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    failures: Mapped[int] = mapped_column(default=0)
    locked_until: Mapped[str | None] = mapped_column(_AT)
    created_at: Mapped[str] = mapped_column(_AT)


class SignInLink(Base):
    """A link that lets somebody in once: the first admin, an invited person, a forgotten password."""

    __tablename__ = "sign_in_links"

    link_sha256: Mapped[str] = mapped_column(_DIGEST, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.account_id"))
    purpose: Mapped[str] = mapped_column(String(16))  # first | invite | reset
    expires_at: Mapped[str] = mapped_column(_AT)
    used_at: Mapped[str | None] = mapped_column(_AT)


class SignedIn(Base):
    """A browser in which somebody signed in."""

    __tablename__ = "sessions"

    session_sha256: Mapped[str] = mapped_column(_DIGEST, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.account_id"), index=True)
    stage: Mapped[str] = mapped_column(String(16))  # password | full
    csrf: Mapped[str] = mapped_column(_DIGEST)
    created_at: Mapped[str] = mapped_column(_AT)
    seen_at: Mapped[str] = mapped_column(_AT)
    expires_at: Mapped[str] = mapped_column(_AT)


class ApiToken(Base):
    """A token that programs act with; only its digest is kept."""

    __tablename__ = "api_tokens"

    token_id: Mapped[str] = mapped_column(_ID, primary_key=True)
    token_sha256: Mapped[str] = mapped_column(_DIGEST, unique=True)
    organisation: Mapped[str] = mapped_column(_NAME, index=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.account_id"))
    name: Mapped[str]
    scopes: Mapped[list[str]] = mapped_column(JSON)
    created_at: Mapped[str] = mapped_column(_AT)
    expires_at: Mapped[str | None] = mapped_column(_AT)
    revoked_at: Mapped[str | None] = mapped_column(_AT)
    used_at: Mapped[str | None] = mapped_column(_AT)


class AuditEvent(Base):
    """One look or action of somebody; a trigger of the database refuses to change or delete rows."""

    __tablename__ = "audit_events"
    __table_args__ = (
        Index("audit_by_organisation", "organisation", "event_id"),
        Index("audit_by_target", "organisation", "action", "target"),
    )

    event_id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[str] = mapped_column(_AT)
    organisation: Mapped[str] = mapped_column(_NAME)
    account_id: Mapped[str | None] = mapped_column(_ID)
    token_id: Mapped[str | None] = mapped_column(_ID)
    action: Mapped[str] = mapped_column(String(64))
    target: Mapped[str] = mapped_column(String(256))
    details: Mapped[dict[str, Any]] = mapped_column(JSON)
    address: Mapped[str] = mapped_column(String(64))


class Job(Base):
    """Work that goes on after a request was answered, and after a restart: check, release, undo, rescan."""

    __tablename__ = "jobs"
    __table_args__ = (Index("jobs_by_state", "state", "due_at"),)

    job_id: Mapped[str] = mapped_column(_ID, primary_key=True)
    organisation: Mapped[str] = mapped_column(_NAME, index=True)
    account_id: Mapped[str | None] = mapped_column(_ID)
    kind: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(16))  # waiting | running | done | failed
    asked: Mapped[dict[str, Any]] = mapped_column(JSON)
    answer: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    done: Mapped[int] = mapped_column(default=0)
    total: Mapped[int] = mapped_column(default=0)
    attempts: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[str] = mapped_column(_AT)
    leased_until: Mapped[str | None] = mapped_column(_AT)
    created_at: Mapped[str] = mapped_column(_AT)


class Idempotent(Base):
    """An answer that is given again when a request comes again under the same key."""

    __tablename__ = "idempotency"

    organisation: Mapped[str] = mapped_column(_NAME, primary_key=True)
    key: Mapped[str] = mapped_column(String(256), primary_key=True)
    request_sha256: Mapped[str] = mapped_column(_DIGEST)
    status: Mapped[int | None]  # None while the first is being answered
    answer: Mapped[bytes | None] = mapped_column(LargeBinary)
    at: Mapped[str] = mapped_column(_AT)


class Webhook(Base):
    """Where an organisation wants to be told of events."""

    __tablename__ = "webhooks"

    webhook_id: Mapped[str] = mapped_column(_ID, primary_key=True)
    organisation: Mapped[str] = mapped_column(_NAME, index=True)
    url: Mapped[str]
    secret: Mapped[str]
    events: Mapped[list[str]] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(String(16))  # active | paused | deleted
    created_at: Mapped[str] = mapped_column(_AT)


class Delivery(Base):
    """One event on its way to one webhook."""

    __tablename__ = "deliveries"
    __table_args__ = (Index("deliveries_by_state", "state", "due_at"),)

    delivery_id: Mapped[str] = mapped_column(_ID, primary_key=True)
    webhook_id: Mapped[str] = mapped_column(ForeignKey("webhooks.webhook_id"), index=True)
    event: Mapped[str] = mapped_column(String(64))
    body: Mapped[bytes] = mapped_column(LargeBinary)
    state: Mapped[str] = mapped_column(String(16))  # waiting | delivered | given_up
    attempts: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[str] = mapped_column(_AT)
    last_status: Mapped[int | None]
    last_error: Mapped[str] = mapped_column(default="")
    created_at: Mapped[str] = mapped_column(_AT)


class LimitChange(Base):
    """Limits that a person applied, and the proposal they followed."""

    __tablename__ = "limit_changes"

    change_id: Mapped[str] = mapped_column(_ID, primary_key=True)
    organisation: Mapped[str] = mapped_column(_NAME, index=True)
    account_id: Mapped[str] = mapped_column(_ID)
    proposal: Mapped[dict[str, Any]] = mapped_column(JSON)
    spared_share: Mapped[float] = mapped_column(Float)
    at: Mapped[str] = mapped_column(_AT)
