import pytest

from guardrail.desk.audit_claim import keep_claim_audit
from guardrail.records import AuditFinding, AuditReport, PrivacyClaim, PrivacyStatement
from guardrail.study.audit.privacy import Guesses, PrivacyBound, read_statement, write_statement

CLAIM = PrivacyClaim(epsilon=0.5, delta=1e-5, made_by="the trainer", trained_share=0.5)
WEIGHTS = "a" * 64


def report(*findings):
    return AuditReport(
        pipeline="a model",
        weights_sha256=WEIGHTS,
        training="works",
        training_pictures=40,
        held_out_pictures=40,
        planned=8,
        generated=8,
        seed=0,
        outcome="memorised",
        findings=findings,
    )


@pytest.fixture
def bounded():
    """A report in which 39 of 40 guesses refuted the claim."""
    return report(PrivacyBound(CLAIM)._finding(CLAIM, Guesses(pictures=56, made=40, right=39)))


def test_what_was_proved_is_added_to_the_claim_beside_the_weights(bounded, tmp_path):
    write_statement(tmp_path, PrivacyStatement(claim=CLAIM))
    for audits in (1, 2):
        assert keep_claim_audit(str(tmp_path), None, bounded) == bounded
        statement = read_statement(tmp_path)
        assert statement.claim == CLAIM
        assert [one.weights_sha256 for one in statement.audits] == [WEIGHTS] * audits
        assert (statement.audits[-1].guesses, statement.audits[-1].right) == (40, 39)
        assert statement.standing == "refuted"


def test_claim_that_was_said_begins_the_statement_of_a_folder_without_one(bounded, tmp_path):
    keep_claim_audit(str(tmp_path), CLAIM, bounded)
    assert read_statement(tmp_path).claim == CLAIM
    assert read_statement(tmp_path).standing == "refuted"


def test_audit_of_another_claim_is_not_added(bounded, tmp_path):
    other = PrivacyStatement(claim=PrivacyClaim(epsilon=3.0, trained_share=0.5))
    write_statement(tmp_path, other)
    keep_claim_audit(str(tmp_path), CLAIM, bounded)
    assert read_statement(tmp_path) == other


@pytest.mark.parametrize("lacks", ["bound", "part", "folder"])
def test_without_a_bound_or_a_folder_nothing_is_written(bounded, tmp_path, lacks):
    folder, said = tmp_path / "model", bounded
    if lacks != "folder":
        folder.mkdir()
    if lacks == "bound":
        said = report(AuditFinding(part="privacy", outcome="could_not_tell", reason="there were too few pictures"))
    elif lacks == "part":
        said = report()
    assert keep_claim_audit(str(folder), CLAIM, said) == said
    assert not list(tmp_path.rglob("*.json"))


def test_statement_that_cannot_be_followed_is_a_warning_and_stays(bounded, tmp_path):
    (tmp_path / PrivacyStatement.FILE).write_text("no statement")
    (warning,) = keep_claim_audit(str(tmp_path), CLAIM, bounded).warnings
    assert "could not be kept beside the weights" in warning
    assert (tmp_path / PrivacyStatement.FILE).read_text() == "no statement"
