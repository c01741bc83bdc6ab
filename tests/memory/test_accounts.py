"""Who may come in, and who no longer may."""

import threading
from datetime import UTC, datetime, timedelta

import pyotp
import pytest
from argon2 import PasswordHasher
from sqlalchemy import select

from guardrail.memory import KnownElsewhere, Preferences, accounts_secrets
from guardrail.memory.accounts_secrets import check_password, digest_of, new_recovery_codes, require_password, totp_step
from guardrail.memory.audit import AuditFilter
from guardrail.memory.review_tables import Account, ApiToken, SignedIn, SignInLink
from guardrail.review_errors import AccountInvalid, AccountMissing, NotAllowed, SignInFailed

START = datetime(2026, 11, 22, 12, tzinfo=UTC)
PASSWORD = "four rabbits in a tuba"
EVERY_DAY = accounts_secrets._HASHER
TITLES = {"default": "Default", "another": "Another"}


pytestmark = pytest.mark.usefixtures("both_stores")


class Clock:
    def __init__(self):
        self.at = START

    def __call__(self):
        return self.at

    def forward(self, **by):
        self.at += timedelta(**by)


@pytest.fixture(autouse=True)
def quick_hashes(monkeypatch):
    """Hashes of a millisecond, but where a test is about those of every day."""
    monkeypatch.setattr(accounts_secrets, "_HASHER", PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
    accounts_secrets._hash_of_nobody.cache_clear()
    yield
    accounts_secrets._hash_of_nobody.cache_clear()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def accounts(memory, clock):
    memory.accounts.now = clock
    memory.accounts.first_links(TITLES)
    return memory.accounts


@pytest.fixture
def opened(accounts):
    def make(name="ada", role="reviewer", organisation="default", password=None):
        return accounts.open_account(organisation, f"{name}@example.org", name.title(), role, password)

    return make


@pytest.fixture
def admin(opened):
    return opened("root", "admin").actor


@pytest.fixture
def stored(memory):
    """What lies in the database, behind the facade's back."""

    def read(kind):
        with memory._database.reading() as session:
            rows = list(session.scalars(select(kind)))
            session.expunge_all()
            return rows

    return read


# --- first start -------------------------------------------------------------------------------------------


def test_first_start_makes_one_link_for_each_organisation(memory):
    links = memory.accounts.first_links(TITLES)
    assert set(links) == set(TITLES)
    assert len(set(links.values())) == 2
    assert memory.accounts.organisations() == TITLES
    assert memory.accounts.first_links(TITLES) == {}


def test_first_link_makes_an_admin_once(memory):
    links = memory.accounts.first_links(TITLES)
    person = memory.accounts.links.use(links["default"], PASSWORD, "Ada", " Ada@Example.ORG ")
    assert (person.role, person.state, person.email, person.organisation) == (
        "admin",
        "active",
        "ada@example.org",
        "default",
    )
    with pytest.raises(SignInFailed, match="was used"):
        memory.accounts.links.use(links["default"], PASSWORD, "Eve", "eve@example.org")


def test_first_link_again_voids_the_one_before_and_ends_with_the_first_admin(memory):
    before = memory.accounts.first_links(TITLES)
    after = memory.accounts.first_links(TITLES, again=True)
    assert memory.accounts.links.look(before["default"]) is None
    memory.accounts.links.use(after["default"], PASSWORD, "Ada", "ada@example.org")
    assert set(memory.accounts.first_links(TITLES, again=True)) == {"another"}


def test_an_organisation_that_lost_its_admin_gets_no_first_link(memory, admin, accounts):
    links = accounts.first_links(TITLES, again=True)
    person = accounts.links.use(links["default"], PASSWORD, "Ada", "ada@example.org")
    accounts.change_state(admin, person.account_id, "disabled")
    assert "default" not in accounts.first_links(TITLES, again=True)


@pytest.mark.parametrize(("purpose", "hours"), [("invite", 72), ("reset", 2)])
def test_link_ends_after_its_hours(accounts, admin, clock, opened, purpose, hours):
    if purpose == "invite":
        _, secret = accounts.invite(admin, "bo@example.org", "Bo", "viewer")
    else:
        secret = accounts.reset_link(admin, opened(password=PASSWORD).account_id)
    clock.forward(hours=hours, seconds=-1)
    assert accounts.links.look(secret).purpose == purpose
    clock.forward(seconds=1)
    assert accounts.links.look(secret) is None
    with pytest.raises(SignInFailed):
        accounts.links.use(secret, PASSWORD, "Bo")


def test_link_is_kept_as_its_digest_alone(accounts, admin, stored):
    _, secret = accounts.invite(admin, "bo@example.org", "Bo", "viewer")
    assert digest_of(secret) in {row.link_sha256 for row in stored(SignInLink)}
    assert not any(secret in str(vars(row)) for row in stored(SignInLink))


def test_a_refused_password_leaves_the_link_usable(accounts, admin):
    _, secret = accounts.invite(admin, "bo@example.org", "Bo", "viewer")
    with pytest.raises(AccountInvalid, match="letters"):
        accounts.links.use(secret, "short", "Bo")
    assert accounts.links.use(secret, PASSWORD, "Bo").state == "active"


def test_one_link_used_twice_at_once_lets_one_in(accounts, admin):
    _, secret = accounts.invite(admin, "bo@example.org", "Bo", "viewer")
    came, lock = [], threading.Barrier(4)

    def use(name):
        lock.wait()
        try:
            came.append(accounts.links.use(secret, f"{PASSWORD} {name}", name).name)
        except SignInFailed:
            came.append(None)

    threads = [threading.Thread(target=use, args=(name,)) for name in ("A", "B", "C", "D")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(name is not None for name in came) == 1
    assert len(came) == 4


def test_reset_signs_out_everywhere(accounts, admin, opened):
    person = opened(password=PASSWORD)
    browser = accounts.sessions.open(person.account_id, "full", 12)
    accounts.links.use(accounts.reset_link(admin, person.account_id), "another tuba of rabbits")
    assert accounts.sessions.find(browser, 60) is None
    assert accounts.signing.check_password(person.email, PASSWORD) is None
    assert accounts.signing.check_password(person.email, "another tuba of rabbits").name == "Ada"


# --- passwords ---------------------------------------------------------------------------------------------


GUESSED = "password1234 Passw0rd1234! 123456789012 adalovelace1815 1518ecalevolada guardrailguardrail qwertyuiop123"


@pytest.mark.parametrize("password", ["", "elevenlette", "x" * 257, "a" * 16, *GUESSED.split()])
def test_password_that_is_easily_guessed_is_refused(password):
    with pytest.raises(AccountInvalid, match="password: found") as refused:
        require_password(password, "ada@example.org", "Ada Lovelace")
    assert not password or password not in str(refused.value)


@pytest.mark.parametrize("password", [PASSWORD, "Gr3en-otter-hums", "ʞǝǝs ʇɥǝ ɟoxǝs", "k7#mQ2vLp9xz"])
def test_password_that_is_hard_to_guess_is_taken(password):
    require_password(password, "ada@example.org", "Ada Lovelace")


def test_password_is_the_same_however_it_is_typed(accounts, opened):
    opened(password="cafe\u0301 of rabbits")
    assert accounts.signing.check_password("ada@example.org", "caf\u00e9 of rabbits")


def test_password_is_kept_as_argon2id_alone(opened, stored, monkeypatch):
    monkeypatch.setattr(accounts_secrets, "_HASHER", EVERY_DAY)
    opened(password=PASSWORD)
    hashed = next(row.password_hash for row in stored(Account) if row.email == "ada@example.org")
    assert hashed.startswith("$argon2id$v=19$m=65536,t=3,p=4$")


def test_password_is_hashed_anew_when_parameters_change(accounts, opened, memory, stored):
    person = opened()
    weak = PasswordHasher(time_cost=2, memory_cost=64, parallelism=1).hash(PASSWORD)
    with memory._database.writing() as (session, _):
        session.get(Account, person.account_id).password_hash = weak
    assert accounts.signing.check_password("ada@example.org", PASSWORD)
    hashed = next(row.password_hash for row in stored(Account) if row.email == "ada@example.org")
    assert hashed != weak
    assert check_password(hashed, PASSWORD) == (True, None)


def test_unknown_email_costs_a_hash_too(accounts, opened, monkeypatch):
    opened(password=PASSWORD)
    hashed = []
    verify = PasswordHasher.verify
    monkeypatch.setattr(PasswordHasher, "verify", lambda self, *given: hashed.append(1) or verify(self, *given))
    for email in ("ada@example.org", "nobody@example.org"):
        assert accounts.signing.check_password(email, "wrong rabbits in a tuba") is None
    assert len(hashed) == 2


@pytest.mark.parametrize("state", ["invited", "waiting", "disabled"])
def test_only_active_accounts_sign_in(accounts, opened, memory, state):
    person = opened(password=PASSWORD)
    with memory._database.writing() as (session, _):
        session.get(Account, person.account_id).state = state
    assert accounts.signing.check_password(person.email, PASSWORD) is None


def test_changed_password_keeps_this_browser_alone(accounts, opened):
    person = opened(password=PASSWORD)
    here, there = (accounts.sessions.open(person.account_id, "full", 12) for _ in range(2))
    with pytest.raises(SignInFailed, match="another one"):
        accounts.signing.change_password(person.actor, "wrong", "another tuba of rabbits")
    accounts.signing.change_password(person.actor, PASSWORD, "another tuba of rabbits", keep=here)
    assert accounts.sessions.find(here, 60)
    assert accounts.sessions.find(there, 60) is None


# --- authenticator -----------------------------------------------------------------------------------------


@pytest.fixture
def with_totp(accounts, opened, clock):
    """A person with an authenticator, its codes by time, and the recovery codes."""
    person = opened(password=PASSWORD)
    secret, uri = accounts.signing.begin_totp(person.account_id, "guardrail")
    assert secret in uri
    codes = accounts.signing.confirm_totp(person.account_id, pyotp.TOTP(secret).at(clock()))
    clock.forward(minutes=5)
    return person, pyotp.TOTP(secret), codes


def test_code_of_rfc_6238_is_known():
    """Appendix B, SHA-1: at 59 s the code is 94287082, of which six digits are 287082."""
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"  # 12345678901234567890 in base 32
    assert totp_step(secret, "287082", -1, 59) == 1
    assert totp_step(secret, "287 082", -1, 59) == 1
    assert totp_step(secret, "287083", -1, 59) is None


@pytest.mark.parametrize(("off_s", "fits"), [(-60, False), (-30, True), (0, True), (30, True), (60, False)])
def test_clock_may_be_off_by_one_step(accounts, with_totp, clock, off_s, fits):
    person, totp, _ = with_totp
    code = totp.at(clock() + timedelta(seconds=off_s))
    if fits:
        assert accounts.signing.check_code(person.account_id, code) == accounts.person(person.account_id)
    else:
        with pytest.raises(SignInFailed):
            accounts.signing.check_code(person.account_id, code)


def test_code_serves_once_and_no_earlier_one_after_it(accounts, with_totp, clock):
    person, totp, _ = with_totp
    earlier = totp.at(clock() - timedelta(seconds=30))
    accounts.signing.check_code(person.account_id, totp.at(clock()))
    for code in (totp.at(clock()), earlier):
        with pytest.raises(SignInFailed):
            accounts.signing.check_code(person.account_id, code)


def test_the_code_that_set_it_up_serves_no_more(accounts, opened, clock):
    person = opened()
    secret, _ = accounts.signing.begin_totp(person.account_id, "guardrail")
    code = pyotp.TOTP(secret).at(clock())
    accounts.signing.confirm_totp(person.account_id, code)
    with pytest.raises(SignInFailed):
        accounts.signing.check_code(person.account_id, code)


def test_authenticator_is_asked_for_only_once_confirmed(accounts, opened):
    person = opened()
    accounts.signing.begin_totp(person.account_id, "guardrail")
    with pytest.raises(SignInFailed):
        accounts.signing.confirm_totp(person.account_id, "000000x")
    assert not accounts.person(person.account_id).has_totp


def test_authenticator_in_use_cannot_be_shown_again(accounts, with_totp):
    with pytest.raises(AccountInvalid, match="in use"):
        accounts.signing.begin_totp(with_totp[0].account_id, "guardrail")


def test_recovery_code_serves_once(accounts, with_totp):
    person, _, codes = with_totp
    assert len(set(codes)) == 10
    assert accounts.signing.check_code(person.account_id, codes[3].upper().replace("-", " ")).recovery_left == 9
    with pytest.raises(SignInFailed):
        accounts.signing.check_code(person.account_id, codes[3])


def test_recovery_codes_are_kept_as_digests_alone(with_totp, stored):
    _, _, codes = with_totp
    kept = next(row.recovery_hashes for row in stored(Account) if row.recovery_hashes)
    assert {digest_of(code.replace("-", "")) for code in codes} == set(kept)
    assert new_recovery_codes()[0] != new_recovery_codes()[0]


def test_wrong_codes_make_one_wait_longer_each_time(accounts, with_totp, clock):
    person, totp, _ = with_totp

    def refused():
        with pytest.raises(SignInFailed):
            accounts.signing.check_code(person.account_id, "nothing")

    for _ in range(5):
        refused()
    with pytest.raises(SignInFailed):  # right, but too early
        accounts.signing.check_code(person.account_id, totp.at(clock()))
    clock.forward(seconds=3)
    refused()
    clock.forward(seconds=3)
    with pytest.raises(SignInFailed):  # the second wait is longer
        accounts.signing.check_code(person.account_id, totp.at(clock()))
    clock.forward(seconds=30)
    assert accounts.signing.check_code(person.account_id, totp.at(clock()))


def test_authenticator_is_given_up_with_password_and_code(accounts, with_totp, clock):
    person, totp, codes = with_totp
    with pytest.raises(SignInFailed):
        accounts.signing.drop_totp(person.actor, "wrong", totp.at(clock()))
    accounts.signing.drop_totp(person.actor, PASSWORD, totp.at(clock()))
    assert not accounts.person(person.account_id).has_totp
    with pytest.raises(SignInFailed):
        accounts.signing.check_code(person.account_id, codes[0])


def test_lead_cannot_give_the_authenticator_up(accounts, with_totp, clock, admin):
    person, totp, _ = with_totp
    accounts.change_role(admin, person.account_id, "lead")
    with pytest.raises(AccountInvalid, match="needs one"):
        accounts.signing.drop_totp(person.actor, PASSWORD, totp.at(clock()))
    assert accounts.person(person.account_id).has_totp


def test_new_recovery_codes_void_the_old_ones(accounts, with_totp, clock):
    person, totp, codes = with_totp
    fresh = accounts.signing.renew_recovery(person.actor, totp.at(clock()))
    with pytest.raises(SignInFailed):
        accounts.signing.check_code(person.account_id, codes[0])
    assert accounts.signing.check_code(person.account_id, fresh[0])


# --- sessions ----------------------------------------------------------------------------------------------


def test_session_ends_when_idle_and_at_its_end(accounts, opened, clock):
    person = opened()
    secret = accounts.sessions.open(person.account_id, "full", hours=2)
    for _ in range(3):
        clock.forward(minutes=39)
        assert accounts.sessions.find(secret, idle_minutes=40).person.name == "Ada"
    clock.forward(minutes=3)
    assert accounts.sessions.find(secret, idle_minutes=40) is None  # 2 h are over
    idle = accounts.sessions.open(person.account_id, "full", hours=2)
    clock.forward(minutes=40)
    assert accounts.sessions.find(idle, idle_minutes=40) is None


def test_session_after_the_password_alone_ends_soon(accounts, opened, clock):
    secret = accounts.sessions.open(opened().account_id, "password", hours=12)
    assert accounts.sessions.find(secret, 60).stage == "password"
    clock.forward(minutes=10)
    assert accounts.sessions.find(secret, 60) is None


def test_session_is_kept_as_its_digest_alone(accounts, opened, stored):
    secret = accounts.sessions.open(opened().account_id, "full", hours=12)
    (row,) = stored(SignedIn)
    assert row.session_sha256 == digest_of(secret)
    assert secret not in str(vars(row))


def test_disabled_account_is_out_at_once(accounts, opened, admin):
    person = opened(password=PASSWORD)
    secret = accounts.sessions.open(person.account_id, "full", 12)
    token = accounts.tokens.make(person.actor, "t", ["check"], 1)
    accounts.change_state(admin, person.account_id, "disabled")
    assert accounts.sessions.find(secret, 60) is None
    assert accounts.tokens.find(token) is None
    accounts.change_state(admin, person.account_id, "active")
    assert accounts.sessions.find(secret, 60) is None, "what was ended stays ended"
    assert accounts.tokens.find(token).account_id == person.account_id


def test_one_browser_is_signed_out_and_others_not(accounts, opened):
    person, other = opened(), opened("bo")
    here, there = (accounts.sessions.open(person.account_id, "full", 12) for _ in range(2))
    shown = accounts.sessions.find(there, 60).shown_id
    with pytest.raises(AccountMissing):
        accounts.close_browser(other.actor, shown)
    accounts.close_browser(person.actor, shown)
    assert accounts.sessions.find(there, 60) is None
    assert [one.shown_id for one in accounts.sessions.of(person.account_id)] == [
        accounts.sessions.find(here, 60).shown_id
    ]


# --- tokens ------------------------------------------------------------------------------------------------


def test_token_acts_with_the_role_of_today(accounts, opened, admin):
    person = opened(role="lead")
    token = accounts.tokens.make(person.actor, "works", ["works:write", "check"], 30)
    accounts.change_role(admin, person.account_id, "viewer")
    found = accounts.tokens.find(token)
    assert (found.role, found.scopes, found.token_id is None) == ("viewer", ("check", "works:write"), False)


def test_token_is_kept_as_its_digest_alone(accounts, opened, stored):
    token = accounts.tokens.make(opened().actor, "t", ["check"], 1)
    assert token.startswith("gr_")
    (row,) = stored(ApiToken)
    assert row.token_sha256 == digest_of(token)
    assert token not in str(vars(row))


def test_token_ends(accounts, opened, clock):
    person = opened()
    token = accounts.tokens.make(person.actor, "t", ["check"], 1)
    clock.forward(hours=23, minutes=59)
    assert accounts.tokens.find(token)
    clock.forward(minutes=1)
    assert accounts.tokens.find(token) is None


def test_token_is_revoked_by_its_person_and_admins_of_its_organisation_alone(accounts, opened, admin):
    person = opened()
    token = accounts.tokens.make(person.actor, "t", ["check"], 1)
    token_id = accounts.tokens.of(person.actor)[0].token_id
    for stranger in (opened("bo").actor, opened("eve", "admin", "another").actor):
        assert not accounts.tokens.revoke(stranger, token_id)
        assert accounts.tokens.find(token)
    assert accounts.tokens.revoke(admin, token_id)
    assert accounts.tokens.find(token) is None
    assert [one.works for one in accounts.tokens.of(person.actor)] == [False]


def test_token_asks_for_no_more_than_the_role_has(accounts, opened):
    with pytest.raises(NotAllowed, match="lead"):
        accounts.tokens.make(opened().actor, "t", ["check", "works:write"], 1)


def test_token_makes_no_token(accounts, opened, admin):
    acting = accounts.tokens.find(accounts.tokens.make(admin, "t", ["check"], 1))
    with pytest.raises(NotAllowed, match="person who signed in"):
        accounts.tokens.make(acting, "t", ["check"], 1)
    with pytest.raises(NotAllowed, match="admin who signed in"):
        accounts.invite(acting, "bo@example.org", "Bo", "admin")


@pytest.mark.parametrize(
    ("name", "scopes", "days"),
    [("", ["check"], 1), ("t", [], 1), ("t", ["all"], 1), ("t", ["check"], 0), ("t", ["check"], 731)],
)
def test_token_that_cannot_be_is_refused(accounts, opened, name, scopes, days):
    with pytest.raises(AccountInvalid):
        accounts.tokens.make(opened().actor, name, scopes, days)


# --- admins ------------------------------------------------------------------------------------------------


def test_last_admin_stays(accounts, admin, opened):
    for change in (
        lambda: accounts.change_role(admin, admin.account_id, "lead"),
        lambda: accounts.change_state(admin, admin.account_id, "disabled"),
    ):
        with pytest.raises(AccountInvalid, match="last admin"):
            change()
    opened("other", "admin", "another")  # of another organisation: no help
    with pytest.raises(AccountInvalid, match="last admin"):
        accounts.change_role(admin, admin.account_id, "lead")
    opened("second", "admin")
    assert accounts.change_role(admin, admin.account_id, "lead").role == "lead"


def test_two_admins_who_disable_each_other_leave_one(accounts, admin, opened):
    second = opened("second", "admin").actor
    barrier, came = threading.Barrier(2), []

    def disable(actor, other):
        barrier.wait()
        try:
            came.append(accounts.change_state(actor, other.account_id, "disabled").state)
        except AccountInvalid:
            came.append("refused")

    threads = [threading.Thread(target=disable, args=pair) for pair in ((admin, second), (second, admin))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(came) == ["disabled", "refused"]


ADMIN_ACTS = {
    "role": lambda accounts, actor, other: accounts.change_role(actor, other, "admin"),
    "state": lambda accounts, actor, other: accounts.change_state(actor, other, "disabled"),
    "link": lambda accounts, actor, other: accounts.reset_link(actor, other),
    "authenticator": lambda accounts, actor, other: accounts.forget_totp(actor, other),
}


@pytest.mark.parametrize("act", ADMIN_ACTS.values(), ids=ADMIN_ACTS)
def test_accounts_of_another_organisation_are_not_there(accounts, admin, opened, act):
    other = opened("eve", "admin", "another")
    with pytest.raises(AccountMissing):
        act(accounts, admin, other.account_id)
    assert accounts.person(other.account_id) == other


@pytest.mark.parametrize("act", ADMIN_ACTS.values(), ids=ADMIN_ACTS)
@pytest.mark.parametrize("role", ["viewer", "reviewer", "lead"])
def test_only_admins_change_accounts(accounts, opened, act, role):
    actor, other = opened("ada", role).actor, opened("bo")
    with pytest.raises(NotAllowed, match="admin"):
        act(accounts, actor, other.account_id)
    assert accounts.person(other.account_id) == other


def test_new_role_is_signed_in_for_anew(accounts, admin, opened):
    person = opened()
    secret = accounts.sessions.open(person.account_id, "full", 12)
    accounts.change_role(admin, person.account_id, "lead")
    assert accounts.sessions.find(secret, 60) is None


@pytest.mark.parametrize("email", ["ada@example.org", "ADA@example.org ", "eve@example.org"])
def test_an_email_has_one_account_in_all_organisations(accounts, admin, opened, email):
    opened("ada")
    opened("eve", organisation="another")
    with pytest.raises(AccountInvalid, match="cannot be used"):
        accounts.invite(admin, email, "Bo", "viewer")


@pytest.mark.parametrize(
    "email", ["", "a", "a@b", "a b@example.org", "a@example.org\n", "<a@example.org>", f"{'x' * 65}@example.org"]
)
def test_what_is_no_email_is_refused(accounts, admin, email):
    if email.strip() == email:
        with pytest.raises(AccountInvalid, match="email"):
            accounts.invite(admin, email, "Bo", "viewer")
    else:
        assert accounts.invite(admin, email, "Bo", "viewer")[0].email == email.strip()


def test_settings_are_ones_own(accounts, opened):
    person, other = opened(), opened("bo")
    accounts.set_preferences(person.actor, Preferences(blur="grey", keyboard=False))
    assert accounts.person(person.account_id).preferences == Preferences(blur="grey", keyboard=False)
    assert accounts.person(other.account_id).preferences == Preferences()
    with pytest.raises(AccountInvalid):
        accounts.set_preferences(person.actor, Preferences(blur="loud"))


# --- identity provider -------------------------------------------------------------------------------------

NAMED = KnownElsewhere("https://id.example", "s-1", "ada@example.org", "Ada")


def test_who_comes_by_the_provider_waits_for_an_admin(accounts, admin):
    with pytest.raises(SignInFailed, match="must let you in"):
        accounts.signing.by_provider("default", NAMED)
    (person,) = [one for one in accounts.people(admin) if one.by_provider]
    assert (person.role, person.state) == ("viewer", "waiting")
    accounts.change_state(admin, person.account_id, "active")
    assert accounts.signing.by_provider("default", NAMED).account_id == person.account_id


@pytest.mark.parametrize("organisation", ["default", "another"])
def test_an_email_that_has_an_account_is_no_way_into_it(accounts, opened, organisation, admin):
    opened("ada", organisation=organisation)
    with pytest.raises(SignInFailed, match="does not know you"):
        accounts.signing.by_provider("default", NAMED)
    assert not any(one.by_provider for one in accounts.people(admin))


def test_the_provider_of_one_organisation_leads_into_no_other(accounts, admin):
    with pytest.raises(SignInFailed):
        accounts.signing.by_provider("default", NAMED)
    (person,) = [one for one in accounts.people(admin) if one.by_provider]
    accounts.change_state(admin, person.account_id, "active")
    with pytest.raises(SignInFailed, match="does not know you"):
        accounts.signing.by_provider("another", NAMED)


def test_a_subject_of_another_issuer_is_somebody_else(accounts, admin):
    for issuer in ("https://id.example", "https://evil.example"):
        with pytest.raises(SignInFailed):
            accounts.signing.by_provider("default", KnownElsewhere(issuer, "s-1", "", "Ada"))
    assert len([one for one in accounts.people(admin) if one.by_provider]) == 2


def test_who_comes_by_the_provider_has_no_password(accounts, admin):
    with pytest.raises(SignInFailed):
        accounts.signing.by_provider("default", NAMED)
    (person,) = [one for one in accounts.people(admin) if one.by_provider]
    accounts.change_state(admin, person.account_id, "active")
    with pytest.raises(AccountInvalid, match="no password"):
        accounts.reset_link(admin, person.account_id)
    assert accounts.signing.check_password(person.email, "") is None


# --- audit -------------------------------------------------------------------------------------------------


def test_every_change_of_an_account_is_noted(accounts, memory, admin, opened):
    person = opened(password=PASSWORD)
    accounts.invite(admin, "bo@example.org", "Bo", "viewer", "10.0.0.1")
    accounts.change_role(admin, person.account_id, "viewer")
    accounts.change_state(admin, person.account_id, "disabled")
    accounts.signing.check_password(person.email, PASSWORD)
    events = memory.audit.page(admin, AuditFilter())
    assert [one.action for one in events[:4]] == [
        "sign_in.refused",
        "account.disabled",
        "account.role",
        "account.invited",
    ]
    assert (events[3].account_id, events[3].address) == (admin.account_id, "10.0.0.1")
    assert events[2].details == {"from": "reviewer", "to": "viewer"}
    assert PASSWORD not in str(events)
