"""`/v1/cases` and `/v1/decisions`: as at the desk, and only of one's own organisation."""

import pytest
from api_samples import client_of, near


@pytest.fixture
def lead(desk):
    return client_of(desk, "cases:read", "cases:decide", role="lead")


def decide(client, case_id, outcome="release", key=None, **said):
    headers = {"Idempotency-Key": key} if key else {}
    asked = {"outcome": outcome, **({"reasons": ["expression_copied"]} if outcome == "withhold" else {}), **said}
    return client.post(f"/v1/cases/{case_id}/decisions", json=asked, headers=headers)


def different(other):
    """A picture that is flagged and not nearly the same as others."""
    return near("elk" if other % 2 else "fox", other)


def test_cases_are_listed_filtered_and_paged(desk, lead, open_case):
    opened = {open_case(picture=different(at)) for at in range(3)}
    seen, after = set(), ""
    for _ in range(3):
        page = lead.get("/v1/cases", params={"limit": 1, "after": after}).json()
        seen |= {row["case_id"] for row in page["cases"]}
        after = page["next"]
    assert seen == opened
    assert lead.get("/v1/cases", params={"work": "animals/elk"}).json()["total"] == 1
    assert lead.get("/v1/cases", params={"state": "decided"}).json()["total"] == 0
    assert lead.get("/v1/cases", params={"bnak": "animals"}).status_code == 422
    assert lead.get("/v1/cases", params={"after": "no cursor"}).status_code == 422


def test_a_case_is_told_without_prompts(desk, lead, open_case):
    from guardrail.records import GenerationContext

    context = GenerationContext(pipeline="P", prompts={"prompt": "a very secret fox"})
    case_id = open_case(context=context)
    answer = lead.get(f"/v1/cases/{case_id}")
    assert answer.status_code == 200, answer.text
    assert answer.json()["run"]["pipeline"] == "P"
    assert "very secret" not in answer.text


def test_a_decision_is_taken_once(desk, lead, open_case):
    case_id = open_case()
    first = decide(lead, case_id, "withhold", key="k", note="a copy")
    assert first.status_code == 201, first.text
    assert first.json()["state"] == "decided"
    again = decide(lead, case_id, "withhold", key="k", note="a copy")
    assert again.json() == first.json()
    other = decide(lead, case_id, "release")
    assert other.status_code == 409
    shown = lead.get(f"/v1/cases/{case_id}").json()["decisions"]
    assert [(one["decision"]["outcome"], one["note"]) for one in shown] == [("withhold", "a copy")]


def test_a_case_that_changed_since_it_was_seen_is_not_decided(lead, open_case):
    answer = decide(lead, open_case(), seen_revision=99)
    assert answer.status_code == 409


def test_a_decision_is_undone_and_the_case_is_open_again(lead, open_case):
    case_id = open_case()
    decision = decide(lead, case_id, "withhold").json()["decision"]["decision_id"]
    undone = lead.delete(f"/v1/decisions/{decision}")
    assert undone.status_code == 200, undone.text
    assert undone.json()["decided"][0]["decision"]["undoes"] == decision
    assert lead.get(f"/v1/cases/{case_id}").json()["case"]["state"] == "open"


def test_an_appeal_reopens_a_decided_case(lead, open_case):
    case_id = open_case()
    decide(lead, case_id, "withhold")
    answer = lead.post(f"/v1/cases/{case_id}/appeals", json={"note": "it is my own work"})
    assert answer.status_code == 201, answer.text
    assert answer.json()["state"] == "appealed"


def test_a_released_output_can_be_fetched_once_its_job_is_done(desk, lead, open_case):
    case_id = open_case()
    assert lead.get(f"/v1/cases/{case_id}/output").status_code == 404
    decide(lead, case_id, "release")
    assert desk.workers.work_once()
    answer = lead.get(f"/v1/cases/{case_id}/output")
    assert answer.status_code == 200, answer.text
    assert answer.content.startswith(b"\x89PNG")
    assert "attachment" in answer.headers["content-disposition"]


def test_cases_of_another_organisation_are_not_there(desk, lead, open_case):
    case_id = open_case("another")
    decision = decide(client_of(desk, "cases:decide", organisation="another"), case_id).json()["decision"][
        "decision_id"
    ]
    for answer in (
        lead.get(f"/v1/cases/{case_id}"),
        decide(lead, case_id),
        lead.post(f"/v1/cases/{case_id}/appeals", json={"note": "x"}),
        lead.get(f"/v1/cases/{case_id}/output"),
        lead.delete(f"/v1/decisions/{decision}"),
    ):
        assert answer.status_code == 404
    assert lead.get("/v1/cases").json()["total"] == 0


def test_a_token_that_may_read_may_not_decide(desk, open_case):
    reader = client_of(desk, "cases:read")
    assert decide(reader, open_case()).status_code == 403


@pytest.mark.parametrize(
    "asked", [{}, {"outcome": "burn"}, {"outcome": "release", "odd": 1}, [], {"outcome": "release", "note": "x" * 5000}]
)
def test_decisions_that_cannot_be_followed_are_told_field_by_field(lead, open_case, asked):
    answer = lead.post(f"/v1/cases/{open_case()}/decisions", json=asked)
    assert answer.status_code == 422
    assert answer.json()["errors"]


def test_a_body_that_is_no_json_is_refused(lead, open_case):
    headers = {"Content-Type": "application/json"}
    answer = lead.post(f"/v1/cases/{open_case()}/decisions", content=b"{", headers=headers)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
