"""What was released, with which adapters and near which works, is read from the rows of the ledger."""

from datetime import UTC, datetime, timedelta

import pytest

from guardrail.errors import LedgerBroken, LedgerRowMissing
from guardrail.memory import Held
from guardrail.memory.appending import append
from guardrail.records import (
    Adapter,
    AdapterShare,
    Attribution,
    AttributionMethod,
    Credit,
    Decision,
    GenerationContext,
    Neighbour,
    ReviewDecision,
    Signal,
    Work,
)

pytestmark = pytest.mark.usefixtures("both_stores")

NOW = datetime(2026, 11, 22, tzinfo=UTC)
FOX = Credit(work_id="fox", bank="zoo", title="A fox", creator="Ada", rights_holder="Zoo Ltd", licence="CC-BY")
ELK = Work(work_id="elk", bank="woods", title="An elk", creator="Bo", rights_holder="Woods Inc")
METHOD = AttributionMethod(
    function="noise_norm", draws=1, counters=1, seed=0, damping=1, images=1, decoys=1, weights_sha256="e" * 64
)


class Releasing:
    """Enters verdicts and releases as a guard does."""

    def __init__(self, memory, making):
        self.memory, self.making = memory, making

    def judge(self, digit, *, adapters=("a",), organisation="default", earlier=None, **also):
        made = self.making.verdict(verdict_id=digit * 32, earlier_verdict_id=earlier and earlier * 32)
        verdict = made.model_copy(update=also)
        laid = tuple(Adapter(name=name, weight=0.5, sha256=name * 64) for name in adapters or ())
        run = None if adapters is None else GenerationContext(pipeline="P", adapters=laid)
        self.memory.record_verdicts([Held(verdict, None, None, organisation)], run)
        return verdict

    def release(self, digit, *, days=0, intent=None, **also):
        said = {"verdict_id": digit * 32, "intent_id": intent and intent * 32, "at": NOW + timedelta(days=days)}
        self.memory.record_release(self.making.release(digit, f"{digit}.png", **(said | also)))

    def used(self, *args):
        return [one.verdict_id[0] for one in self.memory.usage.images(*args)]


@pytest.fixture
def ledger(memory, making):
    return Releasing(memory, making)


def attribution(digit, share=0.25, **also):
    adapters = (AdapterShare(name="a", sha256="a" * 64, share=share),)
    return Attribution(verdict_id=digit * 32, method=METHOD, adapters=adapters, base_share=1 - share, **also)


def test_released_image_is_used_and_a_judged_one_is_not(ledger):
    ledger.judge("1", credits=(FOX,))
    ledger.judge("2")
    ledger.release("1")
    (one,) = ledger.memory.usage.images()
    assert [adapter.name for adapter in one.run.adapters] == ["a"]
    assert one.credits == (FOX,)
    assert one.at == NOW
    assert one.shares is None


def test_withdrawn_release_is_not_used(ledger):
    for digit in "12":
        ledger.judge(digit)
        ledger.release(digit)
    ledger.memory.record_withdrawal("1" * 32, "the decision was taken back")
    assert ledger.used() == ["2"]
    ledger.release("1")
    assert ledger.used() == ["2", "1"]


def test_image_that_is_released_twice_counts_once_at_its_first(ledger):
    ledger.judge("1", adapters=("a",))
    ledger.judge("2", adapters=None, earlier="1")
    ledger.judge("3", adapters=None, earlier="1")
    ledger.release("2")
    ledger.release("3", days=2)
    (one,) = ledger.memory.usage.images()
    assert (one.verdict_id, one.at) == ("1" * 32, NOW)
    assert [adapter.name for adapter in one.run.adapters] == ["a"]
    assert ledger.used(NOW + timedelta(days=1)) == []


def test_time_is_from_its_beginning_to_before_its_end(ledger):
    for day, digit in enumerate("123"):
        ledger.judge(digit)
        ledger.release(digit, days=day)
    assert ledger.used(NOW + timedelta(days=1), NOW + timedelta(days=2)) == ["2"]
    assert ledger.used() == ["1", "2", "3"]


def test_run_that_nobody_knows_is_told_so(ledger):
    ledger.judge("1", adapters=None)
    ledger.release("1")
    (one,) = ledger.memory.usage.images()
    assert one.run is None


def test_organisations_see_their_own(ledger):
    ledger.judge("1", organisation="north")
    ledger.judge("2")
    ledger.release("1")
    ledger.release("2")
    assert ledger.used() == ["2"]
    assert ledger.used(None, None, "north") == ["1"]


def test_release_with_credit_names_the_nearest_work(ledger):
    near = (Neighbour(work=ELK, row=0, signal=Signal.COPY, similarity=0.9),)
    ledger.judge("1", decision=Decision.FLAG, nearest=near, credits=(FOX,))
    review = {"decision_id": "d" * 32, "case_id": 1, "verdict_id": "1" * 32, "organisation": "default"}
    said = review | {"account_id": "c" * 32, "round": "first", "outcome": "release_with_credit", "at": NOW}
    with ledger.memory._database.writing() as (session, state):
        append(session, state, "review", [{"review": ReviewDecision.model_validate(said).model_dump(mode="json")}])
    ledger.release("1", decision_id="d" * 32)
    (one,) = ledger.memory.usage.images()
    assert [(credit.bank, credit.work_id) for credit in one.credits] == [("zoo", "fox"), ("woods", "elk")]


def test_more_releases_than_are_read_at_once_are_all_used(ledger, monkeypatch):
    monkeypatch.setattr("guardrail.memory.usage._ROWS_AT_A_TIME", 2)
    for digit in "12345":
        ledger.judge(digit)
        ledger.release(digit)
    assert ledger.used() == [*"12345"]


def test_erased_release_is_counted_and_not_told(ledger):
    for digit in "12":
        ledger.judge(digit)
        ledger.release(digit)
    ledger.memory.record_attribution(attribution("1"))
    ledger.memory.erase("1" * 32, "request 17")
    assert ledger.used() == ["2"]
    assert ledger.memory.usage.erased() == 1
    assert ledger.memory.attributions_of("1" * 32) == ()
    assert not any(b"base_share" in (row.leaf or b"") for row in ledger.memory.rows())
    ledger.memory.verify(deep=True)


def test_edited_release_breaks_the_usage(ledger, tamper):
    ledger.judge("1")
    ledger.release("1")
    tamper("update ledger set leaf = cast(replace(cast(leaf as text), '2026', '2025') as blob) where sequence = 2")
    with pytest.raises(LedgerBroken):
        ledger.used()


# --- attributions ---------------------------------------------------------------------------------------------------


def test_attribution_is_a_row_that_its_verdict_leads_to(ledger):
    ledger.judge("1")
    first, second = attribution("1"), attribution("1", 0.5, at=datetime.now(UTC) + timedelta(seconds=1))
    for one in (first, second):
        ledger.memory.record_attribution(one)
    assert ledger.memory.attributions_of("1" * 32) == (first, second)
    assert ledger.memory.attributions_of("2" * 32) == ()
    assert [row.kind for row in ledger.memory.rows()] == ["verdict", "attribution", "attribution"]
    assert ledger.memory.verify(deep=True)[0] == 3


@pytest.mark.parametrize("verdict_id", [None, "9" * 32])
def test_attribution_of_no_known_verdict_is_refused(ledger, verdict_id):
    ledger.judge("1")
    with pytest.raises(LedgerRowMissing):
        ledger.memory.record_attribution(attribution("1").model_copy(update={"verdict_id": verdict_id}))
    assert len(list(ledger.memory.rows())) == 1


def test_erased_verdict_takes_no_attribution(ledger):
    ledger.judge("1")
    ledger.memory.erase("1" * 32, "request 17")
    with pytest.raises(LedgerRowMissing):
        ledger.memory.record_attribution(attribution("1"))


def test_last_shares_that_were_kept_are_those_of_the_image(ledger):
    """Whether they were kept beside the verdict as it was made or as it left; one without adapters says nothing."""
    ledger.judge("1")
    ledger.judge("2", earlier="1")
    ledger.release("2")
    later = datetime.now(UTC) + timedelta(hours=1)
    ledger.memory.record_attribution(attribution("2", 0.75, at=later))
    ledger.memory.record_attribution(attribution("1", 0.5))
    bare = attribution("2", at=later + timedelta(hours=1)).model_copy(update={"adapters": (), "base_share": None})
    ledger.memory.record_attribution(bare)
    (one,) = ledger.memory.usage.images()
    assert [share.share for share in one.shares] == [0.75]
