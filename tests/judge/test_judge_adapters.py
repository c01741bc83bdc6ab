"""What the settings know of adapters: facts, further indexes, and adapters that are not the ones they say."""

import pytest

from guardrail.judge import active_adapter_indexes, adapter_failures, decide, with_adapter_facts
from guardrail.judge.decide import Findings
from guardrail.records import Adapter, Decision, GenerationContext, Limits
from guardrail.settings import AdapterSettings, Policy, Settings

CATS, OTHER = "a" * 64, "b" * 64
KNOWN = {
    "cats": AdapterSettings(sha256=CATS, trained_on=40, index="indexes/cats"),
    "dogs": AdapterSettings(trained_on=2000, index="indexes/dogs"),
    "plain": AdapterSettings(trained_on=3),
}


def run(*adapters, **said):
    return GenerationContext(pipeline="P", adapters=adapters, **said)


@pytest.mark.parametrize(
    ("adapter", "trained_on"),
    [
        (Adapter(name="cats", sha256=CATS), 40),
        (Adapter(name="default_0", sha256=CATS), 40),  # it is what it is, whatever it is called
        (Adapter(name="cats", sha256=OTHER), None),
        (Adapter(name="cats"), None),
        (Adapter(name="dogs", sha256=OTHER), 2000),
        (Adapter(name="birds"), None),
    ],
)
def test_facts_of_an_adapter_come_from_the_settings(adapter, trained_on):
    (told,) = with_adapter_facts(run(adapter), KNOWN).adapters
    assert told.trained_on == trained_on
    assert told.model_copy(update={"trained_on": None, "known_as": None, "doubted": False}) == adapter


def test_adapter_is_doubted_until_its_sha256_is_the_one_of_the_settings():
    adapters = [Adapter(name="cats", sha256=OTHER), Adapter(name="cats"), Adapter(name="x", sha256=CATS)]
    told = with_adapter_facts(run(*adapters, Adapter(name="birds"), Adapter(name="dogs")), KNOWN).adapters
    assert [one.doubted for one in told] == [True, True, False, False, False]
    assert [one.known_as for one in told] == ["cats", "cats", "cats", None, "dogs"]
    late = told[1].model_copy(update={"sha256": CATS})
    (known,) = with_adapter_facts(run(late), KNOWN).adapters
    assert (known.doubted, known.trained_on) == (False, 40)


def test_indexes_of_the_adapters_that_are_on_are_searched():
    both = run(Adapter(name="cats", sha256=CATS), Adapter(name="dogs", fused=True), Adapter(name="plain"))
    assert [tuple(one) for one in active_adapter_indexes(both, KNOWN)] == [
        ("cats", "indexes/cats"),
        ("dogs", "indexes/dogs"),
    ]
    assert active_adapter_indexes(run(Adapter(name="birds")), KNOWN) == ()
    assert active_adapter_indexes(None, KNOWN) == ()


def test_adapter_of_a_known_name_has_its_index_searched_even_if_it_is_another():
    assert [one.adapter for one in active_adapter_indexes(run(Adapter(name="cats", sha256=OTHER)), KNOWN)] == ["cats"]


def test_every_index_is_searched_where_the_adapters_are_not_known():
    unread = run(unread=("adapters: the weights of unet changed",))
    assert [one.adapter for one in active_adapter_indexes(unread, KNOWN)] == ["cats", "dogs"]


@pytest.mark.parametrize("sha256", [OTHER, None])
def test_adapter_that_is_not_the_one_of_the_settings_is_flagged(sha256):
    (failure,) = adapter_failures(run(Adapter(name="cats", sha256=sha256)), KNOWN, "images[0]")
    assert (failure.check, failure.image) == ("adapter", "images[0]")
    from datetime import UTC, datetime

    about = Findings("images[0]", CATS, (failure,), (), Limits(), CATS, datetime(2026, 11, 22, tzinfo=UTC))
    verdict = decide(about, Policy.shipped())
    assert (verdict.decision, verdict.rule) == (Decision.FLAG, "an adapter is not the one that the settings name")


def test_adapters_that_are_right_or_unknown_fail_no_check():
    fine = run(Adapter(name="cats", sha256=CATS), Adapter(name="dogs"), Adapter(name="birds", sha256=OTHER))
    assert adapter_failures(fine, KNOWN, "a") == ()
    assert adapter_failures(None, KNOWN, "a") == ()


def test_adapter_over_two_parts_fails_one_check():
    twice = run(*(Adapter(name="cats", sha256=OTHER, component=part) for part in ("unet", "text_encoder")))
    assert len(adapter_failures(twice, KNOWN, "a")) == 1


def test_adapters_are_read_from_a_settings_file(tmp_path):
    text = f'[adapters.cats]\nsha256 = "{CATS}"\ntrained_on = 40\nindex = "indexes/cats"\n[adapters.far]\nindex = "milvus://h/d"\n'
    (tmp_path / "guardrail.toml").write_text(text)
    settings = Settings.from_file(tmp_path / "guardrail.toml")
    assert settings.adapters["cats"].index == str(tmp_path / "indexes/cats")
    assert settings.adapters["far"].index == "milvus://h/d"
    assert settings.adapters["cats"].trained_on == 40
