"""What a desk does by itself: it opens its indexes beside the pages, and tidies up once a day."""

import os
import threading

import pytest
from api_samples import near
from starlette.testclient import TestClient

from guardrail.desk.web import workers
from guardrail.desk.web.app import build_app
from guardrail.desk.web.checking import Sent, enter_check
from guardrail.errors import IndexMissing, MemoryUnwritable
from guardrail.records import DecisionAsked
from guardrail.review_errors import PictureMissing

WITHIN_S = 20
WITHHELD = DecisionAsked(outcome="withhold", reasons=("expression_copied",))


def readiness(desk):
    answer = TestClient(build_app(desk, workers=False), base_url="http://127.0.0.1:8787").get("/readyz")
    return answer.status_code, answer.json()["checks"]


def test_desk_is_not_ready_until_its_indexes_are_open_and_says_so_at_once(desk, monkeypatch):
    may_open, opened, failures = threading.Event(), [], []
    build = desk.guard_for

    def wait_and_build(organisation):
        assert may_open.wait(WITHIN_S)
        opened.append(organisation)
        return build(organisation)

    with monkeypatch.context() as slow:
        slow.setattr(desk, "guard_for", wait_and_build)
        desk.open_guards(failures.append)
        status, checks = readiness(desk)
        assert (status, checks["index"], checks["index 2"]) == (503, "is being opened", "is being opened")
        assert opened == []
        may_open.set()
        desk._opener.join(WITHIN_S)
    assert (opened, failures) == (["default", "another"], [])
    assert [organisation for organisation, _ in desk.guards()] == opened
    assert readiness(desk)[0] == 200


def test_desk_whose_index_cannot_be_opened_is_never_ready_and_says_why_where_it_was_started(desk, monkeypatch):
    def refuse(organisation):
        raise IndexMissing(organisation)

    failures = []
    with monkeypatch.context() as broken:
        broken.setattr(desk, "guard_for", refuse)
        desk.open_guards(failures.append)
        desk._opener.join(WITHIN_S)
    assert [type(one) for one in failures] == [IndexMissing]
    assert readiness(desk)[0] == 503


def test_tidying_purges_old_cases_and_takes_away_what_nothing_names(make_desk, desk_world):
    desk = make_desk(retention_days=0)
    pictures, actor = desk.memory.pictures, desk.memory.accounts.open_account("default", "a@x.org", "A", "lead").actor
    guard = desk.guard_for("default")
    guard.check([near("fox", 7), near("fox", 8)])
    decided, waiting = desk.memory.open_cases()
    desk.memory.reviews.decide(actor, decided.case_id, WITHHELD)
    orphan = pictures.put(b"of a case that was then not opened")
    enter_check(desk, "default", actor.account_id, [Sent("a.png", lambda: b"a picture")], None)
    for path in (desk.settings.home / "memory.db-pictures").glob("*/*/*"):
        os.utime(path, (0, 0))
    assert desk.workers.tidy_once() == (1, 1)
    for gone in (orphan, decided.picture_sha256):
        with pytest.raises(PictureMissing):
            pictures.get(gone)
    assert pictures.get(waiting.picture_sha256)
    asked = desk.memory.jobs.take({"check"}).asked
    assert pictures.get(asked["images"][0]["sha256"]).endswith(b"a picture")
    assert desk.workers.tidy_once() == (0, 0)


def test_workers_tidy_up_by_themselves_and_again_after_a_failure(desk, monkeypatch):
    tried, twice = [], threading.Event()

    def tidy():
        tried.append(1)
        if len(tried) == 1:
            raise MemoryUnwritable("x", "y")
        twice.set()

    monkeypatch.setattr(workers, "_TIDIED_AFTER_S", 0.01)
    monkeypatch.setattr(workers, "_TIDIED_AGAIN_S", 0.01)
    monkeypatch.setattr(desk.workers, "tidy_once", tidy)
    desk.workers.start()
    assert twice.wait(WITHIN_S)
    assert desk.workers.alive
    desk.workers.stop()
    assert len(tried) == 2  # not again before a day is over
