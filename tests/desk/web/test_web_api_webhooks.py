"""Webhooks: signed, retried, given up after a day, never sent to private addresses."""

import hashlib
import hmac
import json
import random
import socket
import sqlite3
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from api_samples import SEEDS, client_of, drawing, files, near

from guardrail.desk.web import delivering
from guardrail.desk.web.delivering import deliver, signature_of
from guardrail.memory import AuditFilter, DueDelivery

PUBLIC = "https://hooks.example.org/in"


@pytest.fixture
def receiver():
    """A server on this machine; `.answers` are the statuses it gives, `.got` what came: (headers, body)."""

    class Taker(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            server.got.append((dict(self.headers), body, self.path))
            status = server.answers.pop(0) if server.answers else 204
            self.send_response(status)
            if status == 302:
                self.send_header("Location", f"http://127.0.0.1:{server.server_port}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Taker)
    server.got, server.answers = [], []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    server.url = f"http://127.0.0.1:{server.server_port}/in"
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def private_desk(make_desk):
    return make_desk(webhook_private=True)


def made(desk, receiver, *events, organisation="default"):
    client = client_of(desk, "webhooks:write", organisation=organisation)
    answer = client.post("/v1/webhooks", json={"url": receiver.url, "events": list(events or ("case.decided",))})
    assert answer.status_code == 201, answer.text
    return client, answer.json()


def test_an_event_arrives_signed_with_the_secret_that_was_shown_once(private_desk, receiver):
    client, hook = made(private_desk, receiver)
    private_desk.memory.webhooks.tell("default", "case.decided", {"case_id": 12})
    assert private_desk.workers.deliver_once()
    headers, body, _ = receiver.got[0]
    at, signed = (part.split("=", 1)[1] for part in headers["Guardrail-Signature"].split(","))
    assert signed == hmac.new(hook["secret"].encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    assert abs(int(at) - datetime.now(UTC).timestamp()) < 60
    said = json.loads(body)
    assert (said["event"], said["about"], headers["Guardrail-Event"]) == (
        "case.decided",
        {"case_id": 12},
        "case.decided",
    )
    assert hook["secret"] not in client.get("/v1/webhooks").text


def test_only_events_that_are_wanted_and_of_the_organisation_are_told(private_desk, receiver):
    made(private_desk, receiver, "case.released")
    tell = private_desk.memory.webhooks.tell
    assert tell("default", "case.decided", {}) == 0
    assert tell("another", "case.released", {}) == 0
    assert tell("default", "case.released", {}) == 1


def test_verdicts_are_told_but_those_that_accept(private_desk, receiver):
    made(private_desk, receiver, "verdict.flagged", "verdict.blocked")
    said = client_of(private_desk).post(
        "/v1/check", files=files(new=drawing(77), near=near(), fox=drawing(SEEDS["fox"]))
    )
    assert private_desk.workers.deliver_once()
    told = {json.loads(body)["event"]: json.loads(body)["about"]["verdict_id"] for _, body, _ in receiver.got}
    ids = [one["verdict"]["verdict_id"] for one in said.json()["images"]]
    assert told == {"verdict.flagged": ids[1], "verdict.blocked": ids[2]}


def test_a_delivery_that_failed_goes_out_again_with_growing_pauses_and_is_given_up_after_a_day(private_desk, receiver):
    client, hook = made(private_desk, receiver)
    hooks = private_desk.memory.webhooks
    start = datetime.now(UTC)
    now = [start]
    hooks._clock, hooks._jitter = lambda: now[0], lambda: 0.0
    hooks.tell("default", "case.decided", {})
    receiver.answers += [500] * 100
    pauses = []
    for _ in range(40):
        now[0] += timedelta(seconds=1)
        assert private_desk.workers.deliver_once()
        row = hooks.deliveries(client.actor, hook["webhook_id"])[0]
        if row.state == "given_up":
            break
        due = datetime.fromisoformat(row.due_at)
        pauses.append((due - now[0]).total_seconds())
        now[0] = due
    assert row.state == "given_up"
    assert pauses[:4] == [10, 30, 90, 270]
    assert pauses == sorted(pauses)
    assert timedelta(hours=19) < now[0] - start <= timedelta(hours=24)
    assert not private_desk.workers.deliver_once()
    assert client.get(f"/v1/webhooks/{hook['webhook_id']}/deliveries").json()["deliveries"][0]["last_status"] == 500


def test_pauses_are_spread_by_a_fifth_either_way(private_desk, receiver):
    client, hook = made(private_desk, receiver)
    hooks = private_desk.memory.webhooks
    now = datetime.now(UTC) + timedelta(seconds=1)
    hooks._clock = lambda: now
    spread = random.Random(1)
    hooks._jitter = lambda: spread.uniform(-1, 1)
    for _ in range(20):
        hooks.tell("default", "case.decided", {})
    receiver.answers += [500] * 20
    while private_desk.workers.deliver_once():
        pass
    rows = hooks.deliveries(client.actor, hook["webhook_id"])
    pauses = [(datetime.fromisoformat(row.due_at) - now).total_seconds() for row in rows]
    assert 8 <= min(pauses) < 9.5
    assert 10.5 < max(pauses) <= 12


def test_a_delivery_whose_process_was_killed_goes_out_again(private_desk, receiver):
    _, hook = made(private_desk, receiver)
    hooks = private_desk.memory.webhooks
    hooks.tell("default", "case.decided", {})
    assert hooks.take(hook["webhook_id"]) is not None  # and then the process is gone
    assert hooks.take(hook["webhook_id"]) is None
    assert hooks.due() == ()
    hooks._clock = lambda: datetime.now(UTC) + timedelta(seconds=61)
    assert [one.webhook_id for one in hooks.due()] == [hook["webhook_id"]]
    assert hooks.take(hook["webhook_id"]).attempts == 2


def test_redirections_are_not_followed(private_desk, receiver):
    client, hook = made(private_desk, receiver)
    private_desk.memory.webhooks.tell("default", "case.decided", {})
    receiver.answers.append(302)
    private_desk.workers.deliver_once()
    assert [path for _, _, path in receiver.got] == ["/in"]
    row = private_desk.memory.webhooks.deliveries(client.actor, hook["webhook_id"])[0]
    assert (row.state, row.last_status) == ("waiting", 302)


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.org/",
        "https://127.0.0.1/",
        "https://localhost:9/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://10.1.2.3/",
        "https://user:word@hooks.example.org/",
        "https://hooks.example.org:99999/",
        "ftp://hooks.example.org/",
        "https://hooks.example.org/#part",
        "https:///nowhere",
    ],
)
def test_addresses_that_are_not_public_are_refused(make_desk, url):
    client = client_of(make_desk(), "webhooks:write")
    answer = client.post("/v1/webhooks", json={"url": url, "events": ["case.decided"]})
    assert answer.status_code == 422
    assert client.get("/v1/webhooks").json() == {"webhooks": []}


def due(url=PUBLIC):
    return DueDelivery("d" * 32, url, "whsec_x", "case.decided", b"{}", 1)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.7", "169.254.169.254", "192.168.1.1", "::1", "fd00::1", "64:ff9b::a00:1"]
)
def test_a_name_that_stands_for_a_private_address_is_refused_when_it_is_sent(monkeypatch, address):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(2, 1, 6, "", (address, 443))])
    sent = deliver(due(), private=False)
    assert sent.status is None
    assert "private address" in sent.error


def test_one_private_address_among_public_ones_is_enough_to_refuse(monkeypatch):
    both = [(2, 1, 6, "", ("93.184.215.14", 443)), (2, 1, 6, "", ("10.0.0.1", 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    assert "private address 10.0.0.1" in deliver(due(), private=False).error


def test_the_address_that_was_checked_is_the_one_that_is_asked(monkeypatch, receiver):
    """A name that leads elsewhere when it is looked up again gets nothing: it is looked up once."""
    looks = []

    def look_up(host, port, *_, **__):
        looks.append(host)
        return [(2, 1, 6, "", ("127.0.0.1", port))]

    real = socket.getaddrinfo
    monkeypatch.setattr(
        delivering.socket,
        "getaddrinfo",
        lambda host, *rest, **named: (look_up if host == "hooks.test" else real)(host, *rest, **named),
    )
    sent = deliver(due(receiver.url.replace("127.0.0.1", "hooks.test")), private=True)
    assert sent.status == 204
    assert looks == ["hooks.test"]
    assert receiver.got[0][0]["Host"].startswith("hooks.test:")


def test_an_address_that_nobody_answers_is_an_error_that_is_told():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    sent = deliver(due(f"http://127.0.0.1:{port}/"), private=True)
    assert sent.status is None
    assert "ConnectError" in sent.error


def test_a_signature_depends_on_time_body_and_secret():
    whole = signature_of("a", b"body", 1)
    assert whole == signature_of("a", b"body", 1)
    assert (
        len({whole, signature_of("b", b"body", 1), signature_of("a", b"bodY", 1), signature_of("a", b"body", 2)}) == 4
    )


def test_a_removed_webhook_is_told_nothing_any_more(private_desk, receiver):
    client, hook = made(private_desk, receiver)
    private_desk.memory.webhooks.tell("default", "case.decided", {})
    assert client.delete(f"/v1/webhooks/{hook['webhook_id']}").status_code == 204
    assert not private_desk.workers.deliver_once()
    assert client.delete(f"/v1/webhooks/{hook['webhook_id']}").status_code == 404


def test_webhooks_of_another_organisation_are_not_there(private_desk, receiver):
    _, hook = made(private_desk, receiver)
    other = client_of(private_desk, "webhooks:write", organisation="another")
    assert other.get("/v1/webhooks").json() == {"webhooks": []}
    assert other.get(f"/v1/webhooks/{hook['webhook_id']}/deliveries").status_code == 404
    assert other.delete(f"/v1/webhooks/{hook['webhook_id']}").status_code == 404


def test_deliveries_are_paged_without_a_gap(private_desk, receiver):
    client, hook = made(private_desk, receiver)
    for number in range(5):
        private_desk.memory.webhooks.tell("default", "case.decided", {"case_id": number})
    place, seen, after = f"/v1/webhooks/{hook['webhook_id']}/deliveries", [], ""
    for _ in range(3):
        page = client.get(place, params={"limit": 2, "after": after}).json()
        seen += [one["delivery_id"] for one in page["deliveries"]]
        after = page["next"]
    assert len(seen) == len(set(seen)) == 5
    assert after == ""


def test_a_secret_is_not_in_the_audit(private_desk, receiver):
    _, hook = made(private_desk, receiver)
    client = client_of(private_desk, "webhooks:write")
    text = repr(private_desk.memory.audit.page(client.actor, AuditFilter()))
    assert hook["webhook_id"] in text
    assert hook["secret"] not in text


@pytest.mark.parametrize("removed", [False, True])
def test_a_secret_is_not_told_again_under_the_same_key_nor_kept_with_the_answer(private_desk, receiver, removed):
    client = client_of(private_desk, "webhooks:write")
    asked = {"url": receiver.url, "events": ["case.decided"]}
    first = client.post("/v1/webhooks", json=asked, headers={"Idempotency-Key": "k1"})
    secret = first.json()["secret"]
    assert secret.startswith("whsec_")
    if removed:
        client.delete(f"/v1/webhooks/{first.json()['webhook_id']}")
    again = client.post("/v1/webhooks", json=asked, headers={"Idempotency-Key": "k1"})
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (201, "true")
    assert again.json() == {name: said for name, said in first.json().items() if name != "secret"}
    assert len(client.get("/v1/webhooks").json()["webhooks"]) == (0 if removed else 1)
    (kept,) = answers_kept(private_desk)
    assert secret.encode() not in kept
    assert first.json()["webhook_id"].encode() in kept


def answers_kept(desk):
    """What lies in the table of answers by key."""
    with sqlite3.connect(desk.settings.memory_url.removeprefix("sqlite:///")) as database:
        return [answer for (answer,) in database.execute("SELECT answer FROM idempotency")]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"url": PUBLIC, "events": []}, "found a field that cannot be followed"),
        ({"url": 7, "events": []}, "found 2 fields that cannot be followed"),
    ],
)
def test_the_number_of_wrong_fields_is_told_in_words_that_fit(desk, asked, found):
    said = client_of(desk, "webhooks:write").post("/v1/webhooks", json=asked).json()
    assert said["detail"].startswith(found)
