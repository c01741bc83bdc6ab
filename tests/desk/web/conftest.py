"""A desk over a small world, with two organisations: four drawn works in an index each, made with the fake embedder."""

import shutil

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from guardrail.act import make_development_keys
from guardrail.desk.making import build_folder_index
from guardrail.desk.web.app import build_app
from guardrail.desk.web.desk import Desk
from guardrail.desk_settings import DeskSettings, OrganisationSettings
from guardrail.index import Recipe
from guardrail.records import Decision
from guardrail.settings import Settings
from guardrail.testing import FakePlugin

SEEDS = {"fox": 1, "owl": 2, "sky": 3, "elk": 4}
TABLE = "file,work_id,title,creator,licence,disposition,bank\n" + "".join(
    f"{name}.png,{name},{name.title()},Åsa,by agreement,{disposition},{bank}\n"
    for name, disposition, bank in (
        ("fox", "protect", "animals"),
        ("owl", "credit", "animals"),
        ("sky", "ignore", "generic"),
        ("elk", "protect", "animals"),
    )
)
BASE = "http://127.0.0.1:8787"


def drawing(seed, side=96):
    """A picture with enough in it to hash: a smooth random field, the same for the same seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def near(work="fox", other=9, share=0.6):
    """A picture that the guard flags as near a work; each `other` makes another one."""
    mixed = share * np.asarray(drawing(SEEDS[work]), float) + (1 - share) * np.asarray(drawing(other), float)
    return Image.fromarray(mixed.round().astype(np.uint8))


@pytest.fixture(scope="session")
def desk_world(tmp_path_factory):
    """Works, keys and two indexes of the same works; read only."""
    home = tmp_path_factory.mktemp("desk-world")
    (home / "works").mkdir()
    for name, seed in SEEDS.items():
        drawing(seed).save(home / "works" / f"{name}.png")
    (home / "works.csv").write_text(TABLE, encoding="utf-8")
    settings = Settings(home=home, device="cpu")
    for index in ("index", "index-of-another"):
        build_folder_index(
            home / "works",
            home / index,
            settings,
            Recipe(embedder="fake"),
            home / "works.csv",
            extra_plugins=[FakePlugin()],
        )
    make_development_keys(home / "keys")
    return home


@pytest.fixture
def make_desk(desk_world, tmp_path):
    """Make a desk with a fresh memory and both organisations, default and another; settings of `[desk]` as given."""
    made = []

    def own(name):
        """An index of the test's own: what one test adds, no other finds."""
        copy = tmp_path / "indexes" / name
        if not copy.exists():
            shutil.copytree(desk_world / name, copy)
        return str(copy)

    def make(*plugins, index=None, memory="", **said):
        organisations = {
            "default": OrganisationSettings(title="Default"),
            "another": OrganisationSettings(title="Another", index=own("index-of-another")),
        }
        settings = Settings(
            index=str(index or own("index")),
            home=tmp_path / "home",
            memory=memory,
            keys=desk_world / "keys",
            device="cpu",
            desk=DeskSettings(**{"organisations": organisations, "second_review_share": 0, **said}),
        )
        desk = Desk(settings, plugins=[FakePlugin(), *plugins])
        desk.memory.accounts.first_links({name: one.title for name, one in settings.desk.organisations.items()})
        made.append(desk)
        return desk

    yield make
    for desk in made:
        desk.close()


@pytest.fixture
def desk(make_desk):
    return make_desk()


@pytest.fixture
def app(desk):
    """The application; nothing works on its jobs."""
    return build_app(desk, workers=False)


@pytest.fixture
def anonymous(app):
    """A browser in which nobody signed in."""
    return TestClient(app, base_url=BASE, follow_redirects=False, raise_server_exceptions=False)


@pytest.fixture
def client_as(app, desk):
    """A browser in which somebody signed in: `client_as("reviewer")`, `client_as("lead", "another", name="Bo")`.

    It sends the key of its pages by itself; `.actor` is who signed in, `.csrf` the key. The same name (the role, unless
    said) is the same person.
    """
    people = {}

    def make(role="reviewer", organisation="default", name=None):
        name = name or f"{role} of {organisation}"
        if name not in people:
            email = f"{name.replace(' ', '.').lower()}@example.org"
            people[name] = desk.memory.accounts.open_account(organisation, email, name.title(), role)
        person = people[name]
        secret = desk.memory.accounts.sessions.open(person.account_id, "full", hours=12)
        client = TestClient(app, base_url=BASE, follow_redirects=False, raise_server_exceptions=False)
        client.cookies.set("guardrail", secret)
        client.csrf = desk.memory.accounts.sessions.find(secret, idle_minutes=60).csrf
        client.headers["X-CSRF-Token"] = client.csrf
        client.headers["Accept"] = "text/html,application/json"
        client.actor, client.person, client.secret = person.actor, person, secret
        return client

    return make


@pytest.fixture
def token_for(desk):
    """An API token: `token_for(client.actor, "check", "cases:read")`."""
    return lambda actor, *scopes, days=30: desk.memory.accounts.tokens.make(actor, "for tests", scopes, days)


@pytest.fixture
def open_case(desk):
    """Have the guard of an organisation flag a picture: `open_case()`, `open_case("another", near("elk", 12))`.

    Without a picture, every call makes another one near the fox. Returns the number of the case.
    """
    others = iter(range(100, 1000))

    def flag(organisation="default", picture=None, context=None):
        guard = desk.guard_for(organisation)
        picture = picture or near("fox", next(others))
        report = guard.check([picture], context) if context else guard.check([picture])
        verdict = report[0] if isinstance(report, tuple) else report.verdicts[0]
        assert verdict.decision is Decision.FLAG, f"the guard did not flag it: {verdict.explanation}"
        return next(case.case_id for case in guard.memory.open_cases() if case.verdict_id == verdict.verdict_id)

    return flag
