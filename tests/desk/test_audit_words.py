import pytest

from guardrail.desk.audit_words import figure
from guardrail.records import Measured


@pytest.mark.parametrize(
    ("measured", "row"),
    [
        (
            Measured(name="generations_copies", value=0.46875, over=256, low=0.4063, high=0.5319),
            ("generations that copy a work", "46.9%", "40.6% to 53.2%", "256"),
        ),
        (
            Measured(name="held_out_by_guard", value=0, over=584, low=0, high=0.0063),
            (
                "held-out pictures that would be taken for copies, by guardrail's own look",
                "0.0%",
                "0.0% to 0.6%",
                "584",
            ),
        ),
        (Measured(name="eidetic_k1", value=59, over=59), ("of them, shown by one training picture", "59", "", "59")),
        (Measured(name="eidetic_k10", value=59, over=59), ("of them, shown by 10 at most", "59", "", "59")),
        (Measured(name="works_asked", value=3000, over=3952), ("works that were asked for", "3,000", "", "3,952")),
        (
            Measured(name="smallest_share_seen", value=0.0614, over=256),
            ("a picture is seen where it makes this share of generations", "6.1%", "", "256"),
        ),
        (Measured(name="epsilon is at least", value=4.0912, over=180), ("epsilon is at least", "4.091", "", "180")),
        (Measured(name="generations_of_a_plugin", value=2, over=3), ("generations of a plugin", "2", "", "3")),
    ],
)
def test_figure_is_said_in_plain_words(measured, row):
    assert figure(measured) == row
