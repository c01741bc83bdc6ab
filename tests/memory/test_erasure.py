"""What is erased is gone, the ledger goes on to hold, and it says so."""

import pytest

from guardrail.errors import LedgerBroken, LedgerRowMissing, MemoryUnwritable
from guardrail.memory import Checkpoints, Held, check_proof
from guardrail.records import Decision, GenerationContext

pytestmark = pytest.mark.usefixtures("both_stores")

CANARY = "canary-7d1f"


@pytest.fixture
def told(memory, making, tmp_path):
    """An image judged twice, flagged the first time, with its release; and an image that has nothing to do with it."""
    context = GenerationContext(pipeline="P", prompts={"prompt": CANARY})
    first = making.verdict(Decision.FLAG, verdict_id="1" * 32, explanation=CANARY)
    second = making.verdict(verdict_id="2" * 32, earlier_verdict_id="1" * 32, explanation=CANARY)
    memory.record_verdicts([Held(first, CANARY.encode()), Held(making.verdict(verdict_id="3" * 32))], context)
    memory.record_verdicts([Held(second)], context)
    memory.record_intent(making.intent("a", tmp_path / f"{CANARY}.png", "2" * 32))
    memory.record_release(making.release("a", tmp_path / f"{CANARY}.png", verdict_id="2" * 32), making.prints())
    memory.record_done("a" * 32)
    return memory


@pytest.mark.parametrize("verdict_id", ["1" * 32, "2" * 32])
def test_all_about_an_image_is_erased_by_either_of_its_verdicts(told, tmp_path, verdict_id):
    before = told.verify()
    assert told.erase(verdict_id, "request 17") == (1, 3, 4, 5)
    assert told.verify(deep=True).rows == before.rows + 1
    assert [row.erased for row in told.rows()] == [True, False, True, True, True, False]
    *_, erasure = told.rows()
    assert (erasure.kind, erasure.content["reason"]) == ("erasure", "request 17")
    assert [one["sequence"] for one in erasure.content["rows"]] == [1, 3, 4, 5]
    assert told.counts() == (6, 4, 0, 0, 0)
    assert told.fate_of("urn:c2pa:a") == "erased"
    assert told.releases_by_manifest("urn:c2pa:a") == ()
    assert list(told.released_prints()) == []


def test_older_checkpoints_and_proofs_go_on_to_hold(told, tmp_path):
    checkpoints = Checkpoints(told, tmp_path / "keys")
    (older,) = checkpoints.prove("5")
    signed = checkpoints.sign()
    told.erase("1" * 32, "request 17")
    assert told.verify([signed.checkpoint], deep=True).rows == 6
    (newer,) = checkpoints.prove("5")
    assert (newer.leaf, newer.leaf_sha256) == (None, older.leaf_sha256)
    from guardrail.memory import LedgerKey

    verifier = LedgerKey.at(tmp_path / "keys", told.origin).verifier()
    assert check_proof(older, [verifier], "older").size == 5
    assert check_proof(newer, [verifier], "newer").size == 6


def test_what_is_erased_can_not_come_back(told, tamper):
    leaf = next(iter(told.rows())).leaf
    told.erase("1" * 32, "request 17")
    tamper(f"update ledger set leaf = x'{leaf.hex()}' where sequence = 1")
    with pytest.raises(LedgerBroken, match="erased"):
        told.verify()


@pytest.mark.parametrize(
    "statement",
    [
        "update ledger set leaf = null where sequence = 2",
        "update ledger set kind = 'release' where sequence = 1",
        "delete from ledger where sequence = 6",
    ],
)
def test_erasing_hides_no_other_edit(told, tamper, statement):
    told.erase("1" * 32, "request 17")
    tamper(statement)
    with pytest.raises(LedgerBroken):
        told.verify()


@pytest.mark.parametrize(
    "statement",
    [
        "insert into ledger_labels values ('m:urn:c2pa:never', 5)",
        "insert into ledger_labels values ('m:urn:c2pa:never', 6)",
        "delete from ledger_labels where sequence = 5",
        "update ledger_labels set name = 'm:urn:c2pa:never' where name = 'm:urn:c2pa:a'",
    ],
)
def test_erased_row_is_found_by_its_own_ids_alone(told, tamper, statement):
    told.erase("1" * 32, "request 17")
    tamper(statement)
    assert told.fate_of("urn:c2pa:never") == "unknown"
    with pytest.raises(LedgerRowMissing):
        told.find("urn:c2pa:never")
    with pytest.raises(LedgerBroken, match="the ids"):
        told.verify(deep=statement.endswith("6)"))


def test_content_that_was_taken_away_is_no_erasure(told, tamper):
    tamper("update ledger set leaf = null where sequence = 5")
    with pytest.raises(LedgerBroken, match="an erasure"):
        told.fate_of("urn:c2pa:a")


def test_row_with_a_label_that_it_does_not_say_is_not_erased(told, tamper):
    tamper(f"insert into ledger_labels values ('v:{'1' * 32}', 2)")
    assert told.erase("1" * 32, "request 17") == (1, 3, 4, 5)


def test_nothing_is_erased_twice_or_of_nothing(told):
    told.erase("1" * 32, "request 17")
    for verdict_id in ("1" * 32, "f" * 32, ""):
        with pytest.raises(LedgerRowMissing):
            told.erase(verdict_id, "again")
    assert told.counts().rows == 6


def test_image_that_is_being_released_is_not_erased(memory, making, open_memory, tmp_path):
    memory.record_verdicts([Held(making.verdict(verdict_id="1" * 32))], None)
    memory.record_intent(making.intent("a", tmp_path / "a.png"))
    with pytest.raises(MemoryUnwritable, match="being released"):
        memory.erase("1" * 32, "request 17")
    memory.close()
    other = open_memory()
    other.reconcile()
    assert other.erase("1" * 32, "request 17") == (1, 2, 3)
    other.close()
