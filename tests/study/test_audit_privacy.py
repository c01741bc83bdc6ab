import math
import time
from dataclasses import replace

import numpy as np
import pytest
from attacked import pictures, quiet, subject
from scipy.stats import binom, binomtest

from guardrail.errors import AuditImpossible
from guardrail.records import AuditOutcome, PrivacyAudit, PrivacyClaim, PrivacyStatement
from guardrail.study.audit.asks import AuditPart, Budget
from guardrail.study.audit.privacy import (
    Guesses,
    PrivacyBound,
    by_a_coin,
    chance_of_as_many,
    epsilon_by_guesses,
    epsilon_by_rates,
    guess,
    pictures_needed,
    read_statement,
    write_statement,
)

MEMBERS, OTHERS = pictures(40, 1), pictures(40, 2)


@pytest.fixture(scope="module")
def model():
    return subject(MEMBERS, OTHERS, knows=MEMBERS)


# --- bounds -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("made", [10, 100, 1000])
def test_guesses_that_are_all_right_prove_the_epsilon_of_the_closed_form(made):
    right_share = 0.05 ** (1 / made)  # (e^eps / (1 + e^eps))^made = 5 %
    assert epsilon_by_guesses(Guesses(made, made, made)) == pytest.approx(math.log(right_share / (1 - right_share)))


def test_at_epsilon_zero_the_chance_is_that_of_a_coin():
    assert chance_of_as_many(Guesses(50, 40, 27), 0.0) == pytest.approx(binomtest(27, 40, alternative="greater").pvalue)


@pytest.mark.parametrize(("epsilon", "delta"), [(0.5, 1e-3), (2.0, 1e-5), (0.0, 0.0)])
def test_the_chance_under_delta_agrees_with_the_plain_sum(epsilon, delta):
    guesses = Guesses(200, 60, 45)
    share = math.exp(epsilon) / (1 + math.exp(epsilon))
    law = [math.comb(60, k) * share**k * (1 - share) ** (60 - k) for k in range(61)]
    steepest = max(sum(law[45 - i : 45]) / i for i in range(1, 46))
    assert chance_of_as_many(guesses, epsilon, delta) == pytest.approx(sum(law[45:]) + 2 * 200 * delta * steepest)


def test_a_larger_delta_proves_less():
    bounds = [epsilon_by_guesses(Guesses(500, 200, 180), delta) for delta in (0.0, 1e-5, 1e-3, 0.1)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] > bounds[2] > bounds[3]


def test_the_bound_on_randomised_response_is_wrong_no_more_often_than_it_says():
    epsilon, right = 1.0, np.arange(101)
    bounds = np.array([epsilon_by_guesses(Guesses(100, 100, int(count))) for count in right])
    share = math.exp(epsilon) / (1 + math.exp(epsilon))  # what an exactly epsilon-private coin lets one guess
    wrong = float(binom.pmf(right, 100, share)[bounds > epsilon].sum())
    assert 0.01 < wrong <= 0.05


def test_guesses_that_are_half_right_prove_nothing():
    assert epsilon_by_guesses(Guesses(100, 100, 50)) == 0.0


def test_rates_without_a_false_alarm_prove_the_epsilon_of_the_closed_form():
    no_alarm, all_found = 1 - 0.025 ** (1 / 100), 0.025 ** (1 / 100)  # Clopper and Pearson at their ends
    assert epsilon_by_rates(100, 100, 0, 100) == pytest.approx(math.log(all_found / no_alarm))
    assert epsilon_by_rates(100, 100, 0, 100, delta=0.1) == pytest.approx(math.log((all_found - 0.1) / no_alarm))
    assert epsilon_by_rates(30, 100, 30, 100) == 0.0
    assert epsilon_by_rates(0, 10, 10, 10) == 0.0


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 4.0])
def test_as_many_pictures_as_are_needed_are_enough_and_fewer_are_not(epsilon):
    needed = pictures_needed(epsilon)
    enough = needed - int(0.3 * needed)  # the others choose the attack
    assert epsilon_by_guesses(Guesses(enough, enough, enough)) > epsilon
    fewer = enough - 2
    assert epsilon_by_guesses(Guesses(fewer, fewer, fewer)) <= epsilon


def test_no_number_of_pictures_tests_an_endless_epsilon():
    assert pictures_needed(1000.0) is None


# --- coins and guesses ------------------------------------------------------------------------------------------


def test_a_loaded_coin_is_made_fair():
    many = subject(pictures(800, 3), pictures(200, 4), knows=MEMBERS)
    kept = by_a_coin(many, 0.8, 10_000)
    assert sum(not one.is_member for one in kept) == 200
    assert 150 < sum(one.is_member for one in kept) < 250
    assert len(set(kept)) == len(kept)
    few = subject(pictures(200, 4), pictures(800, 3), knows=MEMBERS)
    assert sum(one.is_member for one in by_a_coin(few, 0.2, 10_000)) == 200
    assert len(by_a_coin(few, 0.2, 30)) == 30


def test_pictures_that_chose_the_attack_are_not_guessed():
    chance = np.random.default_rng(0)
    is_member = chance.random(200) < 0.5
    blind, sharp = chance.normal(size=200), np.where(is_member, -1.0, 1.0)
    found = guess({"blind": blind, "sharp": sharp}, is_member)
    assert found.pictures == 140
    assert found.right == found.made > 100
    assert guess({"blind": blind}, is_member).right < 100


# --- the part ---------------------------------------------------------------------------------------------------


def test_a_claim_is_refuted_by_an_overfitted_model(model):
    part = PrivacyBound(PrivacyClaim(epsilon=0.5, delta=1e-6, trained_share=0.5))
    assert isinstance(part, AuditPart)
    found = part.run(model, Budget(), quiet)
    assert found.outcome is AuditOutcome.MEMORISED
    assert "refuted" in found.reason
    audit = part.audit(found, "a" * 64)
    assert audit.epsilon_at_least > 0.5
    assert audit.pictures == 56
    assert audit.right <= audit.guesses
    statement = PrivacyStatement(claim=part.claim, audits=(audit,))
    assert statement.standing == "refuted"


def test_a_claim_that_no_attack_on_so_few_pictures_could_refute_stands_untested(model):
    part = PrivacyBound(PrivacyClaim(epsilon=8.0, trained_share=0.5))
    found = part.run(model, Budget(), quiet)
    assert found.outcome is AuditOutcome.COULD_NOT_TELL
    assert str(pictures_needed(8.0)) in found.reason
    assert PrivacyStatement(claim=part.claim, audits=(part.audit(found),)).standing == "untested"


def test_a_claim_that_could_be_refuted_and_is_not_is_clean():
    unknown = subject(MEMBERS, OTHERS, knows=pictures(10, 5))
    part = PrivacyBound(PrivacyClaim(epsilon=1.0, trained_share=0.5))
    found = part.run(unknown, Budget(), quiet)
    assert found.outcome is AuditOutcome.CLEAN
    assert PrivacyStatement(claim=part.claim, audits=(part.audit(found),)).standing == "not refuted"


def test_the_claim_beside_the_weights_is_the_one_that_is_tested(model, tmp_path):
    model.pipeline.save_pretrained(tmp_path)
    write_statement(tmp_path, PrivacyStatement(claim=PrivacyClaim(epsilon=0.25, trained_share=0.5)))
    loaded = type(model.pipeline).from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    found = PrivacyBound().run(replace(model, pipeline=loaded), Budget(), quiet)
    assert found.outcome is AuditOutcome.MEMORISED
    assert found.reason.startswith("the claim of (0.25, 0)-differential privacy is refuted")


@pytest.mark.parametrize("lacks", ["claim", "coin", "denoiser", "time", "pictures"])
def test_a_claim_that_was_not_put_to_the_test_is_never_clean(model, lacks):
    part, budget = PrivacyBound(PrivacyClaim(epsilon=0.1, trained_share=0.5)), Budget()
    if lacks == "coin":
        part = PrivacyBound(PrivacyClaim(epsilon=0.1))
    elif lacks == "claim":
        part = PrivacyBound()
    elif lacks == "denoiser":
        model = replace(model, denoiser=None)
    elif lacks == "time":
        budget = Budget(ends_at=time.monotonic() - 1)
    else:
        part = replace(part, most=19)
    found = part.run(model, budget, quiet)
    assert found.outcome is AuditOutcome.COULD_NOT_TELL
    assert part.audit(found) is None


# --- the statement ----------------------------------------------------------------------------------------------


def test_a_statement_lies_beside_the_weights(tmp_path):
    assert read_statement(tmp_path) is None
    statement = PrivacyStatement(claim=PrivacyClaim(epsilon=2.0, delta=1e-5, made_by="the trainer", mechanism="DP-SGD"))
    assert write_statement(tmp_path, statement).name == "privacy_claim.json"
    assert read_statement(tmp_path) == statement
    assert [one.name for one in tmp_path.iterdir()] == ["privacy_claim.json"]
    assert statement.standing == "untested"


def test_what_an_older_audit_proved_stays_proved():
    from datetime import UTC, datetime

    refuting = PrivacyAudit(
        at=datetime.now(UTC), epsilon_at_least=3, could_prove=4, confidence=0.95, pictures=50, guesses=50, right=50
    )
    weaker = refuting.model_copy(update={"epsilon_at_least": 0.1, "right": 30})
    assert PrivacyStatement(claim=PrivacyClaim(epsilon=2), audits=(refuting, weaker)).standing == "refuted"


@pytest.mark.parametrize(
    "content", ["", "{", '{"claim": {"epsilon": -1}}', '{"schema_version": 2, "claim": {"epsilon": 1}}']
)
def test_a_statement_that_is_none_is_an_error(tmp_path, content):
    (tmp_path / "privacy_claim.json").write_text(content)
    with pytest.raises(AuditImpossible, match="privacy_claim"):
        read_statement(tmp_path)
