"""The first start: a one-time link makes an admin, who sets up an authenticator and signs in with it from then on."""

import pyotp


def test_first_admin_comes_in_by_the_link_once(make_desk, serve, browser_at):
    desk = make_desk()
    titles = {name: one.title for name, one in desk.settings.desk.organisations.items()}
    secret = desk.memory.accounts.first_links(titles, again=True)["default"]
    site = serve(desk)
    page = browser_at(desk, site, None)
    page.goto("/")
    assert "/sign-in" in page.url
    page.goto(f"/sign-in/link/{secret}")
    for field, text in (
        ("email", "ada@example.org"),
        ("name", "Ada"),
        ("password", "a long enough one"),
        ("again", "a long enough one"),
    ):
        if page.locator(f"[name={field}]").count():
            page.fill(f"[name={field}]", text)
    page.locator("main form button[type=submit]").first.click()
    page.wait_for_url("**/sign-in/authenticator**")
    key = page.locator("[data-secret], .secret, code").first.inner_text().replace(" ", "")
    page.fill("[name=code]", pyotp.TOTP(key).now())
    page.locator("main form button[type=submit]").first.click()
    page.wait_for_load_state()
    assert page.locator("main li, main code").count() >= 10
    page.goto("/queue")
    assert page.get_by_role("heading", name="Queue").is_visible()
    other = browser_at(desk, site, None)
    assert other.goto(f"/sign-in/link/{secret}").status == 410
