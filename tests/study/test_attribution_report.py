import numpy as np
import pytest
from pulled import World

from guardrail.attribution_errors import AttributionImpossible
from guardrail.records import Attribution, AttributionMethod
from guardrail.study.attribution.checking import NamingCheck
from guardrail.study.attribution.naming import NamingRule
from guardrail.study.attribution.report import SAID, Likeness, ReportRule, attributed, check_line, headline, lines_of

METHOD = AttributionMethod(
    function="noise_norm", draws=8, counters=64, seed=1, damping=0.1, images=120, decoys=110, weights_sha256="0" * 64
)


def report(*owed, works=None, rule=None, likeness=None, decoys=110, copies=0):
    world = World(training=120, decoys=decoys)
    if copies:
        world.copy(20, copies)
    pulls = world.measured(world.asked(*owed))[0]
    method = METHOD.model_copy(update={"decoys": decoys})
    return attributed(pulls, world.baseline(), works or world.works(_17="Ada"), method, rule, likeness)


def test_a_work_that_stands_out_is_named_with_all_that_is_known():
    found = report((17, 1.0), likeness=Likeness(np.full(120, 0.25), np.full(120, 1 / 120)))
    assert [one.work.work_id for one in found.named] == ["17"]
    told = found.influences[0]
    assert told.named and told.p_value == pytest.approx(1 / 111) and told.q_value <= 0.1
    assert (told.similarity, told.posterior) == pytest.approx((0.25, 1 / 120))
    assert [one.holder for one in found.shares] == ["Ada"]
    assert found.shares[0].share + found.unattributed == pytest.approx(1, abs=1e-9)
    assert Attribution.model_validate_json(found.model_dump_json()) == found


def test_no_single_training_image_stands_out_is_a_normal_answer():
    found = report()
    assert found.named == () and found.shares == () and found.unattributed == 1
    assert len(found.influences) == 20
    assert lines_of(found)[0] == headline(found) == "no single training image stands out"


def test_too_few_decoys_say_how_many_are_needed():
    found = report((17, 1.0), decoys=50)
    assert found.named == ()
    assert headline(found) == "no training image can be named: 50 decoys are too few, 99 are needed"


def test_influences_are_told_most_first_and_as_many_as_asked():
    found = report((17, 1.0), (40, 0.5), rule=ReportRule(shown=7))
    values = [one.influence for one in found.influences]
    assert len(values) == 7
    assert values == sorted(values, reverse=True)


def test_what_is_named_is_told_even_beyond_what_is_shown():
    found = report((17, 1.0), (40, 1.0), (41, 1.0), rule=ReportRule(NamingRule("p_value", at_p=0.05), shown=1))
    assert len(found.influences) == max(1, len(found.named)) >= 3


def test_near_duplicates_are_told_as_one_by_the_most_influential():
    alike = np.linspace(0, 0.9, 120)
    found = report((20, 1.0), copies=6, likeness=Likeness(alike, np.full(120, 0.005)))
    told = found.influences[0]
    assert told.members == 6
    assert told.work.work_id in {str(row) for row in range(20, 26)}
    assert told.similarity == pytest.approx(alike[25])
    assert told.posterior == pytest.approx(0.03)
    assert "6 near-duplicates counted as one" in "\n".join(lines_of(found))


def test_agreement_of_the_halves_is_in_the_record_and_in_words():
    found = report((17, 1.0))
    assert found.agreement is not None and 0 <= found.agreement <= 1
    assert found.rank_agreement is not None
    assert f"by a Jaccard index of {found.agreement:.2f}" in "\n".join(lines_of(found))


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (NamingRule(), "p <= 0.01 among 110 decoys, and at most 10% of those named false"),
        (NamingRule("p_value", at_p=0.05), "pass p <= 0.05 among 110 decoys"),
        (NamingRule("rate", at_rate=0.2), "pass at most 20% of those named false"),
    ],
)
def test_the_rule_is_entered_into_the_method_and_told(rule, said):
    found = report((17, 1.0), rule=ReportRule(rule))
    assert (found.method.named_by, found.method.name_at_p, found.method.name_at_rate) == rule
    assert said in "\n".join(lines_of(found))


def test_every_report_says_what_it_is_and_what_not():
    for found in (report(), report((17, 1.0)), report(decoys=0)):
        assert lines_of(found)[-1].startswith(SAID)
        assert "no proof that anything was copied" in lines_of(found)[-1]


def test_without_decoys_there_is_an_order_and_nothing_else():
    found = report((17, 1.0), decoys=0)
    assert found.influences[0].work.work_id == "17"
    assert found.influences[0].p_value is None and found.influences[0].q_value is None
    assert found.named == () and found.unattributed == 1


def test_similarity_is_told_in_a_clause_of_its_own_and_changes_nothing():
    plain = report((17, 1.0))
    alike = report((17, 1.0), likeness=Likeness(similarity=np.linspace(-1, 1, 120)))
    assert [one.work for one in plain.influences] == [one.work for one in alike.influences]
    assert [one.influence for one in plain.influences] == [one.influence for one in alike.influences]
    assert "similarity -0.71, which is another thing" in "\n".join(lines_of(alike))


def test_works_or_likenesses_that_do_not_match_the_rows_are_refused():
    with pytest.raises(AttributionImpossible, match="one for each training image"):
        report(works=World(training=119).works())
    with pytest.raises(AttributionImpossible, match="similarities"):
        report(likeness=Likeness(similarity=np.zeros(5)))


def test_false_naming_is_told_in_counts():
    assert check_line(NamingCheck(300, 26, 0.0011, 0.0034)) == (
        "on 300 decoys asked about as pictures, anything was named for 26 (8.7%); "
        "of decoys passed off as training images 0.34% were named"
    )
    assert check_line(NamingCheck(0, 0, 0.0, 0.0)).startswith("false naming cannot be counted")
