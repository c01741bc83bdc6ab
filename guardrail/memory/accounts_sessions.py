"""Browsers in which people signed in: a random secret in the browser's cookie, its digest here."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from guardrail.memory.accounts_secrets import digest_of, new_secret
from guardrail.memory.accounts_shapes import Browser, person_of
from guardrail.memory.audit import at_of
from guardrail.memory.database import Database
from guardrail.memory.review_tables import Account, SignedIn

__all__ = ["Sessions", "end_sessions", "end_sessions_named"]

_SEEN_EVERY_S = 60  # how exactly it is known when a browser was last seen; each time is a write
_CODE_MINUTES = 10  # to give the authenticator's code after the password
_SHOWN_DIGITS = 16  # of the digest, to name a browser by


class Sessions:
    """Who is signed in where; usable in threads.

    Args:
        database: where they lie.
        now: the time, aware.
    """

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now

    def open(self, account_id: str, stage: Literal["password", "full"], hours: float) -> str:
        """Note that somebody signed in; of what has expired, nothing is kept.

        Args:
            account_id: who.
            stage: `password` where the authenticator's code is still to come: that ends after 10 minutes.
            hours: after so long they sign in again.

        Returns:
            The secret for the browser's cookie.

        Raises:
            MemoryUnwritable: it was not noted.
        """
        secret, now = new_secret(), self._now()
        lasts = timedelta(hours=hours) if stage == "full" else timedelta(minutes=_CODE_MINUTES)
        with self._database.writing() as (session, _):
            session.execute(delete(SignedIn).where(SignedIn.expires_at < at_of(now)))
            session.add(
                SignedIn(
                    session_sha256=digest_of(secret),
                    account_id=account_id,
                    stage=stage,
                    csrf=digest_of(new_secret()),
                    created_at=at_of(now),
                    seen_at=at_of(now),
                    expires_at=at_of(now + lasts),
                )
            )
        return secret

    def find(self, secret: str, idle_minutes: float) -> Browser | None:
        """Who signed in with a secret; None where it is unknown, has expired, or the account is not active.

        Args:
            secret: from the cookie.
            idle_minutes: after so long without a request it is not taken any more.

        Raises:
            MemoryUnwritable: it cannot be looked up.
        """
        now = self._now()
        query = select(SignedIn, Account).join(Account, Account.account_id == SignedIn.account_id)
        with self._database.reading() as session:
            found = session.execute(query.where(SignedIn.session_sha256 == digest_of(secret))).one_or_none()
            if found is None or found[1].state != "active" or found[0].expires_at <= at_of(now):
                return None
            browser, seen_at = _shown(*found), found[0].seen_at
        if seen_at <= at_of(now - timedelta(minutes=idle_minutes)):
            return None
        if seen_at <= at_of(now - timedelta(seconds=_SEEN_EVERY_S)):
            self._note_seen(secret, now)
        return browser

    def close(self, secret: str) -> None:
        """Sign out in one browser.

        Raises:
            MemoryUnwritable: it is still signed in.
        """
        with self._database.writing() as (session, _):
            session.execute(delete(SignedIn).where(SignedIn.session_sha256 == digest_of(secret)))

    def close_all(self, account_id: str, but: str = "") -> None:
        """Sign out everywhere, but in the browser that has a secret.

        Raises:
            MemoryUnwritable: nothing was changed.
        """
        with self._database.writing() as (session, _):
            end_sessions(session, account_id, but)

    def of(self, account_id: str) -> tuple[Browser, ...]:
        """Where somebody is signed in, latest first.

        Raises:
            MemoryUnwritable: it cannot be read.
        """
        query = select(SignedIn, Account).join(Account, Account.account_id == SignedIn.account_id)
        query = query.where(SignedIn.account_id == account_id, SignedIn.expires_at > at_of(self._now()))
        with self._database.reading() as session:
            return tuple(_shown(*row) for row in session.execute(query.order_by(SignedIn.seen_at.desc())))

    def _note_seen(self, secret: str, now: datetime) -> None:
        with self._database.writing() as (session, _):
            if (row := session.get(SignedIn, digest_of(secret))) is not None:
                row.seen_at = at_of(now)


def end_sessions(session: Session, account_id: str, but: str = "") -> None:
    """Sign somebody out, in a transaction that writes.

    Args:
        session: of the transaction.
        account_id: who.
        but: the secret of a browser that stays signed in.
    """
    ended = delete(SignedIn).where(SignedIn.account_id == account_id)
    session.execute(ended.where(SignedIn.session_sha256 != digest_of(but)) if but else ended)


def end_sessions_named(session: Session, account_id: str, shown_id: str) -> bool:
    """Sign somebody out in the browser of a name, in a transaction that writes; whether there is one."""
    rows = session.scalars(select(SignedIn).where(SignedIn.account_id == account_id))
    named = [row for row in rows if row.session_sha256[:_SHOWN_DIGITS] == shown_id]
    for row in named:
        session.delete(row)
    return bool(named)


def _shown(row: SignedIn, account: Account) -> Browser:
    return Browser(
        person=person_of(account),
        stage="full" if row.stage == "full" else "password",
        csrf=row.csrf,
        shown_id=row.session_sha256[:_SHOWN_DIGITS],
        created_at=row.created_at,
        seen_at=row.seen_at,
        expires_at=row.expires_at,
    )
