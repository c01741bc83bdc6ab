"""Organisations and the people in them: who there is, who may do what; and all that has to do with signing in."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Literal
from uuid import uuid4

from sqlalchemy import delete, select

from guardrail.memory.accounts_links import Links, add_link
from guardrail.memory.accounts_rules import (
    account_of,
    require_admin,
    require_another_admin,
    require_email,
    require_free_email,
    require_name,
)
from guardrail.memory.accounts_secrets import hash_password, require_password
from guardrail.memory.accounts_sessions import Sessions, end_sessions, end_sessions_named
from guardrail.memory.accounts_shapes import ROLES, Person, Preferences, person_of
from guardrail.memory.accounts_signing import Signing
from guardrail.memory.accounts_tokens import Tokens
from guardrail.memory.audit import add_event, at_of
from guardrail.memory.database import Database
from guardrail.memory.review_tables import Account, Organisation, SignInLink
from guardrail.records import Actor
from guardrail.records.review import Role
from guardrail.review_errors import AccountInvalid, AccountMissing

__all__ = ["Accounts"]


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Accounts:
    """The accounts of one memory; usable in threads. What is done to an account is noted in the audit with it.

    Args:
        database: where they lie.
        now: the time, aware; another one in tests.

    Attributes:
        links: one-time links.
        sessions: who is signed in where.
        signing: passwords, authenticators, the identity provider.
        tokens: API tokens.
    """

    def __init__(self, database: Database, now: Callable[[], datetime] = _utc_now) -> None:
        self._database = database
        self.now = now
        self.links = Links(database, self._clock)
        self.sessions = Sessions(database, self._clock)
        self.signing = Signing(database, self._clock)
        self.tokens = Tokens(database, self._clock)

    def _clock(self) -> datetime:
        return self.now()

    def first_links(self, titles: Mapping[str, str], *, again: bool = False) -> dict[str, str]:
        """Make the organisations of the settings, and links for first admins; see `Links.first`.

        Raises:
            MemoryUnwritable: nothing was made.
        """
        return self.links.first(titles, again=again)

    def organisations(self) -> dict[str, str]:
        """Titles of all organisations, by name."""
        with self._database.reading() as session:
            return {row.organisation: row.title for row in session.scalars(select(Organisation))}

    # --- people ------------------------------------------------------------------------------------------

    def person(self, account_id: str) -> Person | None:
        """One account; None where there is none."""
        with self._database.reading() as session:
            account = session.get(Account, account_id)
            return person_of(account) if account else None

    def people(self, actor: Actor) -> tuple[Person, ...]:
        """The accounts of the actor's organisation, by name.

        Raises:
            NotAllowed: only admins see them.
            MemoryUnwritable: they cannot be read.
        """
        require_admin(actor, "seeing the accounts")
        query = select(Account).where(Account.organisation == actor.organisation)
        with self._database.reading() as session:
            return tuple(person_of(one) for one in session.scalars(query.order_by(Account.name, Account.email)))

    def names(self, organisation: str) -> dict[str, str]:
        """The names of an organisation's people, by account; also of those who are disabled."""
        query = select(Account.account_id, Account.name).where(Account.organisation == organisation)
        with self._database.reading() as session:
            return {row.account_id: row.name for row in session.execute(query)}

    def open_account(self, organisation: str, email: str, name: str, role: Role, password: str | None = None) -> Person:
        """Make an active account; without a password nobody can sign in to it, and it serves tests.

        Raises:
            AccountInvalid: it cannot be made like this.
            MemoryUnwritable: it was not made.
        """
        account = self._new(organisation, email, name, role)
        account.state = "active"
        if password is not None:
            require_password(password, account.email, account.name)
            account.password_hash = hash_password(password)
        with self._database.writing() as (session, _):
            require_free_email(session, account.email)
            if session.get(Organisation, organisation) is None:
                raise AccountInvalid("organisation", repr(organisation), "one that there is")
            session.add(account)
            session.flush()
            add_event(session, organisation, "account.made", account.account_id, {"role": role})
            return person_of(account)

    def invite(self, actor: Actor, email: str, name: str, role: Role, address: str = "") -> tuple[Person, str]:
        """Make an account, and the link by which its person chooses a password.

        Returns:
            The account, and the secret of the link; it cannot be shown again.

        Raises:
            NotAllowed: no admin asks.
            AccountInvalid: it cannot be made like this.
            MemoryUnwritable: it was not made.
        """
        require_admin(actor, "inviting people")
        account = self._new(actor.organisation, email, name, role)
        with self._database.writing() as (session, _):
            require_free_email(session, account.email)
            session.add(account)
            session.flush()
            secret = add_link(session, account, "invite", self.now())
            said = {"email": account.email, "role": role}
            add_event(session, actor, "account.invited", account.account_id, said, address)
            return person_of(account), secret

    def reset_link(self, actor: Actor, account_id: str, address: str = "") -> str:
        """A new link for somebody: to choose a password again, or for the first time.

        Raises:
            NotAllowed, AccountMissing: no admin asks; no such account.
            AccountInvalid: they sign in by the identity provider, or are disabled.
            MemoryUnwritable: nothing was made.
        """
        require_admin(actor, "making a link")
        with self._database.writing() as (session, _):
            account = account_of(session, actor, account_id)
            if account.oidc_subject is not None or account.state == "disabled":
                raise AccountInvalid("link", "an account that has no password or is disabled", "another one")
            purpose: Literal["reset", "invite"] = "reset" if account.password_hash else "invite"
            add_event(session, actor, "account.link_made", account_id, {"for": purpose}, address)
            return add_link(session, account, purpose, self.now())

    def change_role(self, actor: Actor, account_id: str, role: Role, address: str = "") -> Person:
        """Give somebody another role; they are signed out, so that what the role asks for is asked for.

        Raises:
            NotAllowed, AccountMissing: no admin asks; no such account.
            AccountInvalid: there is no such role, or they are the last admin.
            MemoryUnwritable: nothing was changed.
        """
        require_admin(actor, "changing roles")
        if role not in ROLES:
            raise AccountInvalid("role", repr(role), f"one of {', '.join(ROLES)}")
        with self._database.writing() as (session, _):
            account = account_of(session, actor, account_id)
            if account.role != role:
                require_another_admin(session, account)
                add_event(session, actor, "account.role", account_id, {"from": account.role, "to": role}, address)
                account.role, account.totp_pending = role, None
                end_sessions(session, account_id)
            return person_of(account)

    def change_state(
        self, actor: Actor, account_id: str, state: Literal["active", "disabled"], address: str = ""
    ) -> Person:
        """Disable an account, let it in again, or let in somebody who came by the identity provider.

        Sessions and links of a disabled account end; its tokens are not taken while it is disabled.

        Raises:
            NotAllowed, AccountMissing: no admin asks; no such account.
            AccountInvalid: they are the last admin.
            MemoryUnwritable: nothing was changed.
        """
        require_admin(actor, "disabling accounts")
        with self._database.writing() as (session, _):
            account = account_of(session, actor, account_id)
            if state == "disabled":
                require_another_admin(session, account)
                end_sessions(session, account_id)
                session.execute(delete(SignInLink).where(SignInLink.account_id == account_id))
            has_key = account.password_hash is not None or account.oidc_subject is not None
            account.state = "invited" if state == "active" and not has_key else state
            add_event(session, actor, f"account.{state}", account_id, {}, address)
            return person_of(account)

    def forget_totp(self, actor: Actor, account_id: str, address: str = "") -> None:
        """Take the authenticator away from somebody who lost it and their recovery codes; they are signed out.

        Raises:
            NotAllowed, AccountMissing: no admin asks; no such account.
            MemoryUnwritable: nothing was changed.
        """
        require_admin(actor, "taking an authenticator away")
        with self._database.writing() as (session, _):
            account = account_of(session, actor, account_id)
            account.totp_secret, account.totp_pending, account.recovery_hashes = None, None, []
            end_sessions(session, account_id)
            add_event(session, actor, "account.totp_taken", account_id, {}, address)

    # --- one's own account -------------------------------------------------------------------------------

    def rename(self, actor: Actor, name: str, address: str = "") -> None:
        """Change one's own name.

        Raises:
            AccountInvalid: it cannot be a name.
            MemoryUnwritable: nothing was changed.
        """
        name = require_name(name)
        with self._database.writing() as (session, _):
            account = account_of(session, actor, actor.account_id)
            account.name = name
            add_event(session, actor, "account.renamed", actor.account_id, {}, address)

    def set_preferences(self, actor: Actor, preferences: Preferences, address: str = "") -> None:
        """Change one's own settings.

        Raises:
            AccountInvalid: `blur` is none that there is.
            MemoryUnwritable: nothing was changed.
        """
        if preferences.blur not in ("none", "blur", "grey"):
            raise AccountInvalid("blur", repr(preferences.blur), "none, blur or grey")
        with self._database.writing() as (session, _):
            account = account_of(session, actor, actor.account_id)
            account.preferences = asdict(preferences)
            add_event(session, actor, "account.preferences", actor.account_id, asdict(preferences), address)

    def close_browser(self, actor: Actor, shown_id: str, address: str = "") -> None:
        """Sign oneself out in one browser.

        Raises:
            AccountMissing: there is no such browser of one's own.
            MemoryUnwritable: nothing was changed.
        """
        with self._database.writing() as (session, _):
            if not end_sessions_named(session, actor.account_id, shown_id):
                raise AccountMissing(shown_id[:32])
            add_event(session, actor, "account.signed_out", shown_id[:32], {}, address)

    def _new(self, organisation: str, email: str, name: str, role: Role) -> Account:
        if role not in ROLES:
            raise AccountInvalid("role", repr(role), f"one of {', '.join(ROLES)}")
        return Account(
            account_id=uuid4().hex,
            organisation=organisation,
            email=require_email(email),
            name=require_name(name),
            role=role,
            state="invited",
            created_at=at_of(self.now()),
        )
