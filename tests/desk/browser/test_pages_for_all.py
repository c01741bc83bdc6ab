"""Every page, wide and on a phone: no serious finding of axe-core, nothing wider than the screen, all within reach."""

import pyotp
import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.desk.browser.conftest import PHONE, WIDE

PAGES = {
    "queue": "/queue",
    "decided": "/queue?tab=decided",
    "case": "/cases/{case}",
    "alike": "/cases/{case}/alike",
    "case file": "/cases/{case}/file",
    "quality": "/quality",
    "limits": "/limits",
    "works": "/works",
    "account": "/account",
    "accounts": "/accounts",
    "tokens": "/tokens",
    "audit": "/audit",
    "tab of uploads": "/works?tab=upload",
    "tab of generic imagery": "/works?tab=generic",
    "tab of changed works": "/works?tab=changes",
    "authenticator": "/account/authenticator",
}
NOBODYS = {"sign in": "/sign-in", "link that is gone": "/sign-in/link/none"}
SERIOUS = {"serious", "critical"}


def serious(axe, page, name):
    """What axe-core finds on a page that is serious or worse."""
    found = axe.run(page).response["violations"]
    return [(name, one["id"], one["nodes"][0]["html"][:160]) for one in found if one["impact"] in SERIOUS]


@pytest.fixture
def shown(desk, flag, browser_as):
    """Cases of which one was decided, and a function that opens a page as an admin."""
    first, *_ = flag(3)

    def show(size, scheme="light"):
        return browser_as("admin", name="Ada", size=size, color_scheme=scheme), first

    return show


def faults(axe, page, name):
    """What is wrong with a page that stands: serious findings, and what is wider than the screen."""
    over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return serious(axe, page, name) + ([(name, "wider than the screen", f"{over} px")] if over > 1 else [])


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_pages_have_no_serious_finding_and_fit_the_screen(shown, size):
    page, case = shown(size)
    axe, found = Axe(), []
    for name, path in PAGES.items():
        answer = page.goto(path.format(case=case))
        assert answer.status == 200, (name, answer.status)
        found += faults(axe, page, name)
    assert page.goto("/cases/99999").status == 404
    assert page.locator("main p").first.inner_text().startswith("Found no case 99999")
    found += faults(axe, page, "problem")
    page.goto("/queue?apart=1")
    for box in page.locator('input[name="case"]').all():
        box.check()
    page.locator("#picked button[type=submit]").click()
    page.wait_for_url("**/queue/preview")
    found += faults(axe, page, "preview")
    page.goto("/works")
    page.locator(".works summary").first.click()
    page.get_by_role("button", name="Look for it in released outputs").first.click()
    page.wait_for_url("**/rescans/**")
    found += faults(axe, page, "rescan")
    assert found == []


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_pages_of_coming_in_have_no_serious_finding_and_fit_the_screen(shown, browser_as, size):
    page, _ = shown(size)
    axe, found = Axe(), []
    page.goto("/accounts")
    page.fill("#email", "nina@example.org")
    page.fill("#name", "Nina")
    page.select_option("#role", "lead")
    page.get_by_role("button", name="Make a link").click()
    secret = page.locator("#link").input_value().rsplit("/", 1)[1]
    found += faults(axe, page, "invited")
    nina = browser_as(None, size=size)
    for name, path in NOBODYS.items():
        nina.goto(path)
        found += faults(axe, nina, name)
    nina.goto(f"/sign-in/link/{secret}")
    found += faults(axe, nina, "link")
    for field in ("#password", "#again"):
        nina.fill(field, "a long enough one")
    nina.get_by_role("button", name="Go on").click()
    nina.wait_for_url("**/sign-in/authenticator**")
    found += faults(axe, nina, "authenticator of a lead")
    key = nina.locator("#secret").inner_text().replace(" ", "")
    nina.fill("#code", pyotp.TOTP(key).now())
    nina.get_by_role("button", name="Take it into use").click()
    nina.get_by_role("heading", name="Recovery codes").wait_for()
    found += faults(axe, nina, "recovery codes")
    nina.context.clear_cookies()
    nina.goto("/sign-in")
    nina.fill("#email", "nina@example.org")
    nina.fill("#password", "a long enough one")
    nina.get_by_role("button", name="Sign in", exact=True).click()
    nina.wait_for_url("**/sign-in/code**")
    found += faults(axe, nina, "code")
    assert found == []


def test_dark_pages_have_contrast_too(shown):
    page, case = shown(WIDE, "dark")
    axe, found = Axe(), []
    for name in ("queue", "case", "case file", "quality", "limits", "works", "account", "accounts", "tokens", "audit"):
        page.goto(PAGES[name].format(case=case))
        found += serious(axe, page, name)
    assert found == []


def test_buttons_are_large_enough_for_a_thumb(shown):
    page, case = shown(PHONE)
    page.goto(PAGES["case"].format(case=case))
    small = page.evaluate(
        """() => [...document.querySelectorAll("main button, main a.button, .decisions button")]
            .filter((one) => one.offsetParent && one.getBoundingClientRect().height < 40)
            .map((one) => one.outerHTML.slice(0, 120))"""
    )
    assert small == []


def test_compare_views_draw_what_they_say(shown):
    page, case = shown(WIDE)
    page.goto(PAGES["case"].format(case=case))
    for key, part in (("s", "slider"), ("d", "difference"), ("b", "blink")):
        page.keyboard.press(key)
        page.locator(f'[data-for="{part}"]').wait_for(state="visible")
    page.keyboard.press("d")
    page.locator("#difference-words").wait_for(state="visible")
    assert "of 255" in page.inner_text("#difference-words")
    page.keyboard.press("d")
    assert page.locator("#side").is_visible()
