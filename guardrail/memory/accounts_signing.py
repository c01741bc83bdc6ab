"""How people prove who they are: passwords, codes of authenticators, the identity provider."""

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import uuid4

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from guardrail.memory.accounts_rules import account_of, require_email, require_name
from guardrail.memory.accounts_secrets import (
    check_password,
    hash_password,
    new_recovery_codes,
    new_totp_secret,
    require_password,
    totp_step,
    totp_uri,
    without_recovery_code,
)
from guardrail.memory.accounts_sessions import end_sessions
from guardrail.memory.accounts_shapes import Person, must_have_totp, person_of
from guardrail.memory.audit import add_event, at_of
from guardrail.memory.database import Database
from guardrail.memory.review_tables import Account, Organisation
from guardrail.records import Actor
from guardrail.review_errors import AccountInvalid, AccountMissing, SignInFailed

__all__ = ["KnownElsewhere", "Signing"]

_FREE_TRIES = 5  # wrong codes before one must wait
_LONGEST_WAIT_S = 900
_WRONG_CODE = "the code is wrong, was used already, or there were too many tries"


class KnownElsewhere(NamedTuple):
    """Whom the identity provider names: issuer and subject; the email is told, and nobody is found by it."""

    issuer: str
    subject: str
    email: str
    name: str


class Signing:
    """Checks of who somebody is; usable in threads.

    Args:
        database: where accounts lie.
        now: the time, aware.
    """

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now

    def check_password(self, email: str, password: str, address: str = "") -> Person | None:
        """Whose email and password these are; None where they are nobody's, or the account is not active.

        It takes as long for emails that nobody has, and is noted in the audit either way.

        Raises:
            MemoryUnwritable: it could not be noted.
        """
        wanted = email.strip().casefold()
        with self._database.reading() as session:
            account = session.scalars(select(Account).where(Account.email == wanted)).one_or_none()
            stored = account.password_hash if account is not None else None
            found = person_of(account) if account is not None else None
        fits, rehashed = check_password(stored, password)
        person = found if fits and found is not None and found.state == "active" else None
        with self._database.writing() as (session, _):
            if person is None:
                add_event(session, found.organisation if found else "", "sign_in.refused", wanted, {}, address)
                return None
            if rehashed is not None:
                kept = session.get(Account, person.account_id)
                if kept is not None and kept.password_hash == stored:
                    kept.password_hash = rehashed
            add_event(session, person.actor, "sign_in.password", person.account_id, {}, address)
        return person

    def check_code(self, account_id: str, code: str, address: str = "") -> Person:
        """Check a code of the authenticator, or a recovery code; each serves once.

        After five wrong ones in a row one waits, twice as long each time, up to 15 minutes; nothing is checked then.

        Raises:
            SignInFailed: it is wrong, was used, or must wait.
            MemoryUnwritable: it was not checked.
        """
        with self._database.writing() as (session, _):
            account = session.get(Account, account_id)
            if account is None or account.state != "active":
                person = None
            else:
                fits = not self._waits(account) and self._takes(account, code)
                self._count(account, fits=fits)
                person = person_of(account) if fits else None
                said = {"recovery_left": person.recovery_left} if person else {}
                action = "sign_in.code" if fits else "sign_in.code_refused"
                add_event(session, person_of(account).actor, action, account_id, said, address)
        if person is None:  # only now, so that the try is counted
            raise SignInFailed(_WRONG_CODE)
        return person

    def _waits(self, account: Account) -> bool:
        return account.locked_until is not None and account.locked_until > at_of(self._now())

    def _takes(self, account: Account, code: str) -> bool:
        if account.totp_secret is None:
            return False
        step = totp_step(account.totp_secret, code, account.totp_last_step, self._now().timestamp())
        if step is not None:
            account.totp_last_step = step
            return True
        left = without_recovery_code(account.recovery_hashes, code)
        if left is None:
            return False
        account.recovery_hashes = left
        return True

    def _count(self, account: Account, *, fits: bool) -> None:
        if fits:
            account.failures, account.locked_until = 0, None
        elif not self._waits(account):
            account.failures += 1
            if account.failures >= _FREE_TRIES:
                wait_s = min(_LONGEST_WAIT_S, 2 ** (account.failures - _FREE_TRIES + 1))
                account.locked_until = at_of(self._now() + timedelta(seconds=wait_s))

    # --- authenticator -----------------------------------------------------------------------------------

    def begin_totp(self, account_id: str, desk: str) -> tuple[str, str]:
        """A secret for somebody's authenticator; it is asked for only once a code of it was given.

        Args:
            account_id: who; they proved who they are.
            desk: how the authenticator names this desk.

        Returns:
            The secret in base 32, and the `otpauth://` address of it.

        Raises:
            AccountInvalid: they have an authenticator.
            MemoryUnwritable: nothing was changed.
        """
        with self._database.writing() as (session, _):
            account = _known(session, account_id)
            if account.totp_secret is not None:
                raise AccountInvalid("authenticator", "one that is in use", "none; remove it first")
            account.totp_pending = account.totp_pending or new_totp_secret()
            return account.totp_pending, totp_uri(account.totp_pending, account.email, desk)

    def confirm_totp(self, account_id: str, code: str, address: str = "") -> tuple[str, ...]:
        """Take the authenticator into use whose code this is.

        Returns:
            Ten recovery codes; they cannot be shown again.

        Raises:
            SignInFailed: the code is not one of it.
            MemoryUnwritable: nothing was changed.
        """
        with self._database.writing() as (session, _):
            account = _known(session, account_id)
            pending = account.totp_pending
            step = totp_step(pending, code, -1, self._now().timestamp()) if pending else None
            if step is None:
                raise SignInFailed(_WRONG_CODE)
            shown, account.recovery_hashes = new_recovery_codes()
            account.totp_secret, account.totp_pending, account.totp_last_step = pending, None, step
            account.failures, account.locked_until = 0, None
            add_event(session, person_of(account).actor, "account.totp_made", account_id, {}, address)
        return shown

    def drop_totp(self, actor: Actor, password: str, code: str, address: str = "") -> None:
        """Give one's own authenticator up, with password and a code.

        Raises:
            AccountInvalid: one's role asks for one.
            SignInFailed: password or code are wrong.
            MemoryUnwritable: nothing was changed.
        """
        self._require_own_password(actor, password, address)
        person = self.check_code(actor.account_id, code, address)
        if must_have_totp(person):
            raise AccountInvalid("authenticator", f"the role {person.role}, which needs one", "another role first")
        with self._database.writing() as (session, _):
            account = account_of(session, actor, actor.account_id)
            account.totp_secret, account.totp_pending, account.recovery_hashes = None, None, []
            add_event(session, actor, "account.totp_dropped", actor.account_id, {}, address)

    def renew_recovery(self, actor: Actor, code: str, address: str = "") -> tuple[str, ...]:
        """Ten new recovery codes in the place of those before, for a code of the authenticator.

        Raises:
            SignInFailed: the code is wrong.
            MemoryUnwritable: nothing was changed.
        """
        self.check_code(actor.account_id, code, address)
        shown, hashes = new_recovery_codes()
        with self._database.writing() as (session, _):
            account_of(session, actor, actor.account_id).recovery_hashes = hashes
            add_event(session, actor, "account.recovery_renewed", actor.account_id, {}, address)
        return shown

    # --- password ----------------------------------------------------------------------------------------

    def change_password(self, actor: Actor, old: str, new: str, *, keep: str = "", address: str = "") -> None:
        """Change one's own password; one is signed out in all other browsers.

        Args:
            actor: whose.
            old: the present one.
            new: the new one.
            keep: the secret of the browser that stays signed in.
            address: where the request came from.

        Raises:
            SignInFailed: the present one is wrong.
            AccountInvalid: the new one cannot be.
            MemoryUnwritable: nothing was changed.
        """
        person = self._require_own_password(actor, old, address)
        require_password(new, person.email, person.name)
        hashed = hash_password(new)
        with self._database.writing() as (session, _):
            account = account_of(session, actor, actor.account_id)
            account.password_hash, account.totp_pending = hashed, None  # whoever was here before may know the latter
            end_sessions(session, actor.account_id, keep)
            add_event(session, actor, "account.password_changed", actor.account_id, {}, address)

    def _require_own_password(self, actor: Actor, password: str, address: str) -> Person:
        with self._database.reading() as session:
            account = account_of(session, actor, actor.account_id)
            stored, person = account.password_hash, person_of(account)
        if not check_password(stored, password)[0]:
            with self._database.writing() as (session, _):
                add_event(session, actor, "account.password_refused", actor.account_id, {}, address)
            raise SignInFailed("the present password is another one")
        return person

    # --- identity provider -------------------------------------------------------------------------------

    def by_provider(self, organisation: str, named: KnownElsewhere, address: str = "") -> Person:
        """The account of somebody whom the identity provider names; found by issuer and subject alone.

        Who is new gets an account that waits until an admin lets it in. An email that another account has, here or in
        another organisation, is refused: whoever has it at the provider is not thereby the one who has it here.

        Raises:
            SignInFailed: they are refused, wait for an admin, or are disabled.
            MemoryUnwritable: nothing was changed.
        """
        with self._database.writing() as (session, _):
            query = select(Account).where(Account.oidc_issuer == named.issuer, Account.oidc_subject == named.subject)
            account = session.scalars(query).one_or_none()
            email = _email_of(named)
            if account is None and not _is_free(session, email):
                add_event(session, organisation, "sign_in.provider_refused", email, {"why": "known email"}, address)
                person = None
            else:
                account = account or _waiting(session, organisation, named, email, at_of(self._now()))
                person = person_of(account)
                action = "sign_in.provider" if person.state == "active" else "sign_in.provider_waits"
                add_event(session, person.actor, action, person.account_id, {}, address)
        if person is None or person.organisation != organisation or person.state == "disabled":
            raise SignInFailed("this desk does not know you by the identity provider")
        if person.state != "active":
            raise SignInFailed("an admin of your organisation must let you in first")
        return person


def _known(session: Session, account_id: str) -> Account:
    account = session.get(Account, account_id)
    if account is None or account.state != "active":
        raise AccountMissing(account_id[:32])
    return account


def _is_free(session: Session, email: str) -> bool:
    return not session.scalar(select(func.count()).select_from(Account).where(Account.email == email))


def _email_of(named: KnownElsewhere) -> str:
    """The email that the provider vouches for; where there is none, one that nobody has (RFC 2606)."""
    try:
        return require_email(named.email)
    except AccountInvalid:
        digest = hashlib.sha256(f"{named.issuer}\n{named.subject}".encode()).hexdigest()
        return f"{digest[:24]}@provider.invalid"


def _waiting(session: Session, organisation: str, named: KnownElsewhere, email: str, at: str) -> Account:
    if session.get(Organisation, organisation) is None:
        raise SignInFailed("the organisation of the identity provider is not set up here")
    try:
        name = require_name(named.name)
    except AccountInvalid:
        name = email
    account = Account(
        account_id=uuid4().hex,
        organisation=organisation,
        email=email,
        name=name[:100],
        role="viewer",
        state="waiting",
        oidc_issuer=named.issuer,
        oidc_subject=named.subject,
        created_at=at,
    )
    session.add(account)
    session.flush()
    return account
