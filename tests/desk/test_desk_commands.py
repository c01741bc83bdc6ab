"""`guardrail desk` and `guardrail serve`: where they listen, what they say first, and how they stop."""

import json
import os
import signal
import subprocess
import sys
import time

import httpx
import pytest
from PIL import Image

from guardrail.desk import desk_commands
from guardrail.desk.making import build_folder_index
from guardrail.errors import IndexMissing, SettingsInvalid
from guardrail.index import Recipe
from guardrail.settings import Settings


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    home = tmp_path_factory.mktemp("desk-command")
    (home / "works").mkdir()
    Image.linear_gradient("L").save(home / "works" / "gradient.png")
    build_folder_index(home / "works", home / "index", Settings(home=home, device="cpu"), Recipe())
    return home / "index"


def started(index, home, command):
    said = {"GUARDRAIL_HOME": str(home), "GUARDRAIL_DEVICE": "cpu", "GUARDRAIL_INDEX": str(index)}
    arguments = [sys.executable, "-m", "guardrail", command, "--port", "0", "--json"]
    child = subprocess.Popen(
        arguments, cwd=home, env={**os.environ, **said}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    text = b""
    while not text.endswith(b"\n}\n"):
        line = child.stdout.readline()
        assert line, child.stderr.read().decode()
        text += line
    return child, json.loads(text)


def ready(address, within_s=60):
    """What /readyz says once it says that it is ready; before, it says that the index is being opened."""
    until = time.monotonic() + within_s
    while (said := httpx.get(f"{address}/readyz", timeout=30)).status_code != 200:
        assert said.json()["checks"]["index"] == "is being opened"
        assert time.monotonic() < until
        time.sleep(0.05)
    return said.json()


def stopped(child, how):
    child.send_signal(how)
    child.communicate(timeout=60)
    return child.returncode


@pytest.mark.slow
def test_the_desk_serves_until_it_is_stopped_and_tells_its_first_link_once(index, tmp_path):
    child, said = started(index, tmp_path, "desk")
    try:
        address = said["address"]
        assert httpx.get(f"{address}/livez", timeout=30).json() == {"status": "ok"}
        assert ready(address)["status"] == "ok"
        assert httpx.get(f"{address}/queue", headers={"Accept": "text/html"}, timeout=30).status_code == 303
        assert httpx.get(said["first_links"]["default"], timeout=30).status_code == 200
    finally:
        code = stopped(child, signal.SIGTERM)
    assert code == 0
    child, again = started(index, tmp_path, "serve")
    try:
        assert again["first_links"] == {}
        assert httpx.get(f"{again['address']}/queue", timeout=30).status_code == 404
        assert httpx.get(f"{again['api']}/cases", timeout=30).status_code == 401
    finally:
        code = stopped(child, signal.SIGINT)
    assert code == 0


@pytest.mark.slow
def test_a_desk_whose_index_cannot_be_opened_says_so_and_ends(index, tmp_path):
    said = {"GUARDRAIL_HOME": str(tmp_path), "GUARDRAIL_DEVICE": "cpu", "GUARDRAIL_INDEX": str(tmp_path / "none")}
    arguments = [sys.executable, "-m", "guardrail", "serve", "--port", "0"]
    ended = subprocess.run(arguments, cwd=tmp_path, env={**os.environ, **said}, capture_output=True, timeout=60)
    assert ended.returncode == 1
    assert "none" in ended.stderr.decode()


def test_a_desk_without_its_index_gives_no_link_away(tmp_path, capfd):
    with pytest.raises(IndexMissing):
        desk_commands.desk(index=str(tmp_path / "none"), host="", port=0, settings_file=None)
    assert "link" not in "".join(capfd.readouterr())


def test_an_address_that_others_reach_needs_a_public_url(tmp_path):
    with pytest.raises(SettingsInvalid, match="public_url"):
        desk_commands.desk(index=str(tmp_path), host="0.0.0.0", port=0, settings_file=None)


def test_a_port_that_is_taken_is_told(tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SettingsInvalid, match="where nobody can listen"):
            desk_commands.serve(index=str(tmp_path), host="", port=taken.getsockname()[1], settings_file=None)


def test_without_an_index_the_message_says_how_to_give_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GUARDRAIL_HOME", str(tmp_path))
    with pytest.raises(SettingsInvalid) as found:
        desk_commands.desk(index="", host="", port=0, settings_file=None)
    assert "--index DIR" in str(found.value)
    assert "guardrail index build" in str(found.value)
    assert "organisations" not in str(found.value)


def test_an_organisation_that_was_named_and_has_no_index_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GUARDRAIL_HOME", str(tmp_path))
    (tmp_path / "guardrail.toml").write_text('[desk.organisations.ours]\ntitle = "Ours"\n', encoding="utf-8")
    with pytest.raises(SettingsInvalid, match=r"desk\.organisations\.ours"):
        desk_commands.desk(index="", host="", port=0, settings_file=None)
