"""An image that was flagged leaves by a person's decision only, judged once more, and its manifest says so."""

import io
from datetime import UTC, datetime

import pytest

from guardrail.act import verify_file
from guardrail.errors import ReleaseFailed
from guardrail.records import Decision, ReviewDecision
from guardrail.testing import FakePipeline

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def reviewed(verdict, outcome="release", **said):
    return ReviewDecision(
        decision_id="d" * 32,
        case_id=1,
        verdict_id=verdict.verdict_id,
        organisation="default",
        account_id="anna-the-reviewer",
        round="first",
        outcome=outcome,
        at=NOW,
        **said,
    )


@pytest.fixture
def held(guard, pictures):
    """A flagged image as it waits: its PNG, verdict and run."""
    output = guard.wrap(FakePipeline([[pictures["near fox"]]]))("a fox, by CANARY")
    png = io.BytesIO()
    pictures["near fox"].save(png, "PNG")
    return png.getvalue(), output.guard.verdicts[0], output.guard.context


def test_what_a_person_released_is_signed_as_human_validated(guard, world, held, tmp_path):
    png, verdict, context = held
    file = guard.release_reviewed(png, verdict, context, reviewed(verdict), tmp_path / "out" / "case-1")
    report = verify_file(file, [(world.keys / "root.pem").read_bytes()])
    assert (file.name, report.outcome, report.decision) == ("case-1.png", "ours", Decision.FLAG)
    assert report.claims["released by a person"].startswith("release, 2026-11-22")
    content = file.read_bytes()
    for said in (b"human_validated", b"d" * 32, verdict.verdict_id.encode()):
        assert said in content
    for never in (b"anna", b"CANARY"):
        assert never not in content


def test_release_is_found_by_its_decision(guard, held, tmp_path):
    png, verdict, context = held
    decision = reviewed(verdict)
    assert guard.memory.release_of(decision.decision_id) is None
    file = guard.release_reviewed(png, verdict, context, decision, tmp_path / "case-1")
    release = guard.memory.release_of(decision.decision_id)
    assert release is not None and release.file == str(file)
    guard.memory.record_withdrawal(release.verdict_id, "taken back", release.intent_id)
    assert guard.memory.release_of(decision.decision_id) is None
    guard.memory.verify(deep=True)


def test_release_with_credit_names_the_nearest_work(guard, held, tmp_path):
    png, verdict, context = held
    with_credit = guard.release_reviewed(
        png, verdict, context, reviewed(verdict, "release_with_credit"), tmp_path / "with"
    )
    without = guard.release_reviewed(
        png, verdict, context, reviewed(verdict).model_copy(update={"decision_id": "e" * 32}), tmp_path / "without"
    )
    assert b"org.guardrail.attribution" in with_credit.read_bytes()
    assert b"org.guardrail.attribution" not in without.read_bytes()


def test_no_second_case_is_opened_for_it(guard, held, tmp_path):
    png, verdict, context = held
    before = guard.memory.counts().open_cases
    guard.release_reviewed(png, verdict, context, reviewed(verdict), tmp_path / "case-1")
    assert guard.memory.counts().open_cases == before


@pytest.mark.parametrize("outcome", ["withhold", "undone"])
def test_any_other_decision_lets_nothing_out(guard, held, tmp_path, outcome):
    png, verdict, context = held
    decision = reviewed(verdict, undoes="x") if outcome == "undone" else reviewed(verdict, outcome)
    with pytest.raises(ReleaseFailed, match="only accepted images leave"):
        guard.release_reviewed(png, verdict, context, decision, tmp_path / "out" / "case-1")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_person_cannot_let_a_blocked_image_out(guard, pictures, tmp_path):
    (verdict,) = guard.check(pictures["fox"]).verdicts
    assert verdict.decision is Decision.BLOCK
    png = io.BytesIO()
    pictures["fox"].save(png, "PNG")
    with pytest.raises(ReleaseFailed, match="only accepted images leave"):
        guard.release_reviewed(png.getvalue(), verdict, None, reviewed(verdict), tmp_path / "case-1")


def test_other_pixels_than_those_that_were_held_do_not_leave(guard, held, pictures, tmp_path):
    _, verdict, context = held
    png = io.BytesIO()
    pictures["new"].save(png, "PNG")
    with pytest.raises(ReleaseFailed, match="its pixels are"):
        guard.release_reviewed(png.getvalue(), verdict, context, reviewed(verdict), tmp_path / "case-1")


def test_what_is_blocked_by_now_does_not_leave(make_guard, held, tmp_path):
    """A work that came into the index after the image was flagged counts."""
    png, verdict, context = held
    stricter = make_guard(
        policy={
            "name": "later",
            "rules": [
                {"name": "everything near", "evidence": e, "decision": "block"}
                for e in ("pixel_match", "hash_match", "copy_match", "check_failed")
            ],
        }
    )
    with pytest.raises(ReleaseFailed, match="judged block"):
        stricter.release_reviewed(png, verdict, context, reviewed(verdict), tmp_path / "case-1")
    assert not (tmp_path / "case-1.png").exists()
