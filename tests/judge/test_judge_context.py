"""Rules that speak of the run: what they ask, and that what nobody knows never makes a verdict milder."""

from datetime import UTC, datetime

import pytest

from guardrail.judge import Findings, decide
from guardrail.records import (
    Adapter,
    CheckFailed,
    CopyMatch,
    Decision,
    ExactMatch,
    GenerationContext,
    InputMatch,
    InputPicture,
    Limits,
    MemorisationSign,
    Signal,
    SignUnavailable,
    SimilarityLimit,
    Work,
)
from guardrail.settings import Policy, RunCondition

NOW = datetime(2026, 11, 22, tzinfo=UTC)
LIMITS = Limits(copy=SimilarityLimit(flag_above=0.7, block_above=0.9))
FOX = Work(work_id="fox", title="Fox", creator="Åsa", bank="animals", multiplicity=7)
NEAR = CopyMatch(work=FOX, similarity=0.8)  # flagged by the shipped policy
COPY = CopyMatch(work=FOX, similarity=0.95)  # blocked
LORA = Adapter(name="cats-v2", trained_on=40)
RUN = GenerationContext(pipeline="FluxPipeline", adapters=(LORA,))


def judged(*evidence, rules, run=RUN):
    about = Findings("images[0]", "a" * 64, tuple(evidence), (), LIMITS, "b" * 64, NOW, run=run)
    shipped = [rule.model_dump() for rule in Policy.shipped().rules]
    return decide(about, Policy.model_validate({"rules": [*rules, *shipped]}))


def rule(decision, evidence="copy_match", **when):
    return {"name": "the rule", "evidence": evidence, "decision": decision, "when": when}


def run(**said):
    return GenerationContext.model_validate({"pipeline": "FluxPipeline", **said})


FEW = {"adapter_trained_on_fewer_than": 50}


def test_adapter_trained_on_few_images_and_a_likeness_above_flag_blocks():
    verdict = judged(NEAR, rules=[rule("block", **FEW)])
    assert (verdict.decision, verdict.rule) == (Decision.BLOCK, "the rule")
    assert verdict.explanation.startswith("Blocked: the rule; copy similarity 0.800")


HOLDS = [
    (FEW, RUN),
    (FEW | {"adapter": "cats-*"}, RUN),
    ({"adapter": "cats-v?"}, RUN),
    ({"adapter": "cats"}, run(adapters=[Adapter(name="default_0", known_as="cats")])),  # renamed, and still the same
    ({"adapter": "cats"}, run(adapters=[Adapter(name="cats", doubted=True), Adapter(name="x", known_as="cats")])),
    ({"pipeline": "Flux*"}, RUN),
    ({"strength_below": 0.5}, run(strength=0.49)),
    ({"has_input": "mask"}, run(inputs=[{"name": "mask_image", "role": "mask"}])),
    ({"multiplicity_at_least": 7}, None),
    ({"multiplicity_at_least": 7, "pipeline": "Flux*"}, RUN),
]
FAILS = [
    ({"adapter_trained_on_fewer_than": 40}, RUN),
    (FEW | {"adapter": "dogs"}, RUN),
    ({"adapter": "dogs"}, RUN),
    (FEW, run()),
    ({"pipeline": "Stable*"}, RUN),
    ({"strength_below": 0.5}, run(strength=0.5)),
    ({"strength_below": 0.5}, run()),  # read, and there was none: no picture was given to start from
    ({"has_input": "mask"}, run(inputs=[{"name": "image", "role": "init"}])),
    ({"multiplicity_at_least": 8}, None),
    ({"multiplicity_at_least": 8, "pipeline": "Flux*"}, None),  # what fails makes up for what is not known
    ({"repeats_input": True}, RUN),
]
UNKNOWN = [
    (FEW, None),
    (FEW, run(adapters=[Adapter(name="cats-v2")])),
    (FEW, run(unread=["adapters: weights changed"])),
    ({"adapter": "cats"}, run(adapters=[Adapter(name="cats", known_as="cats", doubted=True)])),
    (FEW | {"adapter": "cats"}, run(adapters=[Adapter(name="cats", kind="controlnet", doubted=True)])),
    ({"adapter": "dogs"}, run(unread=["adapters: weights changed"])),
    ({"pipeline": "Flux*"}, None),
    ({"strength_below": 0.5}, None),
    ({"strength_below": 0.5}, run(unread=["strength: a Tensor"])),
    ({"strength_below": 0.5}, run(unread=["arguments: too many"])),
    ({"has_input": "mask"}, None),
    ({"has_input": "mask"}, run(unread=["inputs: 3 of 9 were not looked at"])),
    ({"repeats_input": True}, None),
    ({"repeats_input": False}, run(inputs=[InputPicture(name="image", role="init")])),
    ({"sign": "text_gap"}, RUN),
]


@pytest.mark.parametrize(("when", "about"), HOLDS)
def test_rule_applies_where_its_condition_holds(when, about):
    for decision in ("block", "accept"):
        verdict = judged(NEAR, rules=[rule(decision, **when)], run=about)
        assert (verdict.decision, verdict.rule) == (Decision(decision), "the rule")


@pytest.mark.parametrize(("when", "about"), FAILS)
def test_rule_does_not_apply_where_its_condition_fails(when, about):
    for decision in ("block", "accept"):
        assert judged(NEAR, rules=[rule(decision, **when)], run=about).rule == "copy descriptor near a work"


@pytest.mark.parametrize(("when", "about"), UNKNOWN)
def test_what_is_not_known_makes_a_stricter_rule_apply_and_a_laxer_one_not(when, about):
    strict = judged(NEAR, rules=[rule("block", **when)], run=about)
    assert (strict.decision, strict.rule) == (Decision.BLOCK, "the rule")
    assert strict.explanation.startswith("Blocked as the run is not known well enough: the rule;")
    lax = judged(NEAR, rules=[rule("accept", **when)], run=about)
    assert (lax.decision, lax.rule) == (Decision.FLAG, "copy descriptor near a work")
    same = judged(NEAR, rules=[rule("flag", **when)], run=about)
    assert (same.decision, same.rule) == (Decision.FLAG, "copy descriptor near a work")


def test_laxer_rule_on_an_unknown_run_does_not_hide_a_stricter_one_behind_it():
    rules = [rule("accept", **FEW), {**rule("block", pipeline="Flux*"), "name": "second"}]
    verdict = judged(NEAR, rules=rules, run=None)
    assert (verdict.decision, verdict.rule) == (Decision.BLOCK, "second")


def test_unknown_run_never_makes_an_accept_of_a_copy():
    policy = Policy.model_validate({"rules": [rule("accept", **FEW)]})
    about = Findings("a", "a" * 64, (COPY,), (), LIMITS, "b" * 64, NOW)
    assert decide(about, policy).decision is Decision.BLOCK


def sign(reaches, name="text_gap"):
    return MemorisationSign(sign=name, value=3.25, reaches=reaches, step=1)


def test_sign_at_its_block_limit_is_flagged_by_the_shipped_policy():
    verdict = judged(sign(Decision.BLOCK), rules=[])
    assert verdict.decision is Decision.FLAG
    assert verdict.explanation == (
        "Flagged: signs of memorisation while it was made; the sign 'text_gap' is 3.25 at step 1."
    )
    assert judged(sign(Decision.FLAG), rules=[]).decision is Decision.ACCEPT
    assert judged(sign(Decision.ACCEPT), rules=[]).decision is Decision.ACCEPT


def test_sign_that_was_not_available_alone_asks_for_nothing_but_may_have_a_rule():
    missing = SignUnavailable(sign="text_gap", reason="one call a step")
    assert judged(missing, rules=[]).decision is Decision.ACCEPT
    asked = {"name": "no sign", "evidence": "sign_unavailable", "signal": "text_*", "decision": "flag"}
    assert judged(missing, rules=[asked]).decision is Decision.ACCEPT  # signals are named whole
    verdict = judged(missing, rules=[asked | {"signal": "text_gap"}])
    assert verdict.explanation == "Flagged: no sign; the sign 'text_gap' could not be measured: one call a step."


@pytest.mark.parametrize(
    ("signs", "expected"),
    [
        ([sign(Decision.FLAG)], Decision.BLOCK),
        ([sign(Decision.ACCEPT)], Decision.FLAG),
        ([sign(Decision.ACCEPT), SignUnavailable(sign="text_gap", reason="r")], Decision.BLOCK),
        ([sign(Decision.ACCEPT, "other"), SignUnavailable(sign="text_gap", reason="r")], Decision.BLOCK),
        ([], Decision.BLOCK),
    ],
)
def test_rule_may_ask_for_a_sign_besides_a_match(signs, expected):
    assert judged(NEAR, *signs, rules=[rule("block", sign="text_*")]).decision is expected


def repeated(work=FOX, name="image"):
    return InputMatch(input=name, role="init", signal=Signal.COPY, similarity=0.93, works=(work,) if work else ())


def test_copy_that_the_users_own_input_already_is_says_so_and_stays_blocked():
    verdict = judged(COPY, repeated(), rules=[])
    assert verdict.decision is Decision.BLOCK
    assert verdict.input_repeated == "image"
    assert verdict.explanation.endswith(
        "(bank animals); it repeats the user's own input 'image', which is a copy of that work: not memorisation, and "
        "no retry can help."
    )


def test_repeated_input_that_copies_no_work_is_evidence_only():
    verdict = judged(repeated(None), rules=[])
    assert (verdict.decision, verdict.input_repeated) == (Decision.ACCEPT, None)
    other = judged(COPY, repeated(None), rules=[])
    assert (other.decision, other.input_repeated) == (Decision.BLOCK, None)


def test_input_that_copies_another_work_excuses_nothing():
    owl = FOX.model_copy(update={"work_id": "owl"})
    assert judged(COPY, repeated(owl), rules=[]).input_repeated is None
    both = judged(COPY, CopyMatch(work=owl, similarity=0.99), repeated(), rules=[])
    assert both.input_repeated is None  # the owl is a copy that no input explains
    assert judged(COPY, CopyMatch(work=owl, similarity=0.8), repeated(), rules=[]).input_repeated == "image"


def test_policy_may_be_milder_where_the_user_gets_the_own_input_back():
    verdict = judged(COPY, repeated(), rules=[rule("flag", repeats_input=True)])
    assert (verdict.decision, verdict.rule, verdict.input_repeated) == (Decision.FLAG, "the rule", "image")
    assert judged(COPY, rules=[rule("flag", repeats_input=True)]).decision is Decision.BLOCK


def test_rule_may_speak_of_repeated_inputs():
    asked = {"name": "own input", "evidence": "input_match", "signal": "copy", "decision": "flag"}
    verdict = judged(repeated(None), rules=[asked])
    assert verdict.explanation == (
        "Flagged: own input; copy similarity 0.930 (limit 0.900, uncalibrated) with the user's own input 'image'."
    )


@pytest.mark.parametrize(
    "said",
    [
        {"evidence": "check_failed", "decision": "block", "when": {"multiplicity_at_least": 2}},
        {"evidence": "memorisation_sign", "decision": "flag", "when": {"repeats_input": True}},
        {"evidence": "exact_match", "decision": "accept", "when": {"adapter": "*"}},
        {"evidence": "check_failed", "decision": "accept", "when": {"pipeline": "*"}},
        {"evidence": "copy_match", "decision": "flag", "when": {"model": "x"}},
        {"evidence": "input_match", "signal": "clip", "decision": "flag"},
    ],
)
def test_rule_that_cannot_fit_or_waves_copies_through_is_refused(said):
    with pytest.raises(ValueError, match=r"rule|Extra inputs"):
        Policy.model_validate({"rules": [{"name": "r", **said}]})


def test_policies_without_conditions_keep_their_digest():
    policy = Policy.model_validate({"rules": [{"name": "r", "evidence": "copy_match", "decision": "flag"}]})
    before_rules_had_conditions = "7b769505873034fb365a6d038210c2b4bd68bbe61fcc2de7f0fe650a43cf807b"
    assert policy.sha256 == before_rules_had_conditions
    asked = policy.rules[0].model_copy(update={"when": RunCondition(pipeline="x")})
    assert Policy(rules=(asked,)).sha256 != policy.sha256


def test_without_rules_on_the_run_the_run_changes_no_verdict():
    for evidence in (
        (NEAR,),
        (COPY,),
        (ExactMatch(work=FOX, signal=Signal.PIXELS),),
        (CheckFailed(check="x", image="a", error="e"),),
    ):
        with_run, without = (judged(*evidence, rules=[], run=one) for one in (RUN, None))
        same = ("decision", "rule", "explanation", "evidence", "policy_sha256")
        assert all(getattr(with_run, name) == getattr(without, name) for name in same)


def test_verdict_names_the_run_and_the_adapters_indexes():
    about = Findings("a", None, (), (), LIMITS, "b" * 64, NOW, run=RUN, adapter_snapshots={"cats-v2": "c" * 64})
    verdict = decide(about, Policy.shipped())
    assert (verdict.run_id, verdict.adapter_snapshots) == (RUN.run_id, {"cats-v2": "c" * 64})
