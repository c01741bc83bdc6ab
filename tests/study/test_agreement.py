"""Agreement and precision: against a published example, and where little is known."""

import pytest

from guardrail.study.agreement import cohens_kappa, precisions, share_interval


def test_kappa_is_that_of_the_published_example():
    """Fleiss, "Statistical Methods for Rates and Proportions", 2nd ed., 1981, table 13.1: .68, standard error .087."""
    table = {("a", "a"): 75, ("a", "b"): 1, ("a", "c"): 4, ("b", "a"): 5, ("b", "b"): 4, ("b", "c"): 1, ("c", "c"): 10}
    found = cohens_kappa([pair for pair, count in table.items() for _ in range(count)])
    assert (found.pairs, found.agreed) == (100, 89)
    assert found.kappa == pytest.approx(0.68, abs=0.005)
    assert (found.high - found.low) / 2 / 1.96 == pytest.approx(0.087, abs=0.001)


def test_kappa_of_full_agreement_knows_how_little_few_pairs_say():
    few = cohens_kappa([("release", "release"), ("withhold", "withhold")])
    many = cohens_kappa([("release", "release"), ("withhold", "withhold")] * 50)
    assert few.kappa == many.kappa == 1
    assert few.low < 0 < many.low < 1


def test_kappa_of_no_agreement_knows_how_little_few_pairs_say():
    one = cohens_kappa([("release", "withhold")])
    many = cohens_kappa([("release", "withhold"), ("withhold", "release")] * 20)
    assert (one.kappa, one.low) == (0, 0)
    assert one.high > 0.9
    assert many.high < -0.7


def test_kappa_says_nothing_where_everybody_always_said_the_same():
    assert cohens_kappa([("release", "release")] * 9).kappa is None
    assert cohens_kappa([]).kappa is None


def test_precision_has_an_exact_interval():
    (rule, other) = precisions([("hash", True)] * 8 + [("hash", False)] * 2 + [("copy", False)])
    assert (rule.name, rule.reviewed, rule.confirmed, rule.share) == ("hash", 10, 8, 0.8)
    assert (rule.low, rule.high) == pytest.approx((0.4439, 0.9748), abs=1e-4)
    assert (other.low, other.high) == pytest.approx((0, 0.975), abs=1e-3)
    assert share_interval(0, 0) == (0.0, 1.0)
