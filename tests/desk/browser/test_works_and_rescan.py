"""Works at the desk, in a real browser: one is uploaded, and what was released before it is found by a rescan."""

import re
import shutil
import threading

import pytest
from axe_playwright_python.sync_playwright import Axe

from guardrail.desk.web.changing_works import Asker, withdraw_work
from tests.desk.browser.conftest import PHONE, WIDE
from tests.desk.browser.test_pages_for_all import faults
from tests.desk.web.conftest import drawing

SEED = 73  # of a picture that no work of the index is near


@pytest.fixture
def desk(make_desk, desk_world, tmp_path):
    """A desk over an index of its own, which the test may change."""
    shutil.copytree(desk_world / "index", tmp_path / "index")
    return make_desk(index=tmp_path / "index")


@pytest.fixture
def released(desk, tmp_path):
    """A picture that left, signed, before anybody said that it copies."""
    report = desk.guard_for("default").check([drawing(SEED)])
    report.save(tmp_path / "out")
    return drawing(SEED)


def test_upload_finds_what_was_released_and_opens_a_case(desk, site, released, browser_as, tmp_path):
    go_on, rescan = threading.Event(), desk.handlers["rescan"]
    desk.handlers["rescan"] = lambda job: rescan(job) if go_on.wait(20) else {}
    released.save(tmp_path / "new.png")
    lead = browser_as("lead", name="Lea")
    lead.goto("/works")
    lead.get_by_role("link", name="Add a work").click()
    lead.set_input_files("#w-image", tmp_path / "new.png")
    lead.fill("#w-id", "new")
    lead.fill("#w-title", "A <b>new</b> one")
    lead.get_by_role("button", name="Add, and look through released outputs").click()
    lead.wait_for_url(re.compile(r"/rescans/"))
    assert lead.locator("progress#share").is_visible()
    go_on.set()
    lead.locator("#near").wait_for()  # the page that waits shows what was found by itself
    assert "1 released output" in lead.locator("main").inner_text()
    lead.locator('section[aria-labelledby="near"] a.button').click()
    lead.locator("[data-row] a.title").wait_for()
    assert lead.locator("[data-row] a.title").inner_text() == "A <b>new</b> one"
    assert len(desk.memory.open_cases()) == 1
    lead.locator("[data-row] a.title").click()
    lead.wait_for_url(re.compile(r"/cases/\d+"))
    assert lead.locator("#decide").count() == 1


def test_withdrawn_work_is_not_found_any_more(desk, browser_as):
    guard = desk.guard_for("default")
    assert guard.check([drawing(1)]).verdicts[0].decision == "block"
    lead = browser_as("lead", name="Lea")
    lead.goto("/works?words=fox")
    lead.locator(".works summary").click()
    lead.locator('form[action="/works/withdraw"]').get_by_label("Reason").fill("asked for by its maker")
    lead.get_by_role("button", name="Withdraw it").click()
    lead.locator(".flash.done").wait_for()
    assert "withdrawn" in lead.locator(".flash").inner_text()
    assert guard.check([drawing(1)]).verdicts[0].decision == "accept"


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_withdrawal_is_shown_with_its_reason_and_taken_back(desk, browser_as, size):
    lead = browser_as("lead", name="Lea", size=size)
    other = desk.memory.accounts.open_account("default", "bo@example.org", "Bo", "lead")
    withdraw_work(desk, Asker(other.actor, "asked for by its maker"), "animals", "fox")
    lead.goto("/works?tab=changes")
    shown = lead.locator('section[aria-labelledby="changed"]')
    assert all(said in shown.inner_text() for said in ("animals/fox", "asked for by its maker", "was protected"))
    assert faults(Axe(), lead, "changes") == []
    lead.get_by_role("button", name="Take back: animals/fox").click()
    lead.locator(".flash.done").wait_for()
    assert shown.get_by_text("taken back", exact=True).count() == 1
    assert desk.guard_for("default").check([drawing(1)]).verdicts[0].decision == "block"


def test_reviewer_sees_works_and_changes_none(browser_as):
    page = browser_as("reviewer")
    page.goto("/works?tab=upload")
    assert page.get_by_text("Fox").first.is_visible()
    assert page.locator("#w-image, .works details, main form[method=post]").count() == 0
