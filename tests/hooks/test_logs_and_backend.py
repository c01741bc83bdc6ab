import logging
from datetime import UTC, datetime
from pathlib import Path

from guardrail.index import FolderIndex
from guardrail.records import Decision, Release, ReviewDecision, Verdict
from guardrail_hooks import faiss_folder, release_log, review_log, verdict_log

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def verdict(decision):
    return Verdict(
        image="images[0]",
        pixels_sha256=None,
        at=NOW,
        decision=decision,
        rule="r",
        explanation="Because.",
        evidence=(),
        nearest=(),
        index_snapshot=None,
        policy_sha256="c" * 64,
        calibration="uncalibrated",
    )


def test_hook_verdict_reached_logs_severe_verdicts_as_warnings(caplog):
    with caplog.at_level(logging.INFO, "guardrail.verdicts"):
        for decision in Decision:
            verdict_log.verdict_reached(verdict(decision))
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING", "WARNING"]
    assert all("Because." in record.message for record in caplog.records)


def test_hook_output_released_logs_file_and_manifest(caplog):
    release = Release(verdict_id="v1", file="a.png", file_sha256="d" * 64, manifest_id="urn:c2pa:1", at=NOW)
    with caplog.at_level(logging.INFO, "guardrail.releases"):
        release_log.output_released(release, Path("out/a.png"))
    assert "v1 released as urn:c2pa:1 in out/a.png" in caplog.text


def test_hook_review_recorded(caplog):
    facts = {"case_id": 7, "verdict_id": "v1", "organisation": "o", "account_id": "anna", "round": "first", "at": NOW}
    taken = ReviewDecision(decision_id="d1", outcome="withhold", reasons=("expression_copied",), **facts)
    undone = ReviewDecision(decision_id="d2", outcome="withhold", undoes="d1", **facts)
    with caplog.at_level(logging.INFO, "guardrail.reviews"):
        for one in (taken, undone):
            review_log.review_recorded(one, verdict(Decision.FLAG))
    assert "withhold (expression_copied)" in caplog.text
    assert "took back d1" in caplog.text
    assert "anna" not in caplog.text


def test_hook_register_index_backends_offers_folders():
    backends = faiss_folder.register_index_backends()
    sample = backends["folder"](str(Path(__file__).parents[1] / "index" / "format-1"), "cpu")
    assert isinstance(sample, FolderIndex)
    assert sample.header.works == 3
