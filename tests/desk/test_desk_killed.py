"""`guardrail serve`, killed while many decide: each decision is wholly there or not at all, and none is doubled."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from datetime import UTC, datetime
from queue import Empty, SimpleQueue

import httpx
import pytest
from PIL import Image
from sqlalchemy import select

from guardrail.desk.making import build_folder_index
from guardrail.index import Recipe
from guardrail.memory import Held, Memory
from guardrail.memory.review_tables import Job, StoredDecision
from guardrail.memory.tables import Case
from guardrail.records import Decision, Verdict
from guardrail.settings import Settings
from guardrail.testing import FakePlugin

pytestmark = pytest.mark.slow

CASES = 90
DECIDING = 8  # clients at a time
KILLED_AFTER = (7, 23)  # decisions that clients were told of, in each life of the desk
DECIDED = {"outcome": "withhold", "reasons": ["expression_copied"]}
RELEASED = {"outcome": "release"}


@pytest.fixture
def home(tmp_path):
    (tmp_path / "works").mkdir()
    Image.linear_gradient("L").save(tmp_path / "works" / "gradient.png")
    settings, recipe = Settings(home=tmp_path, device="cpu"), Recipe(embedder="fake")
    build_folder_index(tmp_path / "works", tmp_path / "index", settings, recipe, extra_plugins=[FakePlugin()])
    named = tmp_path / "plugins" / "fake_embedder-1.dist-info"  # installed for the desk, which then needs no model
    named.mkdir(parents=True)
    (named / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-embedder\nVersion: 1\n")
    (named / "entry_points.txt").write_text("[guardrail]\nfake = fake_embedder:plugin\n")
    (named.parent / "fake_embedder.py").write_text(
        "from guardrail.testing import FakePlugin\n\nplugin = FakePlugin()\n"
    )
    return tmp_path


def environment(home):
    said = {"GUARDRAIL_HOME": str(home), "GUARDRAIL_DEVICE": "cpu", "GUARDRAIL_INDEX": str(home / "index")}
    return {**os.environ, **said, "GUARDRAIL_DESK__SECOND_REVIEW_SHARE": "0", "PYTHONPATH": str(home / "plugins")}


def opened(home):
    settings = Settings(home=home, device="cpu")
    return Memory(settings.memory_url, pictures=settings.pictures_place)


def filled(home):
    """Cases that wait, and a token to decide them with."""
    memory = opened(home)
    said = {"image": "a.png", "rule": "r", "explanation": "e", "calibration": "uncalibrated", "nearest": ()}
    said |= {"index_snapshot": "b" * 64, "policy_sha256": "c" * 64, "evidence": (), "at": datetime.now(UTC)}
    verdicts = [Verdict(decision=Decision.FLAG, pixels_sha256=f"{at:064x}", **said) for at in range(CASES)]
    memory.record_verdicts([Held(one, b"a picture") for one in verdicts], None)
    memory.accounts.first_links({"default": "default"})
    person = memory.accounts.open_account("default", "mia@example.org", "Mia", "reviewer")
    token = memory.accounts.tokens.make(person.actor, "decides", ("cases:decide",), 1)
    cases = [one.case_id for one in memory.open_cases()]
    memory.close()
    return cases, token


class Clients:
    """Who decides cases over HTTP until the desk is gone; each case is asked for once in its life."""

    def __init__(self, address, token, cases):
        self._address, self._headers = address, {"Authorization": f"Bearer {token}"}
        self._cases = SimpleQueue()
        for one in cases:
            self._cases.put(one)
        self.told, self.unsure, self.refused, self.news = {}, set(), set(), threading.Semaphore(0)
        self._threads = [threading.Thread(target=self._decide, daemon=True) for _ in range(DECIDING)]
        for one in self._threads:
            one.start()

    def _decide(self):
        with httpx.Client(base_url=self._address, headers=self._headers, timeout=30, trust_env=False) as client:
            while True:
                try:
                    case_id = self._cases.get_nowait()
                except Empty:
                    return
                try:
                    asked = RELEASED if case_id % 3 == 0 else DECIDED
                    answer = client.post(f"/v1/cases/{case_id}/decisions", json=asked)
                except httpx.TransportError:
                    self.unsure.add(case_id)  # it may be decided: nobody was told
                    return
                if answer.status_code == 201:
                    self.told[case_id] = answer.json()["decision"]["decision_id"]
                    self.news.release()
                else:
                    assert answer.status_code == 409, answer.text
                    self.refused.add(case_id)

    def wait(self, decisions):
        for _ in range(decisions):
            assert self.news.acquire(timeout=60)

    def join(self):
        for one in self._threads:
            one.join(60)
            assert not one.is_alive()


def started(home):
    arguments = [sys.executable, "-m", "guardrail", "serve", "--port", "0", "--json"]
    with (home / "desk.log").open("ab") as log:
        child = subprocess.Popen(arguments, cwd=home, env=environment(home), stdout=subprocess.PIPE, stderr=log)
    text = b""
    while not text.endswith(b"\n}\n"):
        line = child.stdout.readline()
        assert line, (home / "desk.log").read_text()
        text += line
    return child, json.loads(text)["address"]


def require_whole(home, told):
    """Every case is decided once or not at all, whatever stands of it; returns those that are decided."""
    memory = opened(home)
    with memory._database.reading() as session:
        decisions = {one.decision_id: one.case_id for one in session.scalars(select(StoredDecision))}
        states = {one.case_id: (one.state, one.revision, one.settled_by) for one in session.scalars(select(Case))}
        outcomes = {one.case_id: one.outcome for one in session.scalars(select(Case))}
        jobs = Counter(one.asked["case_id"] for one in session.scalars(select(Job)) if one.kind == "release")
    rows = [row.content["review"] for row in memory.rows() if row.kind == "review"]
    memory.verify(deep=True)
    memory.close()
    assert len(set(decisions.values())) == len(decisions), "a case was decided twice"
    assert {one["decision_id"]: one["case_id"] for one in rows} == decisions
    assert len(rows) == len(decisions), "the ledger has a decision twice"
    settled_by = {case_id: decision_id for decision_id, case_id in decisions.items()}
    for case_id, stands in states.items():
        decided = case_id in settled_by
        assert stands == (("decided", 1, settled_by[case_id]) if decided else ("open", 0, None))
        assert jobs[case_id] == (1 if decided and outcomes[case_id] == "release" else 0)
    assert {case_id: settled_by[case_id] for case_id in told} == told, "somebody was told of what is not there"
    return set(settled_by)


def test_desk_that_is_killed_while_people_decide_loses_and_doubles_nothing(home):
    cases, token = filled(home)
    told, unsure, decided = {}, set(), set()
    for killed_after in KILLED_AFTER:
        child, address = started(home)
        try:  # first what nobody knows the fate of, as a client sends it again
            clients = Clients(address, token, [*sorted(unsure), *sorted(set(cases) - unsure - set(told))])
            clients.wait(killed_after)
        finally:
            child.kill()
            ended = child.wait(60)
            child.stdout.close()
        clients.join()
        assert ended == -signal.SIGKILL
        assert clients.refused <= unsure & decided, "only what was decided in an earlier life is refused"
        told |= clients.told
        unsure |= clients.unsure
        decided = require_whole(home, told)
        assert decided <= {*told, *unsure}, "a case was decided that nobody decided"
        assert set(told) <= decided < set(cases), "it was not killed in the midst of deciding"
