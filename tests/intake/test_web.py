"""Fetching from addresses: what is refused before anything is sent, and what is given up."""

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from guardrail.errors import ImageUnreadable
from guardrail.intake.sources import web
from guardrail.intake.sources.web import WebLimits, fetch

OPEN = WebLimits(whole_s=2, silence_s=1, largest_bytes=1000, private=True)


class Answers(BaseHTTPRequestHandler):
    """What a server of pictures may do."""

    asked: ClassVar[list[str]] = []

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.asked.append(self.path)
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
        elif self.path == "/busy-once" and self.asked.count(self.path) == 1:
            self.send_error(503)
        elif self.path == "/gone":
            self.send_error(404)
        else:
            size = {"/large": 5000, "/cut": 50}.get(self.path, 10)
            self.send_response(200)
            if self.path != "/slow":
                self.send_header("Content-Length", str(size + (20 if self.path == "/cut" else 0)))
            self.end_headers()
            for _ in range(30 if self.path == "/slow" else 1):
                self.wfile.write(b"x" * size)
                self.wfile.flush()
                time.sleep(0.1 if self.path == "/slow" else 0)


@pytest.fixture(scope="module")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as served:
        served.daemon_threads = True
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    monkeypatch.setattr(web, "_PAUSE_S", 0)
    Answers.asked.clear()


def refusal(url, limits=OPEN):
    with pytest.raises(ImageUnreadable) as raised:
        fetch(url, limits)
    return str(raised.value.args[1])


def test_bytes_are_fetched_and_redirections_followed(server):
    assert fetch(f"{server}/a.png", OPEN) == b"x" * 10
    assert fetch(f"{server}/to//to//a.png", OPEN) == b"x" * 10
    assert "redirections" in refusal(f"{server}/to//to//to//to//a.png")


def test_private_address_is_refused_before_anything_is_sent(server):
    assert "private" in refusal(f"{server}/a.png", WebLimits())
    assert Answers.asked == []


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "fe80::1%eth0",
        "fd00::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
    ],
)
def test_every_form_of_a_private_address_is_refused(monkeypatch, address):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, 1, 6, "", (address, 80))])
    monkeypatch.setattr(socket, "socket", None)
    assert "private" in refusal("http://pictures.example/a.png", WebLimits())


def test_public_name_that_redirects_to_a_private_address_is_refused(server, monkeypatch):
    looked_up = socket.getaddrinfo
    port = int(server.rpartition(":")[2])

    def first_is_public(host, *given, **named):
        return looked_up("127.0.0.1" if host == "pictures.example" else host, *given, **named)

    checked = []

    def require(host, address, limits):
        checked.append(host)
        if host != "pictures.example":
            real(host, address, limits)

    real = web._require_public
    monkeypatch.setattr(socket, "getaddrinfo", first_is_public)
    monkeypatch.setattr(web, "_require_public", require)
    assert "private" in refusal(f"http://pictures.example:{port}/to/{server}/a.png", WebLimits())
    assert checked == ["pictures.example", "127.0.0.1"]
    assert Answers.asked == [f"/to/{server}/a.png"]


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/hostname",
        "ftp://a.example/x",
        "/etc/hostname",
        "http://",
        "http://me:secret@a.example/x",
        "http://a/ b",
    ],
)
def test_what_is_no_plain_web_address_is_refused(url):
    assert any(word in refusal(url) for word in ("not an http", "user or password", "escaped"))


def test_too_much_too_slow_or_cut_is_given_up(server):
    assert "more than 1000 bytes" in refusal(f"{server}/large")
    assert "not all of it within" in refusal(f"{server}/slow")
    assert "status 404" in refusal(f"{server}/gone")
    assert "fewer" in refusal(f"{server}/cut") or "IncompleteRead" in refusal(f"{server}/cut")


def test_busy_server_is_asked_again(server):
    assert fetch(f"{server}/busy-once", OPEN) == b"x" * 10
    assert Answers.asked == ["/busy-once"] * 2


def test_silent_server_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x"
        limits = WebLimits(whole_s=1, silence_s=0.2, private=True)
        assert "no answer within" in refusal(url, limits)
