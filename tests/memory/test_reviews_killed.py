"""A process that is killed while it decides: the decision is wholly there or not at all, and none is doubled."""

import os
import signal

import pytest
from sqlalchemy import event

from guardrail.review_errors import CaseTaken
from tests.memory.reviewed import CREDIT, WITHHOLD, Office, verdict

pytestmark = [
    pytest.mark.usefixtures("both_stores"),
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]
KILLED = -signal.SIGKILL


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def act_and_die(url, pictures, act, at_statement):
    """Open the memory in a process of its own and act there, killed before a statement; how the process ended."""
    pid = os.fork()
    if pid == 0:
        office = Office(url, pictures, second_review_share=0.0)
        person, left = office.person("Mia"), [at_statement]

        def count(*_):
            left[0] -= 1
            if left[0] == 0:
                die()

        engine = office.memory._database.engine
        event.listen(engine, "before_cursor_execute", count)
        event.listen(engine, "commit", count)
        try:
            act(office, person)
        finally:
            os._exit(0 if left[0] > 0 else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_everywhere(office, url, tmp_path, act):
    """Act until no statement is left to be killed before; yields after each time."""
    office.person("Mia")
    office.memory.close()
    for at_statement in range(1, 200):
        ended = act_and_die(url, str(tmp_path / "pictures"), act, at_statement)
        assert ended in {KILLED, 0}
        yield ended == 0
        if ended == 0:
            assert at_statement > 5, "there was hardly anything to be killed in"
            return


def test_a_killed_decision_is_wholly_there_or_not(office, url, tmp_path):
    (case_id,) = office.flag(verdict("a"))
    for is_done in killed_everywhere(office, url, tmp_path, lambda it, mia: it.reviews.decide(mia, case_id, CREDIT)):
        case = office.case(case_id)
        assert case.state == ("decided" if is_done else "open")
        assert case.revision == int(is_done)
        assert len(office.decisions()) == len(office.ledger()) == len(office.jobs()) == int(is_done)
    assert office.memory.verify(deep=True).rows == 2
    with pytest.raises(CaseTaken):  # whoever sends it again, not knowing, is told
        office.reviews.decide(office.person("Mia"), case_id, CREDIT)


def test_a_killed_batch_is_wholly_there_or_not(office, url, tmp_path):
    cases = office.flag(verdict("a"), verdict("b"))
    for is_done in killed_everywhere(
        office, url, tmp_path, lambda it, mia: it.reviews.decide_all(mia, cases, WITHHOLD)
    ):
        assert {office.case(one).state for one in cases} == {"decided" if is_done else "open"}
        assert len(office.decisions()) == len(office.ledger()) == (2 if is_done else 0)


def test_a_killed_undo_is_wholly_there_or_not(office, url, tmp_path):
    (case_id,) = office.flag(verdict("a"))
    taken = office.reviews.decide(office.person("Mia"), case_id, CREDIT).decision.decision_id
    for is_done in killed_everywhere(office, url, tmp_path, lambda it, mia: it.reviews.undo(mia, taken)):
        assert office.case(case_id).state == ("open" if is_done else "decided")
        assert [kind for kind, *_ in office.jobs()].count("undo") == int(is_done)
        assert len(office.decisions()) == len(office.ledger()) == 1 + int(is_done)


def test_what_was_told_to_be_done_outlasts_a_kill(office, url, tmp_path):
    (case_id,) = office.flag(verdict("a"))

    def decide_and_die(it, mia):
        it.reviews.decide(mia, case_id, WITHHOLD)
        die()

    office.person("Mia")
    office.memory.close()
    assert act_and_die(url, str(tmp_path / "pictures"), decide_and_die, 10_000) == KILLED
    assert (office.case(case_id).outcome, len(office.ledger())) == ("withhold", 1)


def test_a_killed_opening_leaves_no_verdict_without_its_case(office, url, tmp_path):
    for _ in killed_everywhere(office, url, tmp_path, lambda it, _: it.flag(verdict("a"))):
        there = len(list(office.memory.rows())), office.memory.counts().open_cases
        if there == (1, 1):
            return
        assert there == (0, 0)
    raise AssertionError("it was never opened")
