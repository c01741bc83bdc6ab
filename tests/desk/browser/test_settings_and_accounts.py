"""Several cases by one decision, veiled images, settings of one's own, and who may come in: in a real browser."""

import re

from guardrail.memory.audit import AuditFilter
from guardrail.records import DecisionAsked
from tests.desk.browser.test_reviewing import decide, lead_of, waiting
from tests.desk.web.conftest import near

PASSWORD = "a long enough one"


def veiled_case(desk, flag):
    """A case that is known to be sensitive, and waits."""
    (case,) = flag(1)
    lead = lead_of(desk)
    desk.memory.reviews.decide(lead, case, DecisionAsked(outcome="withhold", reasons=("sensitive",)))
    desk.memory.reviews.undo(lead, desk.memory.reviews.case(lead, case).decisions[-1].decision.decision_id)
    return case


def reveals(desk):
    """What the audit has of veiled images that somebody asked to see; read by the lead of `veiled_case`."""
    names = desk.memory.accounts.names("default")
    lead = desk.memory.accounts.person(next(one for one, name in names.items() if name == "Looks"))
    return [event.target for event in desk.memory.audit.page(lead.actor, AuditFilter(action="picture.revealed"))]


def test_several_cases_are_decided_after_a_preview_and_undone_at_once(desk, flag, browser_as):
    cases = flag(4)
    page = browser_as("reviewer", name="Anna")
    page.goto("/queue?apart=1")
    for box in page.locator('input[name="case"]').all()[:3]:
        box.check()
    assert page.locator(".bulk .count").inner_text() == "3 cases picked"
    page.keyboard.press("v")
    page.wait_for_url("**/queue/preview")
    shown = {int(one) for one in re.findall(r"Case (\d+)", page.locator(".same").inner_text())}
    assert len(shown) == 3
    assert waiting(desk) == set(cases)  # nothing is decided by a look
    page.keyboard.press("1")
    page.locator('button[value="withhold"]').click()
    page.wait_for_url(re.compile(r"/queue(\?|$)"))
    assert waiting(desk) == set(cases) - shown
    page.keyboard.press("u")
    page.locator(".flash.done form.undo, .flash form.undo").wait_for(state="detached")
    assert waiting(desk) == set(cases)


def test_group_is_decided_with_the_case(desk, browser_as):
    guard = desk.guard_for("default")
    first = near("fox", 100, 0.62)
    second = first.copy()
    second.putpixel((0, 0), (1, 2, 3))
    guard.check([first, second])
    assert len(waiting(desk)) == 2
    page = browser_as("reviewer", name="Anna")
    page.goto("/queue")
    assert page.locator("[data-row]").count() == 1
    page.keyboard.press("g")
    page.wait_for_url(re.compile(r"/cases/\d+"))
    assert page.locator("#decide > :last-child").get_attribute("class") == "decisions"  # after what it decides
    page.keyboard.press("a")
    decide(page, "w", "1")
    assert waiting(desk) == set()


def test_veiled_image_is_shown_when_asked_for_and_that_is_in_the_audit(desk, flag, browser_as):
    case = veiled_case(desk, flag)
    page = browser_as("reviewer", name="Anna")
    page.goto(f"/cases/{case}")
    assert page.locator(".veil").is_visible()
    assert page.locator("[data-mode]").count() == 0
    assert reveals(desk) == []
    page.keyboard.press("Space")
    page.wait_for_url(re.compile("shown"))
    assert page.locator(".veil").count() == 0
    page.wait_for_load_state("networkidle")
    assert reveals(desk) == [f"case {case}"]


def test_settings_of_ones_own_take_the_veil_and_the_keys_away(desk, flag, browser_as):
    case = veiled_case(desk, flag)
    page = browser_as("reviewer", name="Anna")
    page.goto("/account")
    page.check('input[name="blur"][value="none"]')
    page.uncheck('input[name="keyboard"]')
    page.get_by_role("button", name="Change the settings").click()
    page.locator(".flash").first.wait_for()
    page.goto(f"/cases/{case}")
    assert page.locator(".veil").count() == 0
    assert page.locator("kbd:visible, .keys-only:visible").count() == 0
    page.keyboard.press("r")
    page.wait_for_timeout(300)
    assert case in waiting(desk)
    page.goto("/account")
    page.check('input[name="blur"][value="grey"]')
    page.get_by_role("button", name="Change the settings").click()
    page.locator(".flash").first.wait_for()
    page.goto(f"/cases/{case}")
    assert "veil=grey" in page.locator("#side img").first.get_attribute("src")


def test_invited_reviewer_comes_in_by_the_link_and_is_out_once_disabled(browser_at, browser_as, desk, site):
    admin = browser_as("admin", name="Ada")
    admin.goto("/accounts")
    admin.fill("#email", "new@example.org")
    admin.fill("#name", "Nina")
    admin.select_option("#role", "reviewer")
    admin.get_by_role("button", name="Make a link").click()
    link = admin.locator("#link").input_value()
    secret = link.rsplit("/", 1)[1]
    nina = browser_at(desk, site, None)
    nina.goto(f"/sign-in/link/{secret}")
    nina.fill("#password", PASSWORD)
    nina.fill("#again", PASSWORD)
    nina.get_by_role("button", name="Go on").click()
    nina.goto("/queue")
    assert nina.get_by_role("heading", name="Queue").is_visible()
    nina.get_by_text("Nina").first.click()
    nina.get_by_role("button", name="Sign out").click()
    nina.wait_for_url("**/sign-in**")
    nina.fill("#email", "new@example.org")
    nina.fill("#password", PASSWORD)
    nina.get_by_role("button", name="Sign in", exact=True).click()
    nina.wait_for_url(re.compile(r"/queue|/$"))
    admin.goto("/accounts")
    admin.get_by_role("button", name="Disable Nina").click()
    admin.locator(".flash").first.wait_for()
    nina.goto("/queue")
    assert "/sign-in" in nina.url
