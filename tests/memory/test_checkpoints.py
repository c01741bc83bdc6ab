"""Signed checkpoints and proofs: what was cut off, edited or forked is found, and nobody else can sign."""

import base64
import json
import sqlite3
from contextlib import closing

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from guardrail.errors import KeysUnusable, LedgerBroken, LedgerProofInvalid, LedgerRowMissing
from guardrail.memory import (
    Checkpoint,
    Checkpoints,
    Held,
    LedgerKey,
    Memory,
    NoteVerifier,
    check_proof,
    read_checkpoint,
)

# The example in the documentation of Go's sumdb/note package: a key, and a note that it signed.
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n"
    "\N{EM DASH} PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


@pytest.fixture
def ledger(memory, making):
    memory.record_verdicts([Held(making.verdict(verdict_id=f"{at:032x}")) for at in range(1, 6)], None)
    return memory


@pytest.fixture
def checkpoints(ledger, tmp_path):
    return Checkpoints(ledger, tmp_path / "keys")


@pytest.fixture
def verifier(checkpoints, tmp_path):
    checkpoints.sign()
    return NoteVerifier.from_file(tmp_path / "keys" / "ledger.pub")


def test_notes_are_read_as_others_write_them():
    assert NoteVerifier(GO_KEY, "go").opened(GO_NOTE, "note") == GO_NOTE.partition("\n\n")[0] + "\n"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("cryptography", "Cryptography"),
        ("x08go/", "x08go+"),
        ("PeterNeumann x", "Peter x"),
        ("\N{EM DASH} ", "- "),
        ("\n\n", "\n"),
        ("nAM=\n", "nAM="),
        ("problem is", "problem\tis"),
        ("x08go/ZJ", "!!"),
    ],
)
def test_note_that_was_edited_is_refused(old, new):
    with pytest.raises(LedgerProofInvalid):
        NoteVerifier(GO_KEY, "go").opened(GO_NOTE.replace(old, new), "note")


def test_signatures_of_others_beside_ours_are_passed_over():
    other = f"\N{EM DASH} witness.example.com/w1 {base64.b64encode(bytes(76)).decode()}\n"
    text, _, ours = GO_NOTE.rpartition("\n\n")
    assert NoteVerifier(GO_KEY, "go").opened(f"{text}\n\n{other}{ours}", "note") == f"{text}\n"
    with pytest.raises(LedgerProofInvalid, match="no signature of that key"):
        NoteVerifier(GO_KEY, "go").opened(f"{text}\n\n{other}", "note")


@pytest.mark.parametrize(
    "said",
    [
        "",
        "name",
        GO_KEY.replace("c74f20a3", "c74f20a4"),
        GO_KEY.replace("Peter", "P eter"),
        GO_KEY.replace("+ARpc", "+AhPc"),
        GO_KEY[:-8],
        "+" + GO_KEY,
    ],
)
def test_what_is_no_verifier_key_is_refused(said):
    with pytest.raises(LedgerProofInvalid):
        NoteVerifier(said, "a test")


def test_checkpoint_is_the_text_that_logs_use(ledger, checkpoints, tmp_path):
    signed = checkpoints.sign()
    origin, size, root, empty, signature, end = signed.note.split("\n")
    assert (origin, size, empty, end) == (ledger.origin, "5", "", "")
    assert base64.b64decode(root).hex() == ledger.verify().root
    assert signature.startswith(f"\N{EM DASH} {origin} ")
    key = (tmp_path / "keys" / "ledger.pub").read_text()
    assert key.startswith(f"{origin}+")
    assert Checkpoint.from_text(NoteVerifier(key, "key").opened(signed.note, "note"), "note") == signed.checkpoint
    assert (tmp_path / "keys" / "ledger.key").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "text",
    [
        "o\n1\n",
        "o\n01\nAA==\n",
        "o\n-1\nAA==\n",
        "o\n1\nAA==\n",
        "o\n1\n\n",
        "\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text):
    with pytest.raises(LedgerProofInvalid):
        Checkpoint.from_text(text, "a test")


@pytest.mark.parametrize("cut", [1, 4, 5])
def test_rows_that_were_cut_off_with_the_tree_are_found_by_a_checkpoint(ledger, checkpoints, tamper, making, cut):
    signed = checkpoints.sign()
    shorter = Memory("sqlite://")
    shorter.record_verdicts([Held(making.verdict(verdict_id=f"{at:032x}")) for at in range(1, 6 - cut)], None)
    with shorter._database.reading() as session:
        from guardrail.memory.tables import LedgerState

        state = session.query(LedgerState).one()
    tamper(
        f"delete from ledger_labels where sequence > {5 - cut}",
        f"delete from ledger where sequence > {5 - cut}",
        f"update ledger_state set size = {state.size}, frontier = x'{state.frontier.hex()}'",
    )
    assert ledger.verify(deep=True).rows == 5 - cut  # the ledger alone does not show it
    with pytest.raises(LedgerBroken, match="only"):
        ledger.verify([signed.checkpoint])
    with pytest.raises(LedgerBroken):
        checkpoints.sign()  # and nothing is signed against it
    shorter.close()


def test_a_rewritten_ledger_is_found_by_a_checkpoint(ledger, checkpoints, making, tmp_path, url):
    older = checkpoints.sign()
    files = tmp_path / "deep" / "memory.db", tmp_path / "fork.db"
    with closing(sqlite3.connect(files[0])) as now, closing(sqlite3.connect(files[1])) as then:
        now.backup(then)  # what was written last may lie beside the file
    ledger.record_verdicts([Held(making.verdict(verdict_id="a" * 32))], None)
    here = checkpoints.sign()
    fork = Memory(f"sqlite:///{tmp_path / 'fork.db'}")
    fork.record_verdicts([Held(making.verdict(verdict_id="b" * 32))], None)
    assert fork.verify([older.checkpoint]).rows == 6
    with pytest.raises(LedgerBroken, match="checkpoint"):
        fork.verify([here.checkpoint])
    there = Checkpoint(fork.origin, 6, bytes.fromhex(fork.verify().root))
    with pytest.raises(LedgerProofInvalid, match="forked"):
        ledger.verify([here.checkpoint, there])
    fork.close()


def test_checkpoints_of_every_size_are_compared(memory, making):
    known = [Checkpoint(memory.origin, *_tip(memory))]
    for _ in range(9):
        memory.record_verdicts([Held(making.verdict())], None)
        known.append(Checkpoint(memory.origin, *_tip(memory)))
    assert memory.verify(known).rows == 9
    for at, one in enumerate(known):
        with pytest.raises(LedgerBroken):
            memory.verify([*known[:at], Checkpoint(one.origin, one.size, bytes(32)), *known[at + 1 :]])


def _tip(memory):
    rows, root = memory.verify()
    return rows, bytes.fromhex(root)


def test_checkpoint_of_another_ledger_is_refused(ledger):
    with pytest.raises(LedgerProofInvalid, match="this one"):
        ledger.verify([Checkpoint("another", 1, bytes(32))])


def test_each_ledger_has_a_key_of_its_own(ledger, checkpoints, tmp_path):
    checkpoints.sign()
    other = Memory("sqlite://")
    with pytest.raises(KeysUnusable, match="each ledger has its own"):
        Checkpoints(other, tmp_path / "keys").sign()
    with pytest.raises(LedgerProofInvalid):
        other.verify([Checkpoints(other, tmp_path / "keys").last()])
    other.close()


def test_key_that_others_may_read_signs_nothing(checkpoints, tmp_path):
    checkpoints.sign()
    (tmp_path / "keys" / "ledger.key").chmod(0o640)
    with pytest.raises(KeysUnusable, match="0600"):
        checkpoints.sign()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"-----BEGIN PRIVATE KEY-----\n"])
def test_what_is_no_key_signs_nothing(checkpoints, tmp_path, content):
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "ledger.key").write_bytes(content)
    (tmp_path / "keys" / "ledger.key").chmod(0o600)
    with pytest.raises(KeysUnusable):
        checkpoints.sign()


def test_a_last_checkpoint_that_was_edited_is_no_checkpoint(checkpoints, tmp_path):
    checkpoints.sign()
    path = tmp_path / "keys" / "ledger.checkpoint"
    path.write_text(path.read_text().replace("\n5\n", "\n4\n"))
    with pytest.raises(LedgerProofInvalid, match="signature"):
        checkpoints.sign()


def test_every_row_is_proved_without_the_ledger(ledger, checkpoints, verifier):
    for row in ledger.rows():
        (proof,) = checkpoints.prove(str(row.sequence))
        again = type(proof).model_validate_json(proof.model_dump_json())
        assert check_proof(again, [verifier], "proof").size == 5
        assert json.loads(again.leaf)["content"]["verdict"]["verdict_id"] == f"{row.sequence:032x}"


def test_rows_are_proved_by_their_ids(ledger, checkpoints, making):
    ledger.record_release(making.release("a", "a.png", verdict_id=f"{2:032x}", intent_id=None))
    assert [proof.index for proof in checkpoints.prove(f"{2:032x}")] == [1]
    assert [proof.index for proof in checkpoints.prove("urn:c2pa:a")] == [5]
    for nothing in ("0", "7", "-1", "x", "", "9" * 30, "²"):
        with pytest.raises(LedgerRowMissing):
            checkpoints.prove(nothing)


def test_proof_of_a_row_after_the_checkpoint_is_refused(ledger, checkpoints, making):
    signed = checkpoints.sign()
    ledger.record_verdicts([Held(making.verdict())], None)
    (last,) = ledger.find("6")
    with pytest.raises(LedgerRowMissing, match="first 5"):
        ledger.prove(last, signed.checkpoint, signed.note)
    (first,) = ledger.find("1")
    assert ledger.prove(first, signed.checkpoint, signed.note).index == 0


def test_an_edited_ledger_proves_nothing(ledger, checkpoints, tamper):
    signed = checkpoints.sign()
    (row,) = ledger.find("1")
    tamper("update ledger set leaf_hash = zeroblob(32) where sequence = 2")
    with pytest.raises(LedgerBroken):
        ledger.prove(row, signed.checkpoint, signed.note)


def changed(proof, **fields):
    return proof.model_copy(update=fields)


@pytest.mark.parametrize("what", ["leaf", "leaf and hash", "hash", "index", "path", "shorter", "longer", "checkpoint"])
def test_no_edited_proof_holds(checkpoints, verifier, what):
    from guardrail.memory.tree import leaf_hash

    (proof,) = checkpoints.prove("2")
    edited = proof.leaf.replace("accept", "block")
    changes = {
        "leaf": {"leaf": edited},
        "leaf and hash": {"leaf": edited, "leaf_sha256": leaf_hash(edited.encode()).hex()},
        "hash": {"leaf_sha256": "0" * 64},
        "index": {"index": 3},
        "path": {"path": ("0" * 64, *proof.path[1:])},
        "shorter": {"path": proof.path[:-1]},
        "longer": {"path": (*proof.path, "0" * 64)},
        "checkpoint": {"checkpoint": proof.checkpoint.replace("\n5\n", "\n6\n")},
    }
    check_proof(proof, [verifier], "proof")
    with pytest.raises(LedgerProofInvalid):
        check_proof(changed(proof, **changes[what]), [verifier], "proof")


def test_only_a_known_key_proves_anything(ledger, checkpoints, verifier):
    (proof,) = checkpoints.prove("2")
    forger = LedgerKey(ledger.origin, Ed25519PrivateKey.generate())
    forged = changed(proof, checkpoint=forger.sign(checkpoints.sign().checkpoint))
    for verifiers in ([verifier], []):
        with pytest.raises(LedgerProofInvalid):
            check_proof(forged, verifiers, "proof")
    assert check_proof(forged, [verifier, forger.verifier()], "proof").size == 5  # a new key of the same ledger
    stranger = LedgerKey("another", Ed25519PrivateKey.generate())
    renamed = changed(proof, checkpoint=stranger.sign(checkpoints.sign().checkpoint))
    with pytest.raises(LedgerProofInvalid, match="ledger"):
        check_proof(renamed, [stranger.verifier()], "proof")


def test_empty_ledger_has_a_checkpoint(memory, making, tmp_path):
    checkpoints = Checkpoints(memory, tmp_path / "keys")
    signed = checkpoints.sign()
    memory.record_verdicts([Held(making.verdict())], None)
    assert memory.verify([signed.checkpoint]).rows == 1
    (tmp_path / "empty").write_text(signed.note)
    verifier = NoteVerifier.from_file(tmp_path / "keys" / "ledger.pub")
    assert read_checkpoint(tmp_path / "empty", [verifier]) == signed
    (tmp_path / "empty").write_bytes(b"\xff")
    for name in ("empty", "none"):
        with pytest.raises(LedgerProofInvalid):
            read_checkpoint(tmp_path / name, [verifier])
