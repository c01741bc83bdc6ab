"""API tokens: made for a person, shown once, kept as digests, taken back at any time."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from uuid import uuid4

from sqlalchemy import select

from guardrail.memory.accounts_secrets import digest_of, new_secret
from guardrail.memory.accounts_shapes import SCOPE_NEEDS, SCOPES, TokenShown, at_least, person_of
from guardrail.memory.audit import add_event, at_of
from guardrail.memory.database import Database
from guardrail.memory.review_tables import Account, ApiToken
from guardrail.records import Actor
from guardrail.records.review import Scope
from guardrail.review_errors import AccountInvalid, NotAllowed

__all__ = ["TOKEN_PREFIX", "Tokens"]

TOKEN_PREFIX = "gr_"  # noqa: S105  # so that scanners for leaked secrets find them
_MOST_DAYS = 730
_MOST_TOKENS = 50  # that work, of one person
_NAME_LETTERS = 100
_USED_EVERY_S = 60  # how exactly it is known when a token was last used; each time is a write


class Tokens:
    """The API tokens of one memory; usable in threads.

    Args:
        database: where they lie.
        now: the time, aware.
    """

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now

    def make(self, actor: Actor, name: str, scopes: Sequence[Scope], days: int | None, address: str = "") -> str:
        """Make a token for the one who asks.

        Args:
            actor: a person; tokens make no tokens.
            name: what it is for.
            scopes: what it may do; no more than the person's role allows.
            days: after so many it is not taken any more, at most 730; None: 90.
            address: where the request came from.

        Returns:
            The token; it cannot be shown again.

        Raises:
            NotAllowed: a token asks, or the role does not allow a scope.
            AccountInvalid: name, scopes or days cannot be.
            MemoryUnwritable: it was not made.
        """
        self._require(actor, name, scopes, days)
        token, now = f"{TOKEN_PREFIX}{new_secret()}", self._now()
        row = ApiToken(
            token_id=uuid4().hex,
            token_sha256=digest_of(token),
            organisation=actor.organisation,
            account_id=actor.account_id,
            name=name.strip(),
            scopes=sorted(set(scopes)),
            created_at=at_of(now),
            expires_at=at_of(now + timedelta(days=90 if days is None else days)),
        )
        with self._database.writing() as (session, _):
            mine = session.scalars(select(ApiToken).where(ApiToken.account_id == actor.account_id))
            if sum(_is_open(one, now) for one in mine) >= _MOST_TOKENS:
                raise AccountInvalid("tokens", f"{_MOST_TOKENS} that work", "fewer; revoke those that nobody uses")
            said = {"name": row.name, "scopes": row.scopes, "expires_at": row.expires_at}
            add_event(session, actor, "token.made", row.token_id, said, address)
            session.add(row)
        return token

    def find(self, token: str) -> Actor | None:
        """Who acts with a token; None where it is unknown, expired or revoked, or its person is not active.

        The actor has the person's role of today.

        Raises:
            MemoryUnwritable: it cannot be looked up.
        """
        now = self._now()
        query = select(ApiToken, Account).join(Account, Account.account_id == ApiToken.account_id)
        with self._database.reading() as session:
            found = session.execute(query.where(ApiToken.token_sha256 == digest_of(token))).one_or_none()
            if found is None or not _works(*found, now):
                return None
            row, account = found
            person, used_at, token_id = person_of(account), row.used_at, row.token_id
            scopes = tuple(scope for scope in SCOPES if scope in row.scopes)
        if used_at is None or used_at <= at_of(now - timedelta(seconds=_USED_EVERY_S)):
            self._note_used(token_id, now)
        return person.actor.model_copy(update={"token_id": token_id, "scopes": scopes})

    def of(self, actor: Actor, *, everyone: bool = False) -> tuple[TokenShown, ...]:
        """The tokens of the one who asks, or (for admins) of their organisation, latest first.

        Raises:
            NotAllowed: only admins see other people's.
            MemoryUnwritable: they cannot be read.
        """
        query = select(ApiToken, Account).join(Account, Account.account_id == ApiToken.account_id)
        query = query.where(ApiToken.organisation == actor.organisation)
        if everyone and not at_least(actor.role, "admin"):
            raise NotAllowed("seeing other people's tokens", "the role admin")
        if not everyone:
            query = query.where(ApiToken.account_id == actor.account_id)
        with self._database.reading() as session:
            rows = session.execute(query.order_by(ApiToken.created_at.desc())).all()
            return tuple(_shown(row, account, self._now()) for row, account in rows)

    def revoke(self, actor: Actor, token_id: str, address: str = "") -> bool:
        """Take a token back: one's own, or (for admins) any of the organisation; for good.

        Returns:
            Whether there is such a token.

        Raises:
            MemoryUnwritable: nothing was changed.
        """
        with self._database.writing() as (session, _):
            row = session.get(ApiToken, token_id)
            if row is None or row.organisation != actor.organisation:
                return False
            if row.account_id != actor.account_id and not at_least(actor.role, "admin"):
                return False
            if row.revoked_at is None:
                row.revoked_at = at_of(self._now())
                add_event(session, actor, "token.revoked", token_id, {"name": row.name}, address)
            return True

    def _require(self, actor: Actor, name: str, scopes: Sequence[Scope], days: int | None) -> None:
        if actor.token_id is not None:
            raise NotAllowed("making a token", "a person who signed in")
        if not 1 <= len(name.strip()) <= _NAME_LETTERS:
            raise AccountInvalid("name", f"{len(name.strip())} letters", f"1 to {_NAME_LETTERS}")
        if not scopes or any(scope not in SCOPES for scope in scopes):
            raise AccountInvalid("scopes", f"{list(scopes)!r}", f"one or more of {', '.join(SCOPES)}")
        for scope in scopes:
            if not at_least(actor.role, SCOPE_NEEDS[scope]):
                raise NotAllowed(f"a token for {scope}", f"the role {SCOPE_NEEDS[scope]}")
        if days is not None and not 1 <= days <= _MOST_DAYS:
            raise AccountInvalid("days", f"{days}", f"1 to {_MOST_DAYS}")

    def _note_used(self, token_id: str, now: datetime) -> None:
        with self._database.writing() as (session, _):
            if (row := session.get(ApiToken, token_id)) is not None:
                row.used_at = at_of(now)


def _is_open(row: ApiToken, now: datetime) -> bool:
    return row.revoked_at is None and (row.expires_at is None or row.expires_at > at_of(now))


def _works(row: ApiToken, account: Account, now: datetime) -> bool:
    return _is_open(row, now) and account.state == "active" and account.organisation == row.organisation


def _shown(row: ApiToken, account: Account, now: datetime) -> TokenShown:
    return TokenShown(
        token_id=row.token_id,
        name=row.name,
        account_id=row.account_id,
        account_name=account.name,
        scopes=tuple(scope for scope in SCOPES if scope in row.scopes),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        used_at=row.used_at,
        works=_works(row, account, now),
    )
