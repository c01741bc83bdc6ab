"""`POST /v1/check`: verdicts in order, nothing that could not be checked is accepted, caps, jobs, repeats."""

import asyncio
import json
import threading

import httpx
import pytest
from api_samples import BASE, SEEDS, client_again, client_of, drawing, files, near, png, token_client
from starlette.testclient import TestClient

from guardrail.desk.web.app import build_app
from guardrail.desk.web.problems import Problem
from guardrail.errors import MemoryUnwritable


@pytest.fixture
def caller(app, client_as, token_for):
    """A client with a token: `caller("check")`, `caller("check", organisation="another")`."""

    def make(*scopes, organisation="default", role="admin"):
        secret = token_for(client_as(role, organisation).actor, *scopes)
        return token_client(app, secret)

    return make


def test_verdicts_come_in_the_order_of_the_images(caller):
    sent = files(new=drawing(77), fox=drawing(SEEDS["fox"]), near=near())
    answer = caller("check").post("/v1/check", files=sent)
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert [one["decision"] for one in said["images"]] == ["accept", "block", "flag"]
    assert [one["image"] for one in said["images"]] == ["new.png", "fox.png", "near.png"]
    assert said["decision"] == "block"
    assert said["images"][1]["verdict"]["nearest"][0]["work"]["work_id"] == "fox"


def test_one_bad_image_never_loses_the_others(caller):
    answer = caller("check").post("/v1/check", files=files(new=drawing(77), torn=b"no picture", other=drawing(78)))
    said = answer.json()["images"]
    assert [one["decision"] for one in said] == ["accept", "block", "accept"]
    assert said[1]["problem"]["status"] == 422
    assert any(one["kind"] == "check_failed" for one in said[1]["verdict"]["evidence"])


def test_the_same_name_twice_is_two_images(caller):
    sent = [("image", ("a.png", png(drawing(77)))), ("image", ("a.png", png(drawing(SEEDS["fox"]))))]
    said = caller("check").post("/v1/check", files=sent).json()["images"]
    assert [one["decision"] for one in said] == ["accept", "block"]


def test_what_could_not_be_judged_is_blocked_and_the_rest_is_not(make_desk, token_for, monkeypatch):
    desk = make_desk()
    guard = desk.guard_for("default")
    judge = guard.judge

    def stumble(batch, context=None, facts=None):
        if any("torn" in one.name for one in batch.pictures):
            raise RuntimeError("out of memory in /secret/place")
        return judge(batch, context, facts)

    monkeypatch.setattr(guard, "judge", stumble)
    client = client_of(desk)
    answer = client.post("/v1/check", files=files(new=drawing(77), torn=drawing(79)))
    said = answer.json()["images"]
    assert [one["decision"] for one in said] == ["accept", "block"]
    assert said[1]["rule"] == "not_checked"
    assert said[1]["verdict"] is None
    assert said[1]["problem"]["status"] == 500
    assert "secret" not in answer.text


def test_an_unwritable_memory_is_503_and_no_verdict(make_desk, monkeypatch):
    desk = make_desk()
    client = client_of(desk)

    def refuse(*_, **__):
        raise MemoryUnwritable("sqlite:////secret/memory.db", "disk full")

    monkeypatch.setattr(desk.guard_for("default").memory, "record_verdicts", refuse)
    answer = client.post("/v1/check", files=files(new=drawing(77)))
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) > 0
    assert "secret" not in answer.text


def test_context_reaches_the_ledger(caller, desk):
    context = {"pipeline": "StableDiffusionPipeline", "seed": "42", "prompts": {"prompt": "a fox"}}
    answer = caller("check").post("/v1/check", files=files(new=drawing(77)), data={"context": json.dumps(context)})
    verdict = answer.json()["images"][0]["verdict"]
    row = desk.memory.find(verdict["verdict_id"])[0]
    assert row.content["context"]["pipeline"] == "StableDiffusionPipeline"
    assert "a fox" not in (row.leaf or b"").decode()


@pytest.mark.parametrize(
    ("sent", "fields", "status"),
    [
        ([], {"context": "{}"}, 415),
        ([("image", ("a.png", b"x"))], {"context": "no json"}, 422),
        ([("image", ("a.png", b"x"))], {"context": '{"pipeline": "P", "odd": 1}'}, 422),
        ([("picture", ("a.png", b"x"))], {}, 422),
        ([("image", ("a.png", b"x"))], {"contxt": "{}"}, 422),
    ],
)
def test_forms_that_cannot_be_followed_are_refused_whole(caller, sent, fields, status):
    answer = caller("check").post("/v1/check", files=sent or None, data=fields)
    assert answer.status_code == status, answer.text
    assert answer.json()["status"] == status


def test_unknown_query_parameters_are_refused(caller):
    answer = caller("check").post("/v1/check?asinc=true", files=files(new=drawing(77)))
    assert answer.status_code == 422
    assert "asinc" in answer.json()["detail"]


def test_nobody_and_other_scopes_are_refused(app, caller):
    anonymous = TestClient(app, base_url=BASE).post("/v1/check", files=files(new=drawing(77)))
    assert anonymous.status_code == 401
    assert anonymous.headers["www-authenticate"].startswith("Bearer")
    assert caller("cases:read").post("/v1/check", files=files(new=drawing(77))).status_code == 403


def test_a_file_over_the_cap_is_refused_before_it_is_read_whole(make_desk):
    client = client_of(make_desk(upload_mb=0.25, request_files=100))
    taken = []

    async def body():
        yield b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
        for at in range(64):
            taken.append(at)
            yield bytes(65536)
        yield b"\r\n--b--\r\n"

    async def send():
        headers = {**client.headers, "Content-Type": "multipart/form-data; boundary=b"}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(client.app), base_url=BASE) as sender:
            return await sender.post("/v1/check", content=body(), headers=headers)

    answer = asyncio.run(send())
    assert answer.status_code == 413
    assert answer.json()["type"].endswith("file-too-large")
    assert len(taken) <= 6  # of 64 KiB, where a file may have 256


def test_a_body_that_says_to_be_too_large_is_refused_at_once(make_desk):
    client = client_of(make_desk(upload_mb=0.25, request_files=2))
    headers = {"Content-Type": "multipart/form-data; boundary=b", "Content-Length": str(2**30)}
    answer = client.post("/v1/check", content=b"", headers=headers)
    assert answer.status_code == 413
    assert answer.json()["type"].endswith("body-too-large")


def test_too_many_files_are_refused(make_desk):
    client = client_of(make_desk(request_files=2))
    sent = [("image", (f"{at}.png", b"x")) for at in range(3)]
    assert client.post("/v1/check", files=sent).status_code == 413


def test_a_decompression_bomb_is_not_decoded(make_desk):
    desk = make_desk()
    guard = desk.guard_for("default")
    guard.settings = guard.settings.model_copy(update={"largest_image_px": 1000})
    said = client_of(desk).post("/v1/check", files=files(large=drawing(77))).json()["images"][0]
    assert said["decision"] == "block"
    assert "1000" in said["problem"]["detail"]


def test_a_full_queue_says_when_to_come_again(make_desk):
    client = client_of(make_desk(checks_waiting=1))
    answer = client.post("/v1/check", files=files(new=drawing(77), other=drawing(78)))
    assert answer.status_code == 503
    assert answer.json()["type"].endswith("queue-full")
    assert answer.headers["retry-after"]


def test_an_async_check_is_a_job_whose_answer_is_the_same(make_desk):
    desk = make_desk()
    client = client_of(desk)
    answer = client.post("/v1/check?async=true", files=files(new=drawing(77), fox=drawing(SEEDS["fox"])))
    assert answer.status_code == 202, answer.text
    place = answer.headers["location"]
    assert client.get(place).json()["state"] == "waiting"
    assert desk.workers.work_once()
    job = client.get(place).json()
    assert job["state"] == "done"
    assert [one["decision"] for one in job["answer"]["images"]] == ["accept", "block"]


def test_prefer_header_asks_for_a_job(make_desk):
    client = client_of(make_desk())
    headers = {"Prefer": "wait=10, respond-async"}
    assert client.post("/v1/check", files=files(new=drawing(77)), headers=headers).status_code == 202


def test_a_job_of_another_organisation_is_not_there(make_desk):
    desk = make_desk()
    place = client_of(desk).post("/v1/check?async=true", files=files(new=drawing(77))).headers["location"]
    assert client_of(desk, "check", organisation="another").get(place).status_code == 404


def test_an_async_check_survives_a_restart(make_desk):
    first = make_desk()
    client = client_of(first)
    place = client.post("/v1/check?async=true", files=files(fox=drawing(SEEDS["fox"]))).headers["location"]
    token = client.headers["Authorization"]
    first.close()
    second = make_desk()
    build_app(second, workers=False)
    assert second.workers.work_once()
    again = token_client(build_app(second, workers=False), token.removeprefix("Bearer "))
    assert again.get(place).json()["answer"]["decision"] == "block"


def test_the_same_request_under_a_key_is_done_once(make_desk):
    desk = make_desk()
    client = client_of(desk)
    sent, headers = files(near=near()), {"Idempotency-Key": "one"}
    first = client.post("/v1/check", files=sent, headers=headers)
    rows = desk.memory.counts().rows
    second = client.post("/v1/check", files=sent, headers=headers)
    assert second.json() == first.json()
    assert second.headers["idempotent-replayed"] == "true"
    assert desk.memory.counts().rows == rows


def test_another_request_under_the_same_key_is_refused(make_desk):
    client = client_of(make_desk())
    headers = {"Idempotency-Key": "one"}
    client.post("/v1/check", files=files(new=drawing(77)), headers=headers)
    answer = client.post("/v1/check", files=files(new=drawing(78)), headers=headers)
    assert answer.status_code == 422
    assert answer.json()["type"].endswith("idempotency-key-used")


def test_a_key_whose_request_is_running_is_a_conflict(make_desk):
    desk = make_desk()
    client = client_of(desk)
    guard = desk.guard_for("default")
    judge, reached, go_on = guard.judge, threading.Event(), threading.Event()

    def slow(*given):
        reached.set()
        assert go_on.wait(10)
        return judge(*given)

    guard.judge = slow
    sent, headers = files(new=drawing(77)), {"Idempotency-Key": "one"}
    answers = []
    first = threading.Thread(target=lambda: answers.append(client.post("/v1/check", files=sent, headers=headers)))
    first.start()
    assert reached.wait(10)
    second = client_again(client).post("/v1/check", files=sent, headers=headers)
    go_on.set()
    first.join()
    assert second.status_code == 409
    assert answers[0].status_code == 200


def test_a_request_that_failed_may_be_made_again_under_its_key(make_desk, monkeypatch):
    desk = make_desk()
    client = client_of(desk)
    put, headers = desk.checks.put, {"Idempotency-Key": "one"}

    def full(*_):
        raise Problem(503, "full")

    monkeypatch.setattr(desk.checks, "put", full)
    assert client.post("/v1/check", files=files(new=drawing(77)), headers=headers).status_code == 503
    monkeypatch.setattr(desk.checks, "put", put)
    assert client.post("/v1/check", files=files(new=drawing(77)), headers=headers).status_code == 200


def test_many_requests_at_once_are_judged_together(make_desk):
    desk = make_desk()
    client = client_of(desk)
    guard = desk.guard_for("default")
    judge, sizes, started = guard.judge, [], threading.Event()

    def counted(batch, *rest):
        sizes.append(len(batch))
        if not started.is_set():
            started.wait(5)
        return judge(batch, *rest)

    guard.judge = counted
    waiting = [desk.checks.put("default", [to_check(at)]) for at in range(9)]
    started.set()
    decided = [one.result(timeout=30)[0].decision for one in waiting]
    assert all(one == "accept" for one in decided)
    assert sizes[0] <= 9
    assert max(sizes) > 1
    assert client.post("/v1/check", files=files(new=drawing(77))).status_code == 200


def to_check(at):
    from guardrail.desk.web.batching import ToCheck

    return ToCheck(f"{at}", lambda: png(drawing(200 + at)))


def test_a_verdict_is_found_by_its_id_and_by_its_organisation_alone(make_desk):
    desk = make_desk()
    mine = client_of(desk, "check", "verdicts:read")
    verdict = mine.post("/v1/check", files=files(near=near())).json()["images"][0]["verdict"]
    found = mine.get(f"/v1/verdicts/{verdict['verdict_id']}")
    assert found.status_code == 200, found.text
    assert found.json() == verdict
    other = client_of(desk, "verdicts:read", organisation="another")
    assert other.get(f"/v1/verdicts/{verdict['verdict_id']}").status_code == 404
