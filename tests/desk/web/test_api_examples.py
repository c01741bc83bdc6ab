"""The examples of docs/api.md do what the page says: curl runs them, in order, against a desk that is really served."""

import json
import re
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
import uvicorn

from guardrail.desk.web.app import build_app
from tests.desk.web.conftest import drawing, near

PAGE = Path(__file__).parents[3] / "docs" / "api.md"
BLOCK = re.compile(r"^```(bash|json)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
STATUS = re.compile(r"  # (\d{3})$")
SCOPES = ("check", "verdicts:read", "works:write", "cases:read", "cases:decide", "webhooks:write")
SECONDS = 30  # for a job, and for curl

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")


def examples():
    """The commands with curl of the page, in order: (command, status it says, document shown below it or None)."""
    found = []
    for language, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if language == "json":
            found[-1] = (*found[-1][:2], json.loads(text))
            continue
        for command in re.sub(r"\\\n\s*", "", text).splitlines():
            if "curl " in command:
                says = STATUS.search(command)
                assert says, f"docs/api.md does not say how this is answered, as in '  # 200': {command}"
                found.append((command, says.group(1), None))
    return found


def differs(shown, came, where="answer"):
    """Where what came is not what the page shows; "..." stands for any text, {} and [] for what is left out."""
    if isinstance(shown, dict) and isinstance(came, dict):
        if shown and set(shown) != set(came):
            return [
                f"{where}: the page shows {sorted(set(shown) - set(came))}, there are {sorted(set(came) - set(shown))}"
            ]
        return [one for name in shown for one in differs(shown[name], came[name], f"{where}.{name}")]
    if isinstance(shown, list) and isinstance(came, list):
        if shown and len(shown) != len(came):
            return [f"{where}: the page shows {len(shown)}, there are {len(came)}"]
        pairs = zip(shown, came, strict=False)
        return [wrong for at, (one, other) in enumerate(pairs) for wrong in differs(one, other, f"{where}[{at}]")]
    if isinstance(shown, str) and isinstance(came, str):
        pattern = ".+".join(map(re.escape, shown.split("...")))
        return [] if re.fullmatch(pattern, came) else [f"{where}: the page shows {shown!r}, there is {came!r}"]
    alike = type(shown) is type(came) if not isinstance(shown, float | int) else isinstance(came, float | int)
    return [] if alike else [f"{where}: the page shows {shown!r}, there is {came!r}"]


@pytest.fixture
def served(desk):
    """The desk on a port of loopback, with its workers."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(build_app(desk), log_level="error", lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + SECONDS
    while not server.started:
        assert thread.is_alive() and time.monotonic() < deadline, "the desk does not start"
        time.sleep(0.02)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join(SECONDS)
    listening.close()


class Shell:
    """Runs commands as whoever follows the page does: what an answer named is in the variables that the page uses."""

    def __init__(self, desk, actor, folder, **variables):
        self.desk, self.actor, self.folder, self.variables = desk, actor, folder, variables
        (folder / ".curlrc").write_text('write-out = "%{stderr}%{http_code}"\nnoproxy = "*"\n')

    def run(self, command):
        """The status and the body that a command was answered with."""
        env = {"PATH": "/usr/bin:/bin", "CURL_HOME": str(self.folder), **self.variables}
        asked = ["bash", "-euo", "pipefail", "-c", command]
        done = subprocess.run(asked, cwd=self.folder, env=env, capture_output=True, text=True, timeout=SECONDS)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        self._learn(done.stdout)
        self._wait()
        return done.stderr[-3:], done.stdout

    def _learn(self, said):
        if job := re.search(r"/v1/jobs/([0-9a-f]{32})", said):
            self.variables["JOB"] = job.group(1)
        for name, path in (("CASE", "case_id"), ("DECISION", "decision_id"), ("VERDICT", "verdict_id")):
            if known := re.search(rf'"{path}":"?([0-9a-f]+)', said):
                self.variables[name] = known.group(1)
        if hook := re.search(r'"webhook_id":"([0-9a-f]{32})"', said):
            self.variables["WEBHOOK"] = hook.group(1)

    def _wait(self):
        """Until no job waits: the page says to ask again."""
        deadline = time.monotonic() + SECONDS
        while self.desk.memory.jobs.waiting():
            assert time.monotonic() < deadline, "a job does not end"
            time.sleep(0.02)


def test_examples_of_the_api_are_answered_as_the_page_says(desk, served, tmp_path):
    drawing(77).save(tmp_path / "one.png")
    near("fox").save(tmp_path / "two.jpg", quality=95)
    drawing(88).save(tmp_path / "fox.png")
    admin = desk.memory.accounts.open_account("default", "admin@example.org", "Ada", "admin").actor
    token = desk.memory.accounts.tokens.make(admin, "for the page", SCOPES, 30)
    shell = Shell(desk, admin, tmp_path, API=f"{served}/v1", TOKEN=token)
    wrong, asked = [], examples()
    for command, status, shown in asked:
        came, body = shell.run(command)
        if came != status:
            wrong.append(f"{command}\n  is answered with {came}: {body[:400]}")
        elif shown is not None:
            wrong += [f"{command}\n  {one}" for one in differs(shown, json.loads(body))]
    assert not wrong, "\n".join(wrong)
    assert len(asked) >= 15 and sum(shown is not None for *_, shown in asked) >= 8


def test_a_document_that_lacks_a_shown_key_is_noticed():
    assert differs({"a": 1, "b": {}}, {"a": 2}) == ["answer: the page shows ['b'], there are []"]
    assert differs({"a": [{"b": "x..."}]}, {"a": [{"b": "y1"}]}) == [
        "answer.a[0].b: the page shows 'x...', there is 'y1'"
    ]
    assert differs({"a": None, "b": {}, "c": "x..."}, {"a": None, "b": {"any": 1}, "c": "x1"}) == []
