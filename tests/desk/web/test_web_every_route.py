"""What holds for every route: who is nobody gets nothing, a viewer changes nothing, others' ids are not there."""

import re

import pytest
from fastapi.routing import APIRoute

from guardrail.desk.web.app import build_app
from guardrail.desk.web.deps import SAFE_METHODS

OPEN = {  # to everybody: to sign in, and to ask whether the desk is up
    "/",  # leads to the queue, which is not
    "/sign-in",
    "/sign-in/link/{secret}",
    "/sign-in/provider",
    "/sign-in/provider/back",
    "/livez",
    "/readyz",
    "/metrics",
    "/v1/openapi.json",
}
OWN = re.compile(r"/(account(/.*)?|tokens(/.*)?|sign-out|sign-in/(code|authenticator))$")  # what a viewer changes
VALUES = {"case_id": "987654", "number": "0", "n": "0", "sequence": "1"}
ID = "f" * 32


def _flat(routes):
    """Every route, those of routers inside routers too."""
    for route in routes:
        if isinstance(route, APIRoute):
            yield route
        elif inner := getattr(getattr(route, "original_router", None), "routes", None) or getattr(
            route, "routes", None
        ):
            yield from _flat(inner)


def _asked(route):
    return re.sub(r"\{(\w+)(?::\w+)?\}", lambda found: VALUES.get(found[1], ID), route.path)


def every(app, *, unsafe=None):
    """(method, path, route) of every route; with `unsafe`, those that change something, or those that do not."""
    found = [
        (method, _asked(route), route)
        for route in _flat(app.routes)
        for method in sorted(route.methods)
        if unsafe is None or (method not in SAFE_METHODS) == unsafe
    ]
    assert len(found) > 10, "the routes of the application were not found"
    return found


def test_every_route_was_found(app, desk):
    paths = {route.path for _, _, route in every(app)}
    assert {"/accounts", "/audit.csv", "/tokens/{token_id}/revoke", "/sign-in", "/account/password"} <= paths
    plain = {re.sub(r":\w+\}", "}", path) for path in paths}
    assert plain >= {path for path in app.openapi()["paths"] if path.startswith("/v1/")}
    assert len(every(build_app(desk, pages=False, workers=False))) < len(every(app))


def test_nobody_gets_nothing(app, anonymous):
    wrong = []
    for method, path, route in every(app):
        if route.path in OPEN:
            continue
        answer = anonymous.request(method, path, headers={"Accept": "text/html"})
        away = answer.headers.get("location", "")
        if answer.status_code != 401 and not (answer.status_code == 303 and away.startswith("/sign-in")):
            wrong.append((method, path, answer.status_code))
    assert wrong == []


@pytest.mark.parametrize("given", ["Bearer gr_nothing", "Bearer ", "Basic YTpi", "gr_nothing"])
def test_a_wrong_token_gets_nothing(app, anonymous, given):
    wrong = [
        (method, path, answer.status_code)
        for method, path, route in every(app)
        if route.path not in OPEN
        and (answer := anonymous.request(method, path, headers={"Authorization": given})).status_code != 401
    ]
    assert wrong == []


def test_a_token_opens_no_page(app, anonymous, client_as, token_for):
    scopes = ("check", "verdicts:read", "works:write", "cases:read", "cases:decide", "webhooks:write")
    token = token_for(client_as("admin").actor, *scopes)
    wrong = []
    for method, path, route in every(app):
        if route.path in OPEN or route.path.startswith("/v1/"):
            continue
        answer = anonymous.request(method, path, headers={"Authorization": f"Bearer {token}"})
        if answer.status_code != 401:
            wrong.append((method, path, answer.status_code))
    assert wrong == []


def test_a_viewer_changes_nothing_but_their_own(app, client_as):
    viewer, wrong = client_as("viewer"), []
    for method, path, route in every(app, unsafe=True):
        if route.path in OPEN or OWN.fullmatch(route.path):
            continue
        if (status := viewer.request(method, path).status_code) != 403:
            wrong.append((method, path, status))
    assert wrong == []


def test_no_change_without_the_key_of_the_page(app, client_as):
    admin, wrong = client_as("admin"), []
    for key in (None, "", "0" * 64, client_as("admin").csrf):  # of another browser of the same person
        admin.headers.pop("X-CSRF-Token", None)
        headers = {} if key is None else {"X-CSRF-Token": key}
        for method, path, route in every(app, unsafe=True):
            if route.path in OPEN:
                continue
            if (status := admin.request(method, path, headers=headers).status_code) != 403:
                wrong.append((method, path, key, status))
    assert wrong == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:3000"},  # another program of this machine
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_no_change_that_another_site_asks_for(app, client_as, headers):
    admin = client_as("admin")
    wrong = [
        (method, path, answer.status_code)
        for method, path, _ in every(app, unsafe=True)
        if (answer := admin.request(method, path, headers=headers)).status_code != 403
    ]
    assert wrong == []


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil.example:8787", "", "a@127.0.0.1"])
def test_another_host_gets_nothing(app, client_as, host):
    """A page of elsewhere whose name was bound to this machine's address (DNS rebinding) has its own name as host."""
    admin = client_as("admin")
    wrong = [
        (method, path, answer.status_code)
        for method, path, route in every(app)
        if route.path not in ("/livez", "/readyz")
        and (answer := admin.request(method, path, headers={"Host": host})).status_code != 421
    ]
    assert wrong == []


@pytest.fixture
def ids(desk, client_as, open_case, token_for):
    """Of the other organisation, what paths may name."""
    admin, reviewer = client_as("admin", "another"), client_as("reviewer", "another")
    token_for(reviewer.actor, "check")
    case_id = open_case("another")
    verdict = next(one for one in desk.memory.open_cases() if one.case_id == case_id)
    token = desk.memory.accounts.tokens.of(reviewer.actor)[0].token_id
    job = desk.memory.jobs.add("another", "release", {"case_id": case_id, "decision_id": ID}, admin.actor.account_id)
    return {
        "case_id": case_id,
        "verdict_id": verdict.verdict_id,
        "account_id": reviewer.actor.account_id,
        "token_id": token,
        "job_id": job,
        "shown_id": desk.memory.accounts.sessions.of(reviewer.actor.account_id)[0].shown_id,
    }


def test_ids_of_another_organisation_are_not_there(app, client_as, ids):
    """As one that nobody has: neither the status nor what is said tells them apart."""
    admin, asked, wrong = client_as("admin"), 0, []
    for method, path, route in every(app):
        names = [name for name in re.findall(r"\{(\w+)", route.path) if name in ids]
        if not names or route.path in OPEN:
            continue
        asked += 1
        there = route.path
        for name in re.findall(r"\{(\w+)(?::\w+)?\}", route.path):
            there = re.sub(rf"\{{{name}(:\w+)?\}}", str(ids.get(name, VALUES.get(name, ID))), there)
        form = {"role": "viewer", "state": "disabled", "outcome": "withhold", "note": "n"}
        kind = {"json": form} if route.path.startswith("/v1/") else {"data": form}
        extra = {} if method in SAFE_METHODS else kind
        answers = [admin.request(method, one, **extra) for one in (there, path)]
        statuses = [answer.status_code for answer in answers]
        if statuses not in ([404, 404], [422, 422], [204, 204]):  # 204: what is given back need not have been leased
            wrong.append((method, route.path, statuses))
    assert wrong == []
    assert asked > 5
