"""/metrics, /livez, /readyz, the OpenAPI document and the dashboard: what whoever runs a desk relies on."""

import json
import re
from pathlib import Path

import pytest
from api_samples import BASE, client_of, drawing, files, near
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from guardrail import errors, review_errors
from guardrail.desk.web import api_cases, api_checks, api_jobs, api_webhooks, api_works
from guardrail.desk.web.app import build_app
from guardrail.desk.web.problems import problem_of
from guardrail.errors import GuardrailError, MemoryUnwritable

DOCS = Path(__file__).parents[3] / "docs"


def here(desk, client=("127.0.0.1", 5), **headers):
    return TestClient(build_app(desk, workers=False), base_url=BASE, client=client, headers=headers)


def metrics_of(desk):
    text = here(desk).get("/metrics").text
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_verdicts_stages_queues_and_indexes_are_counted(make_desk):
    desk = make_desk()
    client = client_of(desk)
    client.post("/v1/check", files=files(near=near(), new=drawing(77)))
    client.post("/v1/check?async=true", files=files(new=drawing(78)))
    said = metrics_of(desk)
    mine = ("organisation", "default")
    flagged = [key for key in said if key[0] == "guardrail_verdicts_total" and ("decision", "flag") in key]
    assert [said[key] for key in flagged] == [1]
    assert said["guardrail_stage_seconds_count", ("stage", "fingerprint")] == 1
    assert said["guardrail_cases_waiting", mine, ("state", "open")] == 1
    assert said["guardrail_oldest_case_age_seconds", mine] > 0
    assert said["guardrail_index_works", mine] == 4
    assert said["guardrail_jobs", ("kind", "check"), mine, ("state", "waiting")] == 1
    assert said["guardrail_check_seconds_count",] == 1
    assert said["guardrail_http_requests_total", ("method", "POST"), ("route", "/v1/check"), ("status", "200")] == 1


@pytest.mark.parametrize(
    ("client", "headers"),
    [
        (("203.0.113.5", 5), {}),
        (("127.0.0.1", 5), {"X-Forwarded-For": "203.0.113.5"}),
        (("127.0.0.1", 5), {"Via": "1.1 p"}),
    ],
)
def test_metrics_are_not_told_to_elsewhere(make_desk, client, headers):
    assert here(make_desk(), client, **headers).get("/metrics").status_code == 403


def test_metrics_are_told_to_elsewhere_with_the_operators_token_alone(make_desk):
    desk = make_desk(metrics_token="a long token")
    asked = here(desk, ("203.0.113.5", 5))
    assert asked.get("/metrics", headers={"Authorization": "Bearer a long token"}).status_code == 200
    assert asked.get("/metrics", headers={"Authorization": "Bearer another"}).status_code == 403
    of_account = client_of(desk, "check").headers["Authorization"]
    assert asked.get("/metrics", headers={"Authorization": of_account}).status_code == 403


def test_stores_that_cannot_be_read_are_told_and_the_rest_is_there(make_desk, monkeypatch):
    desk = make_desk()

    def refuse(*_):
        raise MemoryUnwritable("x", "y")

    monkeypatch.setattr(desk.memory.jobs, "waiting", refuse)
    said = metrics_of(desk)
    assert said["guardrail_stores_unread", ("store", "jobs")] == 1
    assert said["guardrail_stores_unread", ("store", "cases")] == 0


def test_every_metric_that_the_dashboard_asks_for_exists(make_desk):
    desk = make_desk()
    client_of(desk).post("/v1/check", files=files(near=near()))
    known = {key[0] for key in metrics_of(desk)} | {
        family.name for family in text_string_to_metric_families(here(desk).get("/metrics").text)
    }
    board = json.loads((DOCS / "grafana-guardrail.json").read_text(encoding="utf-8"))
    asked = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    names = {name for expression in asked for name in re.findall(r"guardrail_[a-z_]+", expression)}
    assert len(asked) >= 10
    assert names <= known, names - known


def test_a_process_lives_and_is_ready(make_desk):
    desk = make_desk()
    client = here(desk)
    assert client.get("/livez").json() == {"status": "ok"}
    answer = client.get("/readyz")
    assert answer.status_code == 200, answer.text
    assert answer.json()["checks"] == {"memory": "ok", "index": "ok", "index 2": "ok", "workers": "ok"}


def test_a_memory_that_cannot_be_written_is_not_ready(make_desk, monkeypatch):
    desk = make_desk()

    def refuse():
        raise MemoryUnwritable("/secret/memory.db", "read-only")

    monkeypatch.setattr(desk.memory.jobs, "require_writable", refuse)
    answer = here(desk).get("/readyz")
    assert answer.status_code == 503
    assert "MemoryUnwritable" in answer.json()["checks"]["memory"]
    assert "secret" not in answer.text


def test_an_index_that_is_gone_is_not_ready(make_desk, tmp_path):
    assert here(make_desk(index=tmp_path / "nowhere")).get("/readyz").json()["checks"]["index"].startswith("cannot")


def test_a_worker_that_ended_is_not_ready(make_desk):
    desk = make_desk()
    desk.workers.start()
    desk.workers._stopping.set()
    desk.workers.nudge()
    for thread in desk.workers._threads:
        thread.join()
    assert "ended" in here(desk).get("/readyz").json()["checks"]["workers"]


def all_errors():
    both = {**vars(errors), **vars(review_errors)}
    return sorted(
        (one for one in both.values() if isinstance(one, type) and issubclass(one, GuardrailError)),
        key=lambda one: one.__name__,
    )


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_every_error_is_a_problem_that_names_no_path(kind):
    problem = problem_of(kind(*["/secret/place"] * 9) if kind.__name__ not in TOLD_AS_THEY_ARE else kind(*"abcdefghi"))
    assert 400 <= problem.status < 600
    assert problem.title
    assert problem.detail
    assert "/secret" not in problem.model_dump_json()


TOLD_AS_THEY_ARE = {
    "AccountInvalid",
    "AccountMissing",
    "CaseMissing",
    "CaseTaken",
    "ChangeRefused",
    "DecisionRefused",
    "ImageUnreadable",
    "NotAllowed",
    "PictureMissing",
    "PictureNotKept",
    "QueryInvalid",
    "SignInFailed",
}


def test_an_unexpected_error_is_a_problem_without_its_words(make_desk, monkeypatch):
    desk = make_desk()
    client = client_of(desk, "cases:read")

    def fail(*_, **__):
        raise RuntimeError("SELECT secret FROM /secret")

    monkeypatch.setattr(desk.memory.reviews, "queue", fail)
    answer = client.get("/v1/cases")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text


def test_a_place_that_is_not_there_is_a_problem_too(make_desk):
    answer = here(make_desk()).get("/v1/nowhere")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


def test_the_openapi_document_describes_every_route_of_v1(make_desk):
    desk = make_desk()
    app = build_app(desk, workers=False)
    said = TestClient(app, base_url=BASE).get("/v1/openapi.json").json()
    routes = [
        route for module in (api_cases, api_checks, api_jobs, api_webhooks, api_works) for route in module.router.routes
    ]
    asked = {(route.path.replace(":path", ""), method.lower()) for route in routes for method in route.methods}
    assert len(asked) >= 15
    described = {(path, method) for path, one in said["paths"].items() for method in one}
    assert asked <= described
    assert "HTTPBearer" in said["components"]["securitySchemes"]
    for path, operations in said["paths"].items():
        for method, operation in operations.items():
            if path.startswith("/v1/"):
                assert operation["security"], (path, method)
                assert "application/problem+json" in operation["responses"]["422"]["content"], (path, method)
