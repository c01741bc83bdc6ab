"""Whether a work lets more pass than before is told from its dates as from asking it every day."""

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from guardrail.desk.web.protecting import explains, protects, weakens
from guardrail.records import Disposition, Work

NOW = datetime(2026, 11, 22, tzinfo=UTC)
DAY = timedelta(days=1)
DAYS = [None, NOW - DAY, NOW, NOW + DAY, NOW + 2 * DAY]
WORKS = [
    Work(work_id="w", disposition=disposition, opted_out_at=opted, expires_at=expires)
    for disposition, opted, expires in product(Disposition, DAYS, DAYS)
]
EVERY_MOMENT = [NOW + step * DAY / 2 for step in range(8)]
ORDER = [Disposition.PROTECT, None, Disposition.CREDIT, Disposition.IGNORE]  # each lets more pass than the one before


def ease(work, at):
    return ORDER.index(work.standing(at) if work else None)


def test_every_work_protects_and_explains_as_its_days_say():
    for work in WORKS:
        days = {work.standing(at) for at in EVERY_MOMENT}
        assert protects(work, NOW) == (Disposition.PROTECT in days), work
        assert explains(work, NOW) == bool(days & {Disposition.CREDIT, Disposition.IGNORE}), work


def test_every_pair_is_weaker_where_a_day_lets_more_pass_or_an_opt_out_is_lost():
    for before, after in product([None, *WORKS], repeat=2):
        eased = any(ease(after, at) > ease(before, at) for at in EVERY_MOMENT)
        opted = before.opted_out_at if before else None
        kept = after.opted_out_at if after else None
        lost = opted is not None and (kept is None or kept > max(opted, NOW))
        assert weakens(before, after, NOW) == (eased or lost), (before, after)


@pytest.mark.parametrize("microseconds", [-1, 0, 1])
def test_expiry_a_moment_earlier_is_weaker(microseconds):
    before = Work(work_id="w", expires_at=NOW + DAY)
    after = before.model_copy(update={"expires_at": NOW + DAY + timedelta(microseconds=microseconds)})
    assert weakens(before, after, NOW) == (microseconds < 0)
