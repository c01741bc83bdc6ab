"""A desk that is really served, and browsers in which people signed in; skipped where there is no chromium."""

import shutil
import socket
import threading
import time

import pytest
import uvicorn
from playwright.sync_api import sync_playwright

from guardrail.desk.web.app import build_app
from guardrail.records import Decision
from tests.desk.web.conftest import desk_world, make_desk, near  # noqa: F401

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
WIDE, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")  # playwright leaves an event loop running in this thread until it ends
def chromium():
    if CHROMIUM is None:
        pytest.skip("needs chromium on the path")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture
def desk(make_desk):  # noqa: F811
    return make_desk()


@pytest.fixture
def flag_at():
    """Have a guard of a desk flag so many pictures near the fox, no two the same; gives the cases."""
    others = iter(range(100, 100_000))

    def flag_some(desk, count, organisation="default"):
        guard, found = desk.guard_for(organisation), []
        while len(found) < count:
            (verdict,) = guard.check([near("fox", next(others), 0.62)]).verdicts
            if verdict.decision is Decision.FLAG:
                found.append(verdict.verdict_id)
        return [case.case_id for case in desk.memory.open_cases() if case.verdict_id in found]

    return flag_some


@pytest.fixture
def flag(desk, flag_at):
    """`flag_at` on the desk."""
    return lambda count, organisation="default": flag_at(desk, count, organisation)


@pytest.fixture
def serve():
    """Serve a desk on loopback, with its workers; gives the address."""
    running = []

    def start(desk):
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(build_app(desk), log_level="error", lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + 30
        while not server.started:
            assert thread.is_alive() and time.monotonic() < deadline, "the desk does not start"
            time.sleep(0.02)
        running.append((server, thread, listening))
        return f"http://127.0.0.1:{listening.getsockname()[1]}"

    yield start
    for server, thread, listening in running:
        server.should_exit = True
        thread.join(30)
        listening.close()


@pytest.fixture
def site(desk, serve):
    """The address of the desk."""
    return serve(desk)


@pytest.fixture
def browser_at(chromium):
    """A page in a browser of its own in which somebody signed in: `browser_at(desk, site, "reviewer", name="Anna")`.

    What the page's scripts throw, and what the content policy refuses, fails the test.
    """
    opened, wrong = [], []

    def make(desk, site, role="reviewer", organisation="default", *, name=None, size=WIDE, **said):
        context = chromium.new_context(viewport=size, base_url=site, **said)
        context.set_default_timeout(20_000)
        if role is not None:
            name = name or f"{role} of {organisation}"
            email = f"{name.replace(' ', '.').lower()}@example.org"
            person = desk.memory.accounts.open_account(organisation, email, name, role)
            secret = desk.memory.accounts.sessions.open(person.account_id, "full", hours=12)
            context.add_cookies([{"name": "guardrail", "value": secret, "url": site, "httpOnly": True}])
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
        opened.append(context)
        return page

    yield make
    for context in opened:
        context.close()
    assert wrong == []


@pytest.fixture
def browser_as(browser_at, desk, site):
    """`browser_at` the desk: `browser_as("reviewer", name="Anna")`."""
    return lambda *who, **said: browser_at(desk, site, *who, **said)
