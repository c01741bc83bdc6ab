"""People at the desk, in a real browser: reviewing by keyboard, racing, undoing, looking twice, what they may not."""

import re

import pytest

CASE = re.compile(r"/cases/(\d+)")


def number_of(page):
    return int(CASE.search(page.url)[1])


def decide(page, key, answers=""):
    """Press the keys of a decision, and wait until the page has gone on."""
    before = page.url
    for answer in answers:
        page.keyboard.press(answer)
    page.keyboard.press(key)
    page.wait_for_url(lambda url: url != before and not url.endswith("/decisions"))


def lead_of(desk):
    """Some lead who may look at everything."""
    return desk.memory.accounts.open_account("default", "looks@example.org", "Looks", "lead").actor


def waiting(desk):
    return {case.case_id for case in desk.memory.open_cases()}


def test_twenty_cases_are_reviewed_by_keyboard_alone(desk, flag, browser_as):
    cases = flag(20)
    page = browser_as("reviewer", name="Anna")
    page.goto("/queue")
    page.keyboard.press("g")
    seen = []
    for turn in range(20):
        page.wait_for_url(CASE)
        seen.append(number_of(page))
        decide(page, "w", "1") if turn % 2 else decide(page, "r")
    assert sorted(seen) == sorted(cases)
    assert waiting(desk) == set()
    assert page.get_by_text("Nothing waits for you").is_visible()


def test_of_two_reviewers_who_race_for_a_case_one_decides(desk, flag, browser_as):
    (case,) = flag(1)
    anna, bo = browser_as("reviewer", name="Anna"), browser_as("reviewer", name="Bo")
    anna.goto(f"/cases/{case}")
    bo.goto(f"/cases/{case}")
    assert anna.locator("#decide").count() == 1
    assert "somebody else has it" in bo.locator("main").inner_text()
    decide(anna, "r")
    bo.goto(f"/cases/{case}")
    assert bo.locator('#decide button[name="outcome"]').count() == 0
    decided = desk.memory.reviews.held("default", case).decision
    assert decided is not None and decided.outcome == "release"


def test_both_take_the_next_case_and_get_different_ones(flag, browser_as):
    flag(2)
    pages = [browser_as("reviewer", name=name) for name in ("Anna", "Bo")]
    for page in pages:
        page.goto("/queue")
        page.keyboard.press("g")
        page.wait_for_url(CASE)
    assert number_of(pages[0]) != number_of(pages[1])


def test_decision_is_undone_from_the_banner(desk, flag, browser_as):
    case = min(flag(2))
    page = browser_as("reviewer", name="Anna")
    page.goto(f"/cases/{case}")
    decide(page, "r")
    assert f"case {case}" in page.locator(".flash").first.inner_text().lower()
    page.keyboard.press("u")
    page.wait_for_function(
        "() => !document.querySelector('.flash') || /undo|back/i.test(document.querySelector('.flash').textContent)"
    )
    page.goto(f"/cases/{case}")
    assert case in waiting(desk)
    assert desk.memory.reviews.held("default", case).decision is None


def test_second_reviewer_sees_nothing_of_the_first(make_desk, serve, browser_at, flag_at):
    desk = make_desk(second_review_share=1)
    site = serve(desk)
    (case,) = flag_at(desk, 1)
    anna, bo = (browser_at(desk, site, "reviewer", name=name) for name in ("Anna", "Bo"))
    anna.goto(f"/cases/{case}")
    anna.fill("#note", "CANARY of the first look")
    anna.keyboard.press("Escape")
    decide(anna, "w", "1")
    assert desk.memory.reviews.held("default", case).decision is None
    anna.goto(f"/cases/{case}")
    assert anna.locator('button[name="outcome"]').count() == 0
    bo.goto("/queue")
    bo.keyboard.press("g")
    bo.wait_for_url(CASE)
    shown = bo.locator("main").inner_text()
    assert number_of(bo) == case
    assert not any(word in shown for word in ("CANARY", "Anna", "ithheld"))
    decide(bo, "r")
    lead = browser_at(desk, site, "lead", name="Lea")
    lead.goto(f"/cases/{case}")
    shown = lead.locator("main").inner_text()
    assert all(word in shown for word in ("CANARY", "Anna", "Bo"))
    decide(lead, "w", "1")
    assert desk.memory.reviews.case(lead_of(desk), case).row.outcome == "withhold"


@pytest.mark.parametrize("path", ["/accounts", "/audit"])
def test_reviewer_may_not_see_what_admins_do(browser_as, path):
    page = browser_as("reviewer")
    assert page.goto(path).status == 403
    page.goto("/queue")
    assert page.locator(f'a[href="{path}"]').count() == 0


def test_viewer_sees_a_case_and_cannot_decide(flag, browser_as):
    (case,) = flag(1)
    page = browser_as("viewer")
    page.goto(f"/cases/{case}")
    assert page.get_by_role("heading", name=f"Case {case}").is_visible()
    assert page.locator('button[name="outcome"]').count() == 0
    page.keyboard.press("r")
    page.wait_for_timeout(200)
    assert number_of(page) == case


def test_case_of_another_organisation_is_not_there(desk, flag, browser_as):
    (theirs,) = flag(1, "another")
    page = browser_as("admin")
    for path in (f"/cases/{theirs}", f"/cases/{theirs}/picture", f"/cases/{theirs}/file", f"/v1/cases/{theirs}"):
        assert page.goto(path).status == 404, path
    page.goto("/queue")
    assert page.locator("[data-row]").count() == 0
    said = page.evaluate(
        """async (path) => (await fetch(path, {method: "POST", redirect: "manual", headers: {
            "X-CSRF-Token": document.querySelector('meta[name=csrf]').content,
            "Content-Type": "application/x-www-form-urlencoded"}, body: "outcome=release"})).status""",
        f"/cases/{theirs}/decisions",
    )
    assert said == 404
    assert theirs in waiting(desk)
