"""Receivers that drip, never end or never answer: each has its ten seconds, and keeps nobody else waiting."""

import socket
import threading
import time
from contextlib import ExitStack

import pytest
from api_samples import client_of

from guardrail.desk.web import delivering, sending
from guardrail.desk.web.delivering import Sent, deliver
from guardrail.desk.web.sending import Sending
from guardrail.memory import DueDelivery

PATIENCE_S = 5.0  # of a test, for what takes no time
ENOUGH_BYTES = 2**23  # more than any socket holds between two processes


def due(url):
    return DueDelivery("d" * 32, url, "whsec_x", "case.decided", b"{}", 1)


@pytest.fixture
def raw_receiver():
    """Make a server that answers as a function wants, called with each connection once its request is there."""
    with ExitStack() as undone:

        def make(answer):
            listener = undone.enter_context(socket.create_server(("127.0.0.1", 0)))

            def serve():
                try:
                    connection, _ = listener.accept()
                    with connection:
                        while not connection.recv(65536).endswith(b"{}"):
                            pass
                        answer(connection)
                except OSError:  # the other side left
                    return

            thread = threading.Thread(target=serve)
            thread.start()
            undone.callback(thread.join, PATIENCE_S)
            return f"http://127.0.0.1:{listener.getsockname()[1]}/in"

        yield make


def test_a_receiver_that_drips_its_answer_is_left_at_the_deadline(monkeypatch, raw_receiver):
    monkeypatch.setattr(delivering, "_DEADLINE_S", 0.5)
    dripped = []

    def drip(connection):
        for sign in b"HTTP/1.1 200 OK\r\nX-Filler: " + b"a" * 60:
            connection.sendall(bytes([sign]))
            dripped.append(sign)
            time.sleep(0.05)  # every byte comes soon, the whole never

    started = time.monotonic()
    sent = deliver(due(raw_receiver(drip)), private=True)
    assert sent == Sent(None, "found no answer within 0.5 s, expected its status")
    assert time.monotonic() - started < PATIENCE_S
    assert len(dripped) > 2


def test_a_body_without_end_is_not_read(raw_receiver):
    given = []

    def pour(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while sum(given) < ENOUGH_BYTES:
            given.append(connection.send(b"10000\r\n" + b"a" * 65536 + b"\r\n"))

    assert deliver(due(raw_receiver(pour)), private=True) == Sent(200)
    assert sum(given) < ENOUGH_BYTES


def test_a_head_without_end_is_an_error_before_the_deadline(raw_receiver):
    def pour(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        for _ in range(1000):
            connection.sendall(b"X-Filler: " + b"a" * 1000 + b"\r\n")

    sent = deliver(due(raw_receiver(pour)), private=True)
    assert sent.status is None
    assert "RemoteProtocolError" in sent.error


def test_a_name_that_nobody_looks_up_is_left_at_the_deadline(monkeypatch):
    monkeypatch.setattr(delivering, "_DEADLINE_S", 0.2)
    answered = threading.Event()
    monkeypatch.setattr(delivering.socket, "getaddrinfo", lambda *_, **__: answered.wait(PATIENCE_S) and [])
    assert "no answer within" in deliver(due("https://hooks.example.org/"), private=False).error
    answered.set()


@pytest.fixture
def stalled(monkeypatch):
    """Deliveries that end when `.let_go` is set; `.under_way` are their addresses, in the order they began."""

    class Stalled:
        def __init__(self):
            self.under_way, self.let_go = [], threading.Event()

        def __call__(self, due, *, private):
            self.under_way.append(due.url)
            assert self.let_go.wait(PATIENCE_S)
            return Sent(204)

    made = Stalled()
    monkeypatch.setattr(sending, "deliver", made)
    yield made
    made.let_go.set()


@pytest.fixture
def freed():
    return threading.Event()


@pytest.fixture
def under_test(desk, stalled, freed):
    """What sends the deliveries of a desk; the desk's own workers do not run."""
    made = Sending(desk, freed.set)
    yield made
    stalled.let_go.set()
    made.close()


def hooks(desk, organisation, *names):
    """Webhooks of an organisation, each with two events that wait."""
    actor = client_of(desk, "webhooks:write", organisation=organisation).actor
    for name in names:
        desk.memory.webhooks.add(actor, f"https://{name}.example.org/", ["case.decided"])
    for _ in range(2):
        desk.memory.webhooks.tell(organisation, "case.decided", {})


def begun(under_test, stalled, count):
    """What is under way once so many deliveries began."""
    under_test.begin()
    for _ in range(500):
        if len(stalled.under_way) >= count:
            break
        time.sleep(0.01)
    return sorted(url.removeprefix("https://").partition(".")[0] for url in stalled.under_way)


def test_one_thing_at_a_time_goes_to_one_webhook(desk, under_test, stalled):
    hooks(desk, "default", "one")
    assert begun(under_test, stalled, 1) == ["one"]
    assert not under_test.begin()


def test_an_organisation_never_takes_all_places(desk, under_test, stalled):
    hooks(desk, "default", "a", "b", "c", "d", "e")
    assert len(begun(under_test, stalled, 2)) == 2
    hooks(desk, "another", "x", "y", "z")
    found = begun(under_test, stalled, 4)
    assert len(found) == 4
    assert sum(name in "xyz" for name in found) == 2
    assert not under_test.begin()


def test_who_was_served_longest_ago_is_next(desk, under_test, stalled, freed):
    """A webhook with a backlog that is older does not come before others of its organisation again and again."""
    hooks(desk, "default", "a", "b")
    assert begun(under_test, stalled, 2) == ["a", "b"]
    hooks(desk, "default", "c")
    stalled.let_go.set()
    under_test.wait()
    assert freed.is_set()
    stalled.let_go.clear()
    assert "c" in begun(under_test, stalled, 4)


def test_a_delivery_that_cannot_be_settled_frees_its_place_and_goes_out_again(
    desk, under_test, stalled, freed, monkeypatch, caplog
):
    hooks(desk, "default", "one")

    def broken(*_):
        raise OSError("the disk is gone")

    with monkeypatch.context() as without:
        without.setattr(desk.memory.webhooks, "settle", broken)
        assert begun(under_test, stalled, 1) == ["one"]
        stalled.let_go.set()
        under_test.wait()
    assert freed.is_set()
    assert "could not be settled" in caplog.text
    assert desk.memory.webhooks.waiting() == {("default", "waiting"): 2}
    assert under_test.begin()
