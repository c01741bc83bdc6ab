import hashlib
import multiprocessing
import threading
import time
from contextlib import nullcontext, suppress

import pytest

from guardrail.errors import LedgerBroken, LedgerRowMissing, MemoryUnwritable
from guardrail.memory import Held, Memory
from guardrail.memory.appending import append, leaf_of
from guardrail.memory.tree import leaf_hash
from guardrail.records import Decision, GenerationContext, Release, RemedyTried
from tests.memory.conftest import in_a_fork

pytestmark = pytest.mark.usefixtures("both_stores")


def test_each_verdict_and_release_is_a_row_of_a_tree_that_holds(memory, making):
    memory.record_verdicts([Held(making.verdict()), Held(making.verdict())], None)
    release = Release(verdict_id="v", file="a.png", file_sha256="d" * 64, manifest_id="urn:x", at=making.verdict().at)
    memory.record_release(release)
    memory.record_withdrawal("v", "disk full")
    assert [row.kind for row in memory.rows()] == ["verdict", "verdict", "release", "withdrawal"]
    count, tip = memory.verify()
    assert count == 4
    assert len(tip) == 64


def test_each_remedy_that_was_tried_is_a_row_too(memory):
    tried = [RemedyTried(remedy="fresh_seed", images=("images[0]",), before=(Decision.BLOCK,), seeds=(7,))]
    memory.record_remedies(tried, "run")
    memory.record_remedies([], "another")
    (row,) = memory.rows()
    assert row.kind == "remedy"
    assert row.content["run_id"] == "run"
    assert RemedyTried.model_validate(row.content["remedy"]) == tried[0]
    assert memory.verify()[0] == 1


def test_empty_ledger_holds(memory):
    assert memory.verify(deep=True) == (0, hashlib.sha256().hexdigest())


def test_ledger_goes_on_after_reopening(memory, url, making):
    memory.record_verdicts([Held(making.verdict())], None)
    again = Memory(url)
    again.record_verdicts([Held(making.verdict())], None)
    assert again.verify()[0] == 2
    again.close()


@pytest.fixture
def filled(memory, making, tmp_path):
    """Three verdicts, one with a case; a release with prints, one withdrawn, and one that is unfinished."""
    held = [Held(making.verdict(verdict_id="1" * 32)), Held(making.verdict(Decision.FLAG, verdict_id="2" * 32), b"png")]
    memory.record_verdicts([*held, Held(making.verdict())], GenerationContext(pipeline="P", prompts={"prompt": "fox"}))
    for digit in "abc":
        memory.record_intent(making.intent(digit, tmp_path / f"{digit}.png"))
        if digit != "c":
            memory.record_release(making.release(digit, tmp_path / f"{digit}.png"), making.prints())
    memory.record_done("a" * 32)
    memory.record_withdrawal("1" * 32, "disk full", "b" * 32)
    return memory


def test_whole_ledger_holds(filled):
    kinds = ["verdict"] * 3 + ["intent", "release", "intent", "release", "intent", "withdrawal"]
    assert [row.kind for row in filled.rows()] == kinds
    assert filled.verify() == filled.verify(deep=True)
    assert filled.counts() == (9, 0, 1, 1, 1)


LOWEST = -(2**63)
FORGED = """'{"content":{"context":null,"verdict":{"verdict_id":"x"}},"kind":"verdict"}'"""


@pytest.mark.parametrize(
    "statement",
    [
        "update ledger set leaf = cast(replace(cast(leaf as text), 'accept', 'block') as blob) where sequence = 1",
        "update ledger set leaf = cast(leaf as blob) || x'20' where sequence = 3",
        "update ledger set leaf = null where sequence = 2",
        "update ledger set kind = 'release' where sequence = 2",
        "update ledger set leaf_hash = x'00' where sequence = 2",
        "update ledger set leaf_hash = (select leaf_hash from ledger where sequence = 1) where sequence = 2",
        "delete from ledger where sequence = 2",
        "delete from ledger where sequence = 9",
        "delete from ledger",
        "update ledger set sequence = 10 where sequence = 2",
        "update ledger set sequence = -9223372036854775808 where sequence = 2",
        f"insert into ledger values (-1, 'verdict', {FORGED}, x'00')",
        f"insert into ledger values (10, 'verdict', cast({FORGED} as blob), x'00')",
        f"insert into ledger values ({LOWEST}, 'verdict', cast({FORGED} as blob), x'00')",
        f"insert into ledger values (0, 'verdict', cast({FORGED} as blob), x'00')",
        "update ledger set kind = x'00' where sequence = 2",
        "update ledger_state set size = 8",
        "delete from ledger_labels where sequence = 9",
        "delete from ledger_labels where sequence = 9 and name like 'v:%'",
        "insert into ledger_labels values ('i:another', 9)",
        "insert into ledger_labels values ('m:urn:c2pa:x', 77)",
        f"insert into ledger_labels values ('m:urn:c2pa:x', {LOWEST})",
        "update ledger_state set frontier = zeroblob(64)",
        "update cases set verdict_id = 'another'",
        "update cases set sequence = 4",
        "update cases set sequence = 77",
        "delete from prints",
        "update prints set sequence = 1",
        "update prints set sequence = 77",
        "update ledger set leaf = null where sequence = 5",
    ],
)
def test_edited_ledger_is_found_broken(filled, tamper, statement):
    tamper(statement)
    with pytest.raises(LedgerBroken):
        filled.verify()


@pytest.mark.parametrize(
    "statement",
    [
        "update prints set preview = x'00'",
        "update prints set pdq = zeroblob(32)",
        "update prints set embedder = 'another'",
        "update prints set copy_rows = 1",
        "delete from ledger_labels where sequence = 5",
        "insert into ledger_labels values ('m:urn:c2pa:x', 5)",
        "delete from unfinished",
    ],
)
def test_a_deep_look_finds_edits_beside_the_rows(filled, tamper, statement):
    tamper(statement)
    filled.verify()
    with pytest.raises(LedgerBroken):
        filled.verify(deep=True)


@pytest.mark.parametrize("sequence", [LOWEST, -1, 0, 10])
def test_row_beside_the_tree_is_never_believed(filled, making, tamper, sequence):
    release = making.release("f", "a.png", intent_id=None).model_dump(mode="json")
    leaf = leaf_of("release", {"release": release})
    tamper(
        f"insert into ledger values ({sequence}, 'release', x'{leaf.hex()}', x'{leaf_hash(leaf).hex()}')",
        f"insert into ledger_labels values ('m:urn:c2pa:f', {sequence})",
    )
    assert filled.fate_of("urn:c2pa:f") == "unknown"
    assert filled.releases_by_manifest("urn:c2pa:f") == ()
    assert len(list(filled.rows())) == 9
    for wanted in ("urn:c2pa:f", "10", "0"):
        with pytest.raises(LedgerRowMissing):
            filled.find(wanted)
    with pytest.raises(LedgerBroken):
        filled.verify()


def test_withdrawn_release_stays_so_without_its_labels(filled, making, tamper):
    assert filled.fate_of("urn:c2pa:b") == "withdrawn"
    tamper("delete from ledger_labels where sequence = 9")
    assert filled.fate_of("urn:c2pa:b") == "withdrawn"
    assert filled.releases_by_manifest("urn:c2pa:b") == ()


def test_withdrawal_whose_content_was_taken_away_hides_nothing(filled, tamper):
    tamper("update ledger set leaf = null where sequence = 9", "delete from ledger_labels where sequence = 9")
    with pytest.raises(LedgerBroken, match="an erasure"):
        filled.fate_of("urn:c2pa:b")


def test_prints_of_a_withdrawn_release_that_were_put_back_are_not_searched(filled, tamper):
    tamper("update prints set sequence = 7")  # the same prints
    assert list(filled.released_prints()) == []


def test_row_is_found_by_no_id_that_it_does_not_say(filled, tamper):
    tamper("insert into ledger_labels values ('m:urn:c2pa:x', 5)")
    with pytest.raises(LedgerRowMissing):
        filled.find("urn:c2pa:x")


ODD = [
    ("release", {"release": {"manifest_id": "urn:x"}}),
    ("release", {"release": {"manifest_id": "urn:x", "verdict_id": "v"}}),
    ("release", {"release": 5, "manifest_id": "urn:x"}),
    ("release", {"prints_sha256": 5, "release": "x", "manifest_id": "urn:x"}),
    ("withdrawal", {"manifest_id": "urn:x"}),
    ("erasure", {"rows": "abc"}),
    ("erasure", {"rows": [{"sequence": 1}]}),
    ("erasure", {"rows": [{"sequence": [], "kind": "verdict", "leaf_sha256": "x"}]}),
    ("erasure", {}),
    ("intent", {"intent": {"intent_id": []}}),
]


@pytest.mark.parametrize(("kind", "content"), ODD)
def test_row_of_an_odd_shape_is_a_broken_ledger_and_no_crash(memory, making, kind, content):
    memory.record_release(making.release("b", "b.png", intent_id=None))
    with memory._database.writing() as (session, state):
        append(session, state, kind, [content])
    with suppress(LedgerBroken):
        memory.verify()
    well_read = content.get("release", 0) == {"manifest_id": "urn:x", "verdict_id": "v"}
    with nullcontext() if well_read else pytest.raises(LedgerBroken):
        memory.verify(deep=True)
    for look in (memory.fate_of, memory.releases_by_manifest, memory.find):
        for manifest_id in ("urn:x", "urn:c2pa:b"):
            with suppress(LedgerBroken, LedgerRowMissing):
                look(manifest_id)
    with suppress(LedgerBroken):
        list(memory.released_prints())
    with suppress(LedgerBroken, LedgerRowMissing):
        memory.erase("1" * 32, "r")


def test_rows_that_are_cut_off_stop_all_writing(memory, making, tamper):
    memory.record_verdicts([Held(making.verdict()) for _ in range(3)], None)
    tamper("delete from ledger where sequence = 3")
    with pytest.raises(MemoryUnwritable, match="2 rows in the ledger and 3 in its tree"):
        memory.record_verdicts([Held(making.verdict())], None)


def test_row_that_was_edited_is_never_read_as_one(memory, making, tamper):
    memory.record_verdicts([Held(making.verdict())], None)
    tamper("update ledger set leaf = cast(replace(cast(leaf as text), 'accept', 'block') as blob)")
    (row,) = memory.rows()
    with pytest.raises(LedgerBroken):
        row.content  # noqa: B018


def test_prints_that_were_edited_are_never_searched(filled, tamper):
    assert [release.manifest_id for release, _ in filled.released_prints()] == ["urn:c2pa:a"]
    tamper("update prints set preview = x'00'")
    with pytest.raises(LedgerBroken, match="prints"):
        list(filled.released_prints())


@pytest.mark.parametrize("reason", ["lone \ud800 surrogate", "big"])
def test_what_json_cannot_hold_is_a_typed_error(memory, making, reason):
    with pytest.raises(MemoryUnwritable):
        if reason == "big":
            memory.record_remedies([RemedyTried(remedy="fresh_seed", images=("a",), before=(Decision.BLOCK,))], 2**60)
        else:
            memory.record_withdrawal("v", reason)
    assert memory.verify()[0] == 0


def test_flagged_image_waits_with_its_picture_and_its_run(memory, making):
    context = GenerationContext(pipeline="P", prompts={"prompt": "a secret fox"})
    memory.record_verdicts([Held(making.verdict(Decision.FLAG), b"png"), Held(making.verdict())], context)
    (case,) = memory.open_cases()
    assert (case.png, case.sequence, case.state) == (None, 1, "open")
    assert memory.pictures.get(case.picture_sha256) == b"png"
    assert case.context["prompts"] == {"prompt": "a secret fox"}


def test_prompts_never_reach_the_ledger(memory, making):
    memory.record_verdicts(
        [Held(making.verdict())], GenerationContext(pipeline="P", prompts={"prompt": "a secret fox"})
    )
    assert "secret" not in str([row.content for row in memory.rows()])


def test_verdicts_of_a_batch_are_written_together_or_not_at_all(memory, making):
    memory.record_verdicts([Held(making.verdict(Decision.FLAG, verdict_id="1" * 32), b"png")], None)
    again = making.verdict(Decision.FLAG, verdict_id="1" * 32, pixels_sha256="e" * 64)
    with pytest.raises(MemoryUnwritable):
        memory.record_verdicts([Held(making.verdict()), Held(again, b"another")], None)
    assert memory.verify()[0] == 1


def append_some(url):
    memory = Memory(url)
    for _ in range(10):
        memory.record_withdrawal("v", "a test")
    memory.close()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # it has threads, says Python 3.12
def test_writers_in_several_processes_keep_one_tree(memory, url):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=append_some, args=(url,)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert memory.verify()[0] == 30


def test_reader_holds_up_no_writer(memory, url, making):
    memory.record_verdicts([Held(making.verdict()) for _ in range(3)], None)
    reading = memory.rows()
    next(reading)
    other = Memory(url)
    began = time.monotonic()
    other.record_verdicts([Held(making.verdict())], None)
    assert time.monotonic() - began < 10
    reading.close()
    other.close()


def test_rows_are_written_in_threads(memory, making):
    failures = []

    def write():
        try:
            for _ in range(5):
                memory.record_verdicts([Held(making.verdict())], None)
        except MemoryUnwritable as error:
            failures.append(error)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert memory.verify(deep=True)[0] == 20


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # it has threads, says Python 3.12
def test_ledger_goes_on_in_a_process_that_was_forked(memory, making):
    memory.record_verdicts([Held(making.verdict())], None)
    assert in_a_fork(lambda: memory.record_verdicts([Held(making.verdict())], None))
    memory.record_verdicts([Held(making.verdict())], None)
    assert memory.verify(deep=True)[0] == 3


def test_check_of_a_ledger_that_grows_meanwhile_holds(memory, making, url):
    flagged = [making.verdict(Decision.FLAG, verdict_id=digit * 32, pixels_sha256=digit * 64) for digit in "123"]
    memory.record_verdicts([Held(one, b"png") for one in flagged], None)
    for one in flagged:
        memory.record_release(making.release("a", "a.png", verdict_id=one.verdict_id, intent_id=None), making.prints())
    other, grown = Memory(url), []

    def grow(done, total):
        if len(grown) < 3:
            grown.append(done)
            digit = str(len(grown))
            other.record_intent(making.intent(digit, "a.png", "9" * 32))
            other.record_release(making.release(digit, "a.png", verdict_id="9" * 32), making.prints())
            other.erase(digit * 32, "r")

    assert memory.verify(deep=True, told=grow).rows == 6 + 3 * 3
    assert memory.counts().erased == 6
    other.close()


def test_telling_how_far_a_check_is_names_rows(memory, making):
    memory.record_verdicts([Held(making.verdict()) for _ in range(3)], None)
    said = []
    memory.verify(told=lambda done, total: said.append((done, total)))
    assert said == [(3, 3)]
