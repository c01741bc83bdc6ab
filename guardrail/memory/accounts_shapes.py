"""What accounts look like outside the database: people, their settings, links, browsers, tokens; and what roles may."""

from dataclasses import dataclass
from typing import Literal, get_args

from guardrail.memory.review_tables import Account
from guardrail.records import Actor
from guardrail.records.review import Role, Scope

__all__ = [
    "ROLES",
    "SCOPES",
    "SCOPE_NEEDS",
    "AccountState",
    "Blur",
    "Browser",
    "LinkPurpose",
    "LinkShown",
    "Person",
    "Preferences",
    "TokenShown",
    "at_least",
    "must_have_totp",
    "person_of",
]

AccountState = Literal["invited", "waiting", "active", "disabled"]
LinkPurpose = Literal["first", "invite", "reset"]
Blur = Literal["none", "blur", "grey"]

ROLES: tuple[Role, ...] = get_args(Role)  # each may all that those before it may
SCOPES: tuple[Scope, ...] = get_args(Scope)
SCOPE_NEEDS: dict[Scope, Role] = {  # the role that a person must have for a token of theirs to do it
    "check": "reviewer",
    "verdicts:read": "viewer",
    "works:write": "lead",
    "cases:read": "viewer",
    "cases:decide": "reviewer",
    "webhooks:write": "admin",
}
_TOTP_FROM: Role = "lead"  # roles from here on change what the filter lets through: a password alone is too little


@dataclass(frozen=True, slots=True)
class Preferences:
    """What a person set for themselves.

    Attributes:
        blur: how images that may be sensitive are shown until asked for: as they are, blurred, or grey.
        keyboard: whether single keys decide and move in queue and case pages.
    """

    blur: Blur = "blur"
    keyboard: bool = True


@dataclass(frozen=True, slots=True)
class Person:
    """One account, without its secrets.

    Attributes:
        state: `invited` (has a link, no password yet), `waiting` (came by the identity provider, and no admin let them
            in yet), `active` or `disabled`.
        has_totp: whether a code of an authenticator is asked for.
        recovery_left: how many recovery codes were not used.
        by_provider: whether they sign in by the identity provider.
    """

    account_id: str
    organisation: str
    email: str
    name: str
    role: Role
    state: AccountState
    has_password: bool
    has_totp: bool
    recovery_left: int
    by_provider: bool
    preferences: Preferences
    created_at: str

    @property
    def actor(self) -> Actor:
        """Who they are where they act."""
        return Actor(account_id=self.account_id, organisation=self.organisation, role=self.role)


@dataclass(frozen=True, slots=True)
class LinkShown:
    """What a link is for; whose it is.

    Attributes:
        purpose: `first` (the first admin says email and name), `invite` or `reset`.
    """

    purpose: LinkPurpose
    person: Person
    expires_at: str


@dataclass(frozen=True, slots=True)
class Browser:
    """A browser in which somebody signed in.

    Attributes:
        stage: `password` until the code of the authenticator was given, where one is asked for; then `full`.
        csrf: what forms of this browser carry.
        shown_id: names it on the account page; nobody can sign in with it.
    """

    person: Person
    stage: Literal["password", "full"]
    csrf: str
    shown_id: str
    created_at: str
    seen_at: str
    expires_at: str


@dataclass(frozen=True, slots=True)
class TokenShown:
    """An API token, without its secret; `works` says whether it would be taken now."""

    token_id: str
    name: str
    account_id: str
    account_name: str
    scopes: tuple[Scope, ...]
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    used_at: str | None
    works: bool


def at_least(role: Role, needed: Role) -> bool:
    """Whether a role may what another one may."""
    return ROLES.index(role) >= ROLES.index(needed)


def must_have_totp(person: Person) -> bool:
    """Whether somebody must have an authenticator: leads and admins who sign in with a password."""
    return not person.by_provider and at_least(person.role, _TOTP_FROM)


def person_of(account: Account) -> Person:
    """A stored account as it is handed out."""
    said = account.preferences or {}
    return Person(
        account_id=account.account_id,
        organisation=account.organisation,
        email=account.email,
        name=account.name,
        role=account.role,  # type: ignore[arg-type]  # entered by us
        state=account.state,  # type: ignore[arg-type]
        has_password=account.password_hash is not None,
        has_totp=account.totp_secret is not None,
        recovery_left=len(account.recovery_hashes or []),
        by_provider=account.oidc_subject is not None,
        preferences=Preferences(blur=said.get("blur", "blur"), keyboard=bool(said.get("keyboard", True))),
        created_at=account.created_at,
    )
