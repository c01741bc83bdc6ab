"""Links that let somebody choose a password, once: the first admin, an invited person, a forgotten password."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from uuid import uuid4

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from guardrail.memory.accounts_rules import require_email, require_free_email, require_name
from guardrail.memory.accounts_secrets import digest_of, hash_password, new_secret, require_password
from guardrail.memory.accounts_sessions import end_sessions
from guardrail.memory.accounts_shapes import LinkPurpose, LinkShown, Person, person_of
from guardrail.memory.audit import add_event, at_of
from guardrail.memory.database import Database
from guardrail.memory.review_tables import Account, Organisation, SignInLink
from guardrail.review_errors import SignInFailed

__all__ = ["LINK_HOURS", "Links", "add_link"]

LINK_HOURS: dict[LinkPurpose, int] = {"first": 24, "invite": 72, "reset": 2}
_NOBODY_YET = "admin@{}.invalid"  # stands for the first admin's email until they said it (RFC 2606)
_GONE = "the link was used, has expired, or is not one of this desk"


class Links:
    """The one-time links of one memory; usable in threads.

    Args:
        database: where they lie, as digests.
        now: the time, aware.
    """

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now

    def first(self, titles: Mapping[str, str], *, again: bool = False) -> dict[str, str]:
        """Make organisations that are new, and a link for the first admin of those that have nobody.

        Args:
            titles: organisations of the settings, by name.
            again: make links anew where no admin has signed in yet; those made before are void then.

        Returns:
            The secrets of the links, by organisation; 24 hours, and once.

        Raises:
            MemoryUnwritable: nothing was made.
        """
        with self._database.reading() as session:  # what starts every day need not write
            known = {row.organisation: row.title for row in session.scalars(select(Organisation))}
        if not again and known.items() >= dict(titles).items():
            return {}
        secrets = {}
        with self._database.writing() as (session, _):
            for organisation, title in titles.items():
                is_new = _found(session, organisation, title, at_of(self._now()))
                if is_new or (again and not _has_admin(session, organisation)):
                    admin = _first_admin(session, organisation, at_of(self._now()))
                    secrets[organisation] = add_link(session, admin, "first", self._now())
                    add_event(session, organisation, "account.first_link", admin.account_id)
        return secrets

    def look(self, secret: str) -> LinkShown | None:
        """What a link is for; it is not used up by looking. None where it cannot be used.

        Raises:
            MemoryUnwritable: it cannot be looked up.
        """
        with self._database.reading() as session:
            found = _usable(session, secret, self._now())
            if found is None:
                return None
            link, account = found
            return LinkShown(link.purpose, person_of(account), link.expires_at)  # type: ignore[arg-type]

    def use(self, secret: str, password: str, name: str = "", email: str = "", address: str = "") -> Person:
        """Choose a password by a link; whoever was signed in to the account no longer is.

        Args:
            secret: of the link.
            password: the new one.
            name: of an invited person and the first admin.
            email: of the first admin; it is the inviting admin who says an invited person's.
            address: where the request came from.

        Raises:
            SignInFailed: the link cannot be used.
            AccountInvalid: password, name or email cannot be; the link still can be used.
            MemoryUnwritable: nothing was changed.
        """
        shown = self.look(secret)
        if shown is None:
            raise SignInFailed(_GONE)
        person = shown.person
        name = person.name if shown.purpose == "reset" else require_name(name)
        email = require_email(email) if shown.purpose == "first" else person.email
        require_password(password, email, name)
        hashed = hash_password(password)  # slow, so before the lock
        with self._database.writing() as (session, _):
            found = _usable(session, secret, self._now())
            if found is None:
                raise SignInFailed(_GONE)
            _, account = found
            if email != account.email:
                require_free_email(session, email)
            account.email, account.name, account.password_hash, account.state = email, name, hashed, "active"
            account.totp_pending = None
            account.failures, account.locked_until = 0, None
            used = update(SignInLink).where(SignInLink.account_id == account.account_id, SignInLink.used_at.is_(None))
            session.execute(used.values(used_at=at_of(self._now())))
            end_sessions(session, account.account_id)
            changed = person_of(account)
            add_event(session, changed.actor, "account.link_used", account.account_id, {"for": shown.purpose}, address)
        return changed


def add_link(session: Session, account: Account, purpose: LinkPurpose, now: datetime) -> str:
    """Make a link, in a transaction that writes; those that were not used are void.

    Returns:
        Its secret.
    """
    session.execute(delete(SignInLink).where(SignInLink.account_id == account.account_id, SignInLink.used_at.is_(None)))
    secret = new_secret()
    session.add(
        SignInLink(
            link_sha256=digest_of(secret),
            account_id=account.account_id,
            purpose=purpose,
            expires_at=at_of(now + timedelta(hours=LINK_HOURS[purpose])),
        )
    )
    return secret


def _usable(session: Session, secret: str, now: datetime) -> tuple[SignInLink, Account] | None:
    query = select(SignInLink, Account).join(Account, Account.account_id == SignInLink.account_id)
    found = session.execute(query.where(SignInLink.link_sha256 == digest_of(secret))).one_or_none()
    if found is None or found[0].used_at is not None or found[0].expires_at <= at_of(now):
        return None
    return None if found[1].state == "disabled" else (found[0], found[1])


def _found(session: Session, organisation: str, title: str, at: str) -> bool:
    """Make an organisation, or give it its title; whether it is without any account."""
    row = session.get(Organisation, organisation)
    if row is None:
        session.add(Organisation(organisation=organisation, title=title, created_at=at))
        session.flush()
    else:
        row.title = title
    people = select(func.count()).select_from(Account).where(Account.organisation == organisation)
    return not session.scalar(people)


def _has_admin(session: Session, organisation: str) -> bool:
    """Whether an admin chose a password or came by the identity provider, be it one who was disabled since."""
    query = select(func.count()).select_from(Account)
    query = query.where(Account.organisation == organisation, Account.role == "admin")
    query = query.where(Account.password_hash.is_not(None) | Account.oidc_subject.is_not(None))
    return bool(session.scalar(query))


def _first_admin(session: Session, organisation: str, at: str) -> Account:
    email = _NOBODY_YET.format(organisation.lower())
    account = session.scalars(select(Account).where(Account.email == email)).one_or_none()
    if account is None:
        account = Account(
            account_id=uuid4().hex,
            organisation=organisation,
            email=email,
            name="First admin",
            role="admin",
            state="invited",
            created_at=at,
        )
        session.add(account)
        session.flush()
    return account
