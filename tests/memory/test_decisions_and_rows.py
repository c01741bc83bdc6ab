"""Every decision has its row in the ledger, and every such row its decision, whoever edits either."""

import pytest

from guardrail.errors import LedgerBroken
from guardrail.memory import Held
from guardrail.records import Actor, Decision, DecisionAsked

pytestmark = pytest.mark.usefixtures("both_stores")

LEAD = Actor(account_id="a" * 32, organisation="default", role="lead")
ASKED = DecisionAsked(outcome="withhold", reasons=("expression_copied",), note="canary-7d1f is in the corner")


@pytest.fixture
def decided(memory, making):
    """Rows 1 to 3: a verdict that opened a case, one on the very same pixels, and the decision on the case."""
    for digit in "12":
        flagged = making.verdict(Decision.FLAG, verdict_id=digit * 32, pixels_sha256="e" * 64)
        memory.record_verdicts([Held(flagged, b"png")], None)
    memory.reviews.decide(LEAD, 1, ASKED)
    return memory


def test_decision_and_its_row_agree(decided):
    assert [row.kind for row in decided.rows()] == ["verdict", "verdict", "review"]
    assert decided.verify(deep=True).rows == 3


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("delete from decisions", "no decision beside it"),
        ("update decisions set outcome = 'release'", "another decision"),
        ("update decisions set account_id = 'b'", "another decision"),
        ("update decisions set note = 'another'", "another decision"),
        ("update decisions set note = ''", "another decision"),
        ("update decisions set reasons = '[]'", "another decision"),
        ("update decisions set round = 'x'", "another decision"),
        ("update decisions set at = 'yesterday'", "another decision"),
        ("update decisions set case_id = 77", "another decision"),
        ("update decisions set sequence = 1", "a decision beside it"),
        ("update decisions set sequence = 77", "no decision beside it"),
        ("update sightings set verdict_id = 'another'", "a case of verdict another"),
        ("update sightings set sequence = 3", "a case of verdict"),
    ],
)
def test_edited_decision_is_found(decided, tamper, statement, found):
    tamper(statement)
    with pytest.raises(LedgerBroken, match=found):
        decided.verify()


def test_decision_without_a_row_is_found(decided, tamper):
    columns = "case_id, organisation, account_id, round, outcome, reasons, answers, note, asks_second, at"
    tamper(f"insert into decisions (decision_id, sequence, {columns}) select 'x', 77, {columns} from decisions")
    with pytest.raises(LedgerBroken, match="row 77: found a decision of a row that is not there"):
        decided.verify()


@pytest.mark.parametrize("digit", "12")
def test_case_with_its_decisions_is_erased_by_any_verdict_on_its_pixels(decided, digit):
    assert decided.erase(digit * 32, "request 17") == (1, 2, 3)
    assert decided.verify(deep=True).rows == 4
    with decided._database.reading() as session:
        tables = ("cases", "decisions", "sightings", "case_facts", "appeals", "ledger")
        said = [
            str(tuple(row)) for one in tables for row in session.connection().exec_driver_sql(f"select * from {one}")
        ]
    assert "canary" not in "".join(said)
    assert "e" * 64 not in "".join(said)
    assert decided.open_cases() == ()


def test_answers_that_were_kept_go_with_the_image(decided):
    asked = decided.jobs.add("default", "check", {"images": []})
    decided.jobs.add("default", "rescan", {"work": "1" * 32})
    with decided._database.writing() as (session, _):
        session.connection().exec_driver_sql(f'update jobs set answer = \'{{"verdict_id": "{"1" * 32}"}}\'')
    decided.erase("1" * 32, "request 17")
    with decided._database.reading() as session:
        kinds = [
            kind for (kind,) in session.connection().exec_driver_sql("select kind from jobs where kind != 'release'")
        ]
    assert asked
    assert kinds == ["rescan"]
