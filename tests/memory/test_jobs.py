"""Jobs: one worker at a time, taken up again when that is gone, tried again with pauses, and given up."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from guardrail.memory import KnownAnswer, Memory
from guardrail.records import Actor

ACTOR = Actor(account_id="a" * 32, organisation="default", role="admin")


class Clock:
    def __init__(self):
        self.now = datetime.now(UTC)

    def __call__(self):
        return self.now

    def passes(self, seconds):
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def memory(tmp_path, clock):
    made = Memory(f"sqlite:///{tmp_path / 'memory.db'}")
    made.jobs._clock = made.idempotency._clock = clock
    clock.passes(60)  # jobs are entered by the wall's clock, also where that is slow
    yield made
    made.close()


def test_a_job_is_taken_once(memory):
    job_id = memory.jobs.add("default", "check", {"images": []}, total=3)
    taken = memory.jobs.take({"check"})
    assert (taken.job_id, taken.state, taken.attempts, taken.total) == (job_id, "running", 1, 3)
    assert memory.jobs.take({"check"}) is None


def test_only_kinds_that_are_known_are_taken(memory):
    memory.jobs.add("default", "rescan", {})
    assert memory.jobs.take({"check", "release"}) is None
    assert memory.jobs.take(set()) is None


def test_the_oldest_is_taken_first(memory, clock):
    first = memory.jobs.add("default", "check", {})
    memory.jobs.add("default", "check", {})
    clock.passes(1)
    assert memory.jobs.take({"check"}).job_id == first


def test_two_workers_never_have_the_same_job(memory):
    for _ in range(12):
        memory.jobs.add("default", "check", {})
    taken, lock = [], threading.Lock()

    def work():
        while (job := memory.jobs.take({"check"})) is not None:
            with lock:
                taken.append(job.job_id)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(taken) == len(set(taken)) == 12


def test_a_job_whose_worker_is_gone_is_taken_up_again_and_the_lost_worker_can_change_nothing(memory, clock):
    memory.jobs.add("default", "check", {})
    lost = memory.jobs.take({"check"})
    clock.passes(31)
    again = memory.jobs.take({"check"})
    assert (again.job_id, again.attempts) == (lost.job_id, 2)
    assert not memory.jobs.finish(lost, {"by": "the lost one"})
    assert memory.jobs.finish(again, {"by": "the other"})
    assert memory.jobs.get(ACTOR, lost.job_id).answer == {"by": "the other"}


def test_an_event_is_told_with_the_end_of_its_job_and_never_by_a_worker_that_lost_it(memory, clock):
    memory.webhooks.add(ACTOR, "https://hooks.example.org/", ["case.released"])
    memory.jobs.add("default", "release", {"case_id": 12})
    lost = memory.jobs.take({"release"})
    clock.passes(31)
    again = memory.jobs.take({"release"})
    memory.jobs.finish(lost, {"released": True}, "case.released")
    assert memory.webhooks.waiting() == {}
    memory.jobs.finish(again, {"released": True}, "case.released")
    assert memory.webhooks.waiting() == {("default", "waiting"): 1}
    (due,) = memory.webhooks.due()
    assert b'"about":{"case_id":12,"released":true}' in memory.webhooks.take(due.webhook_id).body


def test_a_job_that_is_held_on_is_not_taken(memory, clock):
    memory.jobs.add("default", "check", {})
    job = memory.jobs.take({"check"})
    for done in range(5):
        clock.passes(20)
        assert memory.jobs.progress(job, done)
        assert memory.jobs.take({"check"}) is None
    assert memory.jobs.get(ACTOR, job.job_id).done == 4


def test_a_job_that_fails_is_tried_again_after_growing_pauses_and_then_failed(memory, clock):
    memory.jobs.add("default", "check", {})
    pauses = []
    while (job := memory.jobs.take({"check"})) is not None:
        again = memory.jobs.fail(job, {"problem": {"status": 503}})
        if not again:
            break
        assert memory.jobs.take({"check"}) is None
        due = datetime.fromisoformat(memory.jobs.get(ACTOR, job.job_id).due_at)
        pauses.append((due - clock.now).total_seconds())
        clock.now = due
    assert pauses == [2, 4, 8, 16, 32, 64, 128, 256, 512]
    assert memory.jobs.get(ACTOR, job.job_id).state == "failed"


def test_a_failure_for_good_is_not_tried_again(memory):
    memory.jobs.add("default", "check", {})
    job = memory.jobs.take({"check"})
    assert not memory.jobs.fail(job, {"problem": {"status": 422}}, for_good=True)
    assert memory.jobs.get(ACTOR, job.job_id).state == "failed"


def test_a_job_of_another_organisation_is_not_there(memory):
    job_id = memory.jobs.add("another", "check", {})
    assert memory.jobs.get(ACTOR, job_id) is None


def test_finished_jobs_are_forgotten_after_a_week_and_failed_ones_are_not(memory, clock):
    for kind in ("check", "release"):
        memory.jobs.add("default", kind, {})
    done, failed = memory.jobs.take({"check"}), memory.jobs.take({"release"})
    memory.jobs.finish(done, {})
    memory.jobs.fail(failed, {}, for_good=True)
    clock.passes(8 * 86400)
    memory.jobs.add("default", "check", {})
    assert memory.jobs.get(ACTOR, done.job_id) is None
    assert memory.jobs.get(ACTOR, failed.job_id) is not None
    assert memory.jobs.waiting() == {("default", "check", "waiting"): 1, ("default", "release", "failed"): 1}


def test_a_key_is_new_then_running_then_known(memory):
    kept = memory.idempotency
    assert kept.begin("default", "k", "1" * 64) == "new"
    assert kept.begin("default", "k", "1" * 64) == "running"
    assert kept.begin("default", "k", "2" * 64) == "other"
    assert kept.begin("another", "k", "2" * 64) == "new"
    kept.keep("default", "k", KnownAnswer(201, b"said"))
    assert kept.begin("default", "k", "1" * 64) == KnownAnswer(201, b"said")
    kept.forget("default", "k")  # an answer that was given is not forgotten
    assert kept.begin("default", "k", "1" * 64) == KnownAnswer(201, b"said")


def test_a_key_whose_process_was_killed_may_be_claimed_again(memory, clock):
    assert memory.idempotency.begin("default", "k", "1" * 64) == "new"
    clock.passes(601)
    assert memory.idempotency.begin("default", "k", "1" * 64) == "new"


def test_a_key_is_forgotten_after_a_day(memory, clock):
    memory.idempotency.begin("default", "k", "1" * 64)
    memory.idempotency.keep("default", "k", KnownAnswer(200, b""))
    clock.passes(86401)
    assert memory.idempotency.begin("default", "k", "2" * 64) == "new"
