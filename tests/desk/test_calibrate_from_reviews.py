"""`index calibrate --from-reviews`: fitted limits are held by what people decided, and written only by consent."""

import json
from datetime import UTC, datetime
from types import SimpleNamespace
from uuid import uuid4

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from guardrail import plugins
from guardrail.desk.calibrating_reviews import Reviewed
from guardrail.desk.cli import app
from guardrail.desk.learning import Labelled
from guardrail.desk.making import build_folder_index
from guardrail.errors import SettingsInvalid
from guardrail.index import Recipe
from guardrail.index.calibrated import CALIBRATION
from guardrail.memory import Held, Memory
from guardrail.records import (
    Actor,
    BitsLimit,
    DecisionAsked,
    HashMatch,
    Limits,
    Neighbour,
    Verdict,
    Work,
)
from guardrail.settings import Policy, Settings
from guardrail.testing import FakePlugin

AT = datetime(2026, 11, 1, tzinfo=UTC)
WORK = Work(work_id="fox")
IN_FORCE = Limits(pdq=BitsLimit(flag_within_bits=64, block_within_bits=31))


def flagged(bits):
    """A verdict on an image so many bits from the fox."""
    return Verdict(
        image=f"{bits}.png",
        verdict_id=uuid4().hex,
        pixels_sha256=f"{bits:064d}",
        at=AT,
        decision="flag",
        rule="perceptual hash near a work",
        explanation="Flagged.",
        evidence=(HashMatch(work=WORK, signal="pdq", distance_bits=bits),),
        nearest=(Neighbour(work=WORK, row=0, signal="pdq", distance_bits=bits),),
        index_snapshot="0" * 64,
        policy_sha256="0" * 64,
        calibration="uncalibrated",
    )


def reviewed(**labels):
    """Cases by their distance: `reviewed(confirmed=[50], passed=[60])`."""
    cases = [
        Labelled(
            SimpleNamespace(verdict=flagged(bits), decided_at=AT), name == "confirmed", seconded=False, turned=False
        )
        for name, distances in labels.items()
        for bits in distances
    ]
    return Reviewed(tuple(cases), IN_FORCE, Policy.shipped())


def fitted(flag, block=31):
    return Limits(pdq=BitsLimit(flag_within_bits=flag, block_within_bits=block))


def test_limit_that_would_miss_a_confirmed_copy_stays_as_it_was_and_that_is_told():
    limits, used, (warning,) = reviewed(confirmed=[50, 40], passed=[60]).held_back(fitted(44))
    assert limits.pdq.flag_within_bits == 64
    assert (used.missed_unheld, used.missed, used.flags_held) == (1, 0, ("pdq",))
    assert used.still_flagged == 1
    assert "1 of 2 confirmed copies would be missed" in warning


def test_limit_that_misses_nothing_is_taken_as_fitted():
    limits, used, warnings = reviewed(confirmed=[40], passed=[60]).held_back(fitted(44))
    assert limits == fitted(44)
    assert (used.missed, used.still_flagged, warnings) == (0, 0, ())


def test_block_limit_does_not_come_to_block_what_people_let_pass():
    limits, used, (warning,) = reviewed(confirmed=[20], passed=[40]).held_back(fitted(64, block=45))
    assert limits.pdq.block_within_bits == 31
    assert used.blocks_held == ("pdq",)
    assert "let pass" in warning


def test_reviews_alone_never_loosen_a_flag_limit():
    limits, _, _ = reviewed(passed=[50, 60]).held_back(fitted(44))
    assert limits.pdq.flag_within_bits == 44


# --- the command -------------------------------------------------------------------------------------------


def drawing(seed, side=48):
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An index of one work, a background, and a ledger."""
    (tmp_path / "works").mkdir()
    (tmp_path / "background").mkdir()
    drawing(1).save(tmp_path / "works" / "fox.png")
    for seed in range(200):
        drawing(1000 + seed).save(tmp_path / "background" / f"{seed:03d}.png")
    settings = Settings(home=tmp_path, device="cpu")
    like = Recipe(embedder="fake")
    build_folder_index(tmp_path / "works", tmp_path / "index", settings, like, extra_plugins=[FakePlugin()])
    original = plugins.build_plugins
    monkeypatch.setattr(plugins, "build_plugins", lambda extra=(): original([*extra, FakePlugin()]))
    Memory(settings.memory_url).close()
    (tmp_path / "guardrail.toml").write_text(f'home = "{tmp_path}"\ndevice = "cpu"\nproof = "never"\n')
    return tmp_path


def calibrate(home, *words, **said):
    asked = ("--false-alarms", "0.05,0.02", "--settings", home / "guardrail.toml", "--from-reviews")
    given = ("index", "calibrate", home / "index", "--background", home / "background", *asked, *words)
    return CliRunner().invoke(app, [str(word) for word in given], **said)


def decide_one(home):
    memory = Memory(Settings(home=home).memory_url)
    memory.accounts.first_links({"default": "Default"})
    person = memory.accounts.open_account("default", "ada@example.org", "Ada", "reviewer")
    actor = Actor(account_id=person.account_id, organisation="default", role="reviewer")
    file = home / "case.png"
    drawing(9).save(file)
    memory.record_verdicts([Held(flagged(58), file.read_bytes())], None)
    (case,) = memory.open_cases()
    memory.reviews.decide(actor, case.case_id, DecisionAsked(outcome="withhold", reasons=("expression_copied",)))
    memory.close()


def test_without_decided_cases_the_command_says_so(home):
    done = calibrate(home)
    assert isinstance(done.exception, SettingsInvalid)
    assert "no decided cases" in str(done.exception)
    assert not (home / "index" / CALIBRATION).exists()


def test_nothing_is_written_without_consent_and_the_reviews_are_named_with_it(home):
    decide_one(home)
    refused = calibrate(home, input="n\n")
    assert refused.exit_code == 1
    assert "nothing was written" in refused.stderr
    assert not (home / "index" / CALIBRATION).exists()
    document = json.loads(calibrate(home, "--yes", "--json").stdout)
    assert document["written"]
    assert (document["reviews"]["confirmed"], document["reviews"]["missed"]) == (1, 0)
    assert document["limits"]["pdq"]["flag_within_bits"] >= 58  # the confirmed copy is still flagged
    stored = json.loads((home / "index" / CALIBRATION).read_text())
    assert stored["reviews"] == document["reviews"]
