"""What accounts must be like: emails, names, and who may change whom."""

import re
import unicodedata

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from guardrail.memory.accounts_shapes import at_least
from guardrail.memory.review_tables import Account
from guardrail.records import Actor
from guardrail.review_errors import AccountInvalid, AccountMissing, NotAllowed

__all__ = [
    "account_of",
    "require_admin",
    "require_another_admin",
    "require_email",
    "require_free_email",
    "require_name",
]

_EMAIL = re.compile(r"[^@\s\x00-\x1f\x7f<>\"(),:;\\\[\]]{1,64}@(?:[\w-]+\.)+[\w-]{2,}")
_EMAIL_LETTERS = 254  # RFC 5321
_NAME_LETTERS = 100


def require_email(email: str) -> str:
    """An email as accounts are found by it: lower case, without spaces around.

    Raises:
        AccountInvalid: it is none.
    """
    spelled = unicodedata.normalize("NFKC", email).strip().casefold()
    if len(spelled) > _EMAIL_LETTERS or not _EMAIL.fullmatch(spelled):
        raise AccountInvalid("email", f"a text of {len(spelled)} letters", "one like name@example.org")
    return spelled


def require_free_email(session: Session, email: str) -> None:
    """Refuse an email that has an account, be it in another organisation.

    Raises:
        AccountInvalid: it has one.
    """
    if session.scalar(select(func.count()).select_from(Account).where(Account.email == email)):
        raise AccountInvalid("email", "one that cannot be used here", "one that has no account")


def require_name(name: str) -> str:
    """A name for people to read: printable, without spaces around.

    Raises:
        AccountInvalid: it is empty, too long, or not printable.
    """
    spelled = unicodedata.normalize("NFC", name).strip()
    if not 1 <= len(spelled) <= _NAME_LETTERS or not spelled.isprintable():
        raise AccountInvalid("name", f"{len(spelled)} letters", f"1 to {_NAME_LETTERS} that can be printed")
    return spelled


def require_admin(actor: Actor, asked: str) -> None:
    """Refuse whoever is no admin, and every token.

    Raises:
        NotAllowed: saying what was asked for.
    """
    if actor.token_id is not None or not at_least(actor.role, "admin"):
        raise NotAllowed(asked, "an admin who signed in")


def account_of(session: Session, actor: Actor, account_id: str) -> Account:
    """An account of the actor's organisation.

    Raises:
        AccountMissing: there is none; one of another organisation is none.
    """
    account = session.get(Account, account_id)
    if account is None or account.organisation != actor.organisation:
        raise AccountMissing(account_id[:32])
    return account


def require_another_admin(session: Session, account: Account) -> None:
    """Refuse to take the last active admin from an organisation.

    Raises:
        AccountInvalid: this is the last one.
    """
    if account.role != "admin" or account.state != "active":
        return
    others = (
        select(func.count())
        .select_from(Account)
        .where(
            Account.organisation == account.organisation,
            Account.role == "admin",
            Account.state == "active",
            Account.account_id != account.account_id,
        )
    )
    if not session.scalar(others):
        raise AccountInvalid("role", "the last admin of the organisation", "another active admin first")
