"""Pages say what a person needs to know: whose desk it is, that an address leads nowhere, that two people differ."""


def test_pages_call_an_organisation_by_its_title(client_as):
    shown = client_as("reviewer", "another").get("/account").text
    assert "<dd>Another</dd>" in shown
    assert "reviewer of Another" in shown


def test_an_organisation_that_is_not_in_the_settings_is_called_by_its_name(desk):
    assert (desk.title_of("default"), desk.title_of("gone")) == ("Default", "gone")


def test_the_first_link_greets_by_the_title(make_desk, anonymous, desk):
    secret = desk.memory.accounts.first_links({"default": "Default"}, again=True)["default"]
    assert "first admin of Default." in anonymous.get(f"/sign-in/link/{secret}").text


def test_an_address_that_leads_nowhere_says_so_once(client_as):
    answer = client_as("reviewer").get("/nowhere")
    assert answer.status_code == 404
    assert "There is no page at this address." in answer.text
    assert "Not Found." not in answer.text


def test_what_is_missing_is_still_named(client_as):
    answer = client_as("reviewer").get("/cases/999")
    assert answer.status_code == 404
    assert "There is no page at this address." not in answer.text
    assert "case 999" in answer.text.lower()


def test_who_decides_otherwise_is_told_that_a_lead_settles_it(make_desk):
    from starlette.testclient import TestClient

    from guardrail.desk.web.app import build_app
    from guardrail.records import Decision
    from tests.desk.web.conftest import BASE, near

    desk = make_desk(second_review_share=1)
    (verdict,) = desk.guard_for("default").check([near()]).verdicts
    assert verdict.decision is Decision.FLAG
    (case,) = desk.memory.open_cases()
    app, told = build_app(desk, workers=False), []
    accounts = desk.memory.accounts
    people = [accounts.open_account("default", f"{name}@example.org", name, "reviewer") for name in ("Anna", "Bo")]
    for person, outcome in zip(people, ("withhold", "release"), strict=True):
        secret = accounts.sessions.open(person.account_id, "full", hours=12)
        client = TestClient(app, base_url=BASE, follow_redirects=False)
        client.cookies.set("guardrail", secret)
        client.headers["X-CSRF-Token"] = accounts.sessions.find(secret, idle_minutes=60).csrf
        client.headers["Accept"] = "text/html"
        client.get(f"/cases/{case.case_id}")
        said = {"outcome": outcome, "reasons": ["expression_copied"] if outcome == "withhold" else []}
        answer = client.post(f"/cases/{case.case_id}/decisions", data=said)
        assert answer.status_code == 303
        told.append(client.get("/queue").text)
    assert "A second person looks too before it counts." in told[0]
    assert "Two people differ, so nothing follows until a lead settles it." in told[1]
    assert "Two people differ" not in told[0]
