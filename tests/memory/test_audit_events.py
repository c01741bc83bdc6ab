"""What was noted stays, and is seen by its organisation alone."""

import csv
import io

import pytest

from guardrail.errors import MemoryUnwritable
from guardrail.memory import AuditFilter
from guardrail.records import Actor

pytestmark = pytest.mark.usefixtures("both_stores")

ADA = Actor(account_id="a" * 32, organisation="default", role="lead")
BO = Actor(account_id="b" * 32, organisation="default", role="viewer", token_id="f" * 32, scopes=("check",))
EVE = Actor(account_id="e" * 32, organisation="another", role="admin")


@pytest.fixture
def audit(memory):
    memory.audit.note(ADA, "case.seen", "case 7", {"round": "first"}, "10.0.0.1")
    memory.audit.note(BO, "case.decided", "case 7")
    memory.audit.note(ADA, "case.seen", "case 70")
    memory.audit.note(EVE, "case.seen", "case 8")
    memory.audit.note("default", "sign_in.refused", "who@example.org")
    return memory.audit


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_events SET action = 'nothing' WHERE event_id = 1",
        "DELETE FROM audit_events WHERE event_id = 1",
        "DELETE FROM audit_events",
        "TRUNCATE audit_events",  # SQLite knows no such statement, and refuses it for that
        "INSERT OR REPLACE INTO audit_events (event_id, at, organisation, action, target, details, address) "
        "VALUES (1, '', 'default', 'nothing', '', '{}', '')",  # nor PostgreSQL this one
    ],
)
def test_events_are_never_changed_or_deleted(audit, memory, statement):
    before = audit.page(ADA, AuditFilter())
    with pytest.raises(MemoryUnwritable), memory._database.writing() as (session, _):
        session.connection().exec_driver_sql(statement)
    assert audit.page(ADA, AuditFilter()) == before


def test_events_of_another_organisation_are_not_there(audit):
    assert [one.target for one in audit.page(EVE, AuditFilter())] == ["case 8"]
    assert "case 8" not in "".join(audit.csv(ADA, AuditFilter()))
    assert audit.actions(EVE) == ("case.seen",)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (AuditFilter(), ["who@example.org", "case 70", "case 7", "case 7"]),
        (AuditFilter(account_id=BO.account_id), ["case 7"]),
        (AuditFilter(action="case.seen"), ["case 70", "case 7"]),
        (AuditFilter(action="case"), ["case 70", "case 7", "case 7"]),
        (AuditFilter(action="cas"), []),
        (AuditFilter(target="case 7"), ["case 70", "case 7", "case 7"]),
        (AuditFilter(target="case 7%"), []),
        (AuditFilter(since="2000-01-01", until="2000-01-02"), []),
        (AuditFilter(since="2000-01-01"), ["who@example.org", "case 70", "case 7", "case 7"]),
    ],
)
def test_filter_finds_what_it_says(audit, asked, found):
    assert [one.target for one in audit.page(ADA, asked)] == found


def test_what_is_asked_again_and_again_is_noted_once_for_each_actor(audit):
    also_bo = BO.model_copy(update={"token_id": None, "scopes": None})
    for who in (ADA, BO, ADA, also_bo, BO, also_bo, EVE):
        audit.note_once(who, "job.seen", "j" * 32, {"kind": "check"}, "10.0.0.1")
    audit.note_once(ADA, "job.seen", "k" * 32)
    seen = audit.page(ADA, AuditFilter(action="job.seen"))
    assert [(one.account_id, one.token_id, one.target) for one in seen] == [
        (ADA.account_id, None, "k" * 32),
        (BO.account_id, None, "j" * 32),
        (BO.account_id, BO.token_id, "j" * 32),
        (ADA.account_id, None, "j" * 32),
    ]
    assert len(audit.page(EVE, AuditFilter(action="job.seen"))) == 1


def test_pages_follow_one_another(audit):
    first = audit.page(ADA, AuditFilter(), limit=2)
    second = audit.page(ADA, AuditFilter(), before=first[-1].event_id, limit=2)
    assert [one.event_id for one in (*first, *second)] == [5, 3, 2, 1]


def test_token_and_person_are_both_named(audit):
    (event,) = audit.page(ADA, AuditFilter(action="case.decided"))
    assert (event.account_id, event.token_id) == (BO.account_id, BO.token_id)


def test_csv_has_every_event_oldest_first(audit):
    rows = list(csv.DictReader(io.StringIO("".join(audit.csv(ADA, AuditFilter(), {ADA.account_id: "Ada"}.get)))))
    assert [row["target"] for row in rows] == ["case 7", "case 7", "case 70", "who@example.org"]
    assert [row["account"] for row in rows] == ["Ada", "", "Ada", ""]


@pytest.mark.parametrize("evil", ["=1+1", "+1", "-1", "@SUM(1)", "\t=1"])
def test_csv_runs_nothing_in_a_spreadsheet(memory, evil):
    memory.audit.note("default", "sign_in.refused", evil)
    (row,) = csv.DictReader(io.StringIO("".join(memory.audit.csv(ADA, AuditFilter()))))
    assert row["target"] == f"'{evil}"
