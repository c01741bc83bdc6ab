"""What decisions teach, up to the next check: proposals are shown, applied by a lead, obeyed, taken back."""

import hashlib
import io
import json
import shutil
from datetime import UTC, datetime
from uuid import uuid4

import numpy as np
import pytest
from PIL import Image

from guardrail.desk.learning import proposals
from guardrail.errors import CalibrationUnfit
from guardrail.guard import Guard
from guardrail.index.bank_limits import BANK_LIMITS, write_bank_limits
from guardrail.judge import reached
from guardrail.memory import Held
from guardrail.records import BankLimit, BitsLimit, DecisionAsked, HashMatch, Limits
from guardrail.testing import FakePlugin

FOX = 1  # the seed of its picture in conftest.py


def drawing(seed, side=96):
    """A picture as the works of these indexes are drawn."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def near_fox(other):
    """A picture that PDQ alone finds near the fox: 48 bits for 100, 42 for 103, 56 for 105."""
    mixed = 0.6 * np.asarray(drawing(FOX), float) + 0.4 * np.asarray(drawing(other), float)
    return Image.fromarray(mixed.round().astype(np.uint8))


@pytest.fixture
def make_own_desk(make_desk, desk_world, tmp_path):
    """Make a desk over an index of its own, which tests may change."""
    shutil.copytree(desk_world / "index", tmp_path / "index")
    return lambda **said: make_desk(index=tmp_path / "index", **said)


@pytest.fixture
def desk(make_own_desk):
    return make_own_desk(second_review_share=1)


def png(at):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (at, 0, 0)).save(file, "PNG")
    return file.getvalue()


def record(desk, bits):
    """Cases as the guard opens them, but for their distances: no two show nearly the same picture."""
    verdict = desk.guard_for("default").check([near_fox(100)]).verdicts[0]
    (found,) = (one for one in verdict.evidence if one.kind == "hash_match")
    held, chance = [], np.random.default_rng(0)
    for at, distance in enumerate(bits):
        evidence = (found.model_copy(update={"distance_bits": distance}),)
        said = {
            "verdict_id": uuid4().hex,
            "pixels_sha256": hashlib.sha256(bytes([at])).hexdigest(),
            "at": datetime.now(UTC),
            "evidence": evidence,
        }
        pdq = chance.integers(0, 256, 32, np.uint8).tobytes()
        held.append(Held(verdict.model_copy(update=said), png(at), pdq, "default"))
    desk.memory.record_verdicts(held, None)
    wanted = {one.verdict.verdict_id: distance for one, distance in zip(held, bits, strict=True)}
    return {case.case_id: wanted[case.verdict_id] for case in desk.memory.open_cases() if case.verdict_id in wanted}


def decided(desk, client_as, bits, confirmed_within=38):
    """Decide cases of these distances, each by two people who do not see each other."""
    cases = record(desk, bits)
    people = [client_as("reviewer", name=name).actor for name in ("Ada", "Bo")]
    for actor in people:
        for case_id, distance in cases.items():
            copies = distance <= confirmed_within
            outcome, reasons = ("withhold", ("expression_copied",)) if copies else ("not_a_match", ("wrong_work",))
            desk.memory.reviews.decide(actor, case_id, DecisionAsked(outcome=outcome, reasons=reasons))


BITS = [*range(40, 64), *range(40, 48), 36, 34]  # 32 let pass, 2 confirmed


def apply_form(limit=39, bank="animals", signal="pdq"):
    return {"bank": bank, "signal": signal, "limit": str(limit)}


def refuses_other_limits(desk, lead):
    for form in (apply_form(33), apply_form(bank="generic"), apply_form(signal="copy"), apply_form(signal="bytes")):
        assert lead.post("/limits/apply", data=form).status_code == 409
    assert desk.guard_for("default").check([near_fox(103)]).verdicts[0].decision == "flag"
    assert desk.memory.changes.page(lead.actor) == ()


def test_proposal_is_applied_by_a_lead_obeyed_by_running_guards_and_taken_back(desk, client_as):
    decided(desk, client_as, BITS)
    lead, guard = client_as("lead"), desk.guard_for("default")
    running = Guard(settings=guard.settings, plugins=[FakePlugin()])  # as another process has it
    page = lead.get("/limits").text
    assert "Lowering flag_within_bits of pdq for bank animals from 64 to 39 would have spared 32 of 34 reviews" in page
    assert "missed 0 confirmed copies" in page
    refuses_other_limits(desk, lead)
    assert client_as("reviewer").post("/limits/apply", data=apply_form()).status_code == 403
    assert lead.post("/limits/apply", data=apply_form()).status_code == 303
    for one in (guard, running):
        verdict = one.check([near_fox(103)]).verdicts[0]
        assert verdict.decision == "accept"
        assert ", bank limits " in verdict.calibration
        assert one.check([drawing(FOX)]).verdicts[0].decision == "block"
    (change,) = desk.memory.changes.page(lead.actor, "limit")
    assert client_as("lead", "another").post(f"/changes/{change.change_id}/undo").status_code == 404
    assert lead.post(f"/changes/{change.change_id}/undo").status_code == 303
    for one in (guard, running):
        assert one.check([near_fox(103)]).verdicts[0].decision == "flag"
    assert [row.kind for row in desk.memory.rows()].count("change") == 2
    desk.memory.verify(deep=True)


def test_without_second_looks_it_cannot_be_applied(desk, client_as):
    actor = client_as("reviewer").actor  # alone, so that nobody could look a second time
    for case_id, distance in record(desk, BITS).items():
        outcome, reason = ("withhold", "expression_copied") if distance < 38 else ("not_a_match", "wrong_work")
        desk.memory.reviews.decide(actor, case_id, DecisionAsked(outcome=outcome, reasons=(reason,)))
    (found,), _ = proposals(desk.memory.reviews.decided_pairs("default"), desk.guard_for("default"))
    assert (found.spared, found.seconded) == (32, 0)
    assert client_as("lead").post("/limits/apply", data=apply_form()).status_code == 409
    assert desk.guard_for("default").check([near_fox(103)]).verdicts[0].decision == "flag"


@pytest.fixture
def limited(desk):
    """A guard whose index limits PDQ for the animals to 39 bits."""
    guard = desk.guard_for("default")
    limit = BankLimit(bank="animals", signal="pdq", limit=39, change_id="c" * 32)
    write_bank_limits(guard.index.folder, guard.index.header, [limit])
    return guard


def test_limits_of_the_settings_count_more(limited):
    assert limited.check([near_fox(103)]).verdicts[0].decision == "accept"
    own = limited.settings.model_copy(update={"limits": Limits(pdq=BitsLimit(flag_within_bits=64))})
    assert Guard(settings=own, plugins=[FakePlugin()]).check([near_fox(103)]).verdicts[0].decision == "flag"


def test_edited_bank_limits_stop_the_guard(limited):
    path = limited.index.folder / BANK_LIMITS
    said = json.loads(path.read_text())
    said["banks"][0]["limit"] = 0.0
    path.write_text(json.dumps(said))
    with pytest.raises(CalibrationUnfit, match="edited"):
        limited.check([near_fox(103)])


def test_limit_of_one_bank_says_nothing_of_others(limited):
    fox = limited.index.works[0]
    assert fox.bank == "animals"
    found = HashMatch(work=fox, signal="pdq", distance_bits=48)
    elsewhere = found.model_copy(update={"work": fox.model_copy(update={"bank": "other"})})
    limits = limited.index.header.limits
    assert (reached(found, limits), reached(elsewhere, limits)) == ("accept", "flag")


def test_quality_shows_agreement_and_precision(desk, client_as):
    assert "Nothing was decided yet" in client_as("viewer").get("/quality").text
    decided(desk, client_as, [60, 50, 36, 34])
    page = client_as("viewer").get("/quality").text
    assert "perceptual hash near a work" in page
    assert "2 of 4" in page
    assert "1.00" in page  # all pairs agree
    assert "Nothing was decided yet" in client_as("viewer", "another").get("/quality").text
