"""What a release stands on breaks: signer, time stamp, disk, ledger, SDK. Nothing unsigned or unrecorded leaves."""

import errno
import faulthandler
import io
import os
import signal
import socket
import sqlite3
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import replace

import c2pa
import numpy as np
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from guardrail.act import (
    TimeStamping,
    encode_png,
    load_anchors,
    load_signing,
    raw_signature,
    sdk,
    verify_file,
)
from guardrail.errors import MemoryUnwritable, ReleaseFailed
from guardrail.hookspecs import hookimpl
from guardrail.records import VerifyOutcome

HANGS_S, WITHIN_S = 2.0, 0.2


class SignsWith:
    """A signer in place of the shipped one: the world's credential, changed."""

    def __init__(self, keys, **changes):
        self.signing = replace(load_signing(keys), **changes)

    @hookimpl(tryfirst=True)
    def provide_signer(self):
        return self.signing


def kinds(guard):
    return [row.kind for row in guard.memory.rows()]


def require_kept_in(guard, out, *, recorded=False):
    """No file at all, and a ledger that holds and says why: the intent was withdrawn."""
    assert not list(out.rglob("*"))
    assert kinds(guard) == ["verdict", "intent", *(["release"] if recorded else []), "withdrawal"]
    assert guard.memory.counts().unfinished == 0
    guard.memory.verify(deep=True)


def require_released(guard, world, picture, folder):
    """With the fault gone the same guard releases, and the ledger names the file."""
    (path,) = guard.check(picture).save(folder)
    assert verify_file(path, load_anchors(world.keys)).outcome is VerifyOutcome.OURS
    files = [row.content["release"]["file"] for row in guard.memory.rows() if row.kind == "release"]
    assert files[-1] == str(path)


# --- the signer ----------------------------------------------------------------------------------------------


def raises(content):
    raise ConnectionError("the key service is away")


def hangs(content):
    time.sleep(HANGS_S)
    return b"too late"


SIGNERS = {
    "raises": (raises, "the key service is away"),
    "hangs": (hangs, "expected an answer within"),
    "gives rubbish": (lambda content: b"\x5a" * 64, "signer of"),
    "gives nothing": (lambda content: b"", "signer of"),
    "gives no bytes": (lambda content: None, "NoneType"),
    "gives megabytes": (lambda content: bytes(5_000_000), "signer of"),
}


@pytest.mark.parametrize("fault", SIGNERS)
def test_signer_that_fails_lets_nothing_out(make_guard, world, pictures, tmp_path, fault):
    sign_with, said = SIGNERS[fault]
    guard = make_guard(SignsWith(world.keys, key=None, sign_with=sign_with, within_s=WITHIN_S))
    with pytest.raises(ReleaseFailed, match=said):
        guard.check(pictures["new"]).save(tmp_path / "out")
    require_kept_in(guard, tmp_path / "out")


def test_signer_with_another_key_than_its_certificate_lets_nothing_out(make_guard, world, pictures, tmp_path):
    signing, other = load_signing(world.keys), ec.generate_private_key(ec.SECP256R1())

    def sign_with(content):
        return raw_signature(other.sign(content, ec.ECDSA(hashes.SHA256())), signing.leaf)

    guard = make_guard(SignsWith(world.keys, key=None, sign_with=sign_with))
    with pytest.raises(ReleaseFailed, match="signing failed"):
        guard.check(pictures["new"]).save(tmp_path / "out")
    require_kept_in(guard, tmp_path / "out")


# --- the time stamp server -------------------------------------------------------------------------------------


@contextmanager
def listening(answer):
    """A server that takes connections and does with each what it is told; gives its address."""
    stopped = threading.Event()

    def serve():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                answer(connection, stopped)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/stamp"
        stopped.set()
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def says_nothing(connection, stopped):
    stopped.wait(HANGS_S)


def says_junk(connection, stopped):
    connection.recv(4096)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/timestamp-reply\r\nContent-Length: 4\r\n\r\n"
    connection.sendall(head + b"junk")


@pytest.mark.parametrize("answer", [says_nothing, says_junk, None], ids=["slow", "junk", "dead"])
def test_time_stamp_server_that_fails_lets_nothing_out(make_guard, world, pictures, tmp_path, answer):
    with listening(answer or says_nothing) as url:
        alive = url
    if answer is None:
        signer = SignsWith(world.keys, time_stamp=TimeStamping(alive, load_anchors(world.keys)), within_s=WITHIN_S)
        stopped = make_guard(signer)
        with pytest.raises(ReleaseFailed, match="time stamp server"):
            stopped.check(pictures["new"]).save(tmp_path / "out")
        require_kept_in(stopped, tmp_path / "out")
        return
    with listening(answer) as url:
        signer = SignsWith(world.keys, time_stamp=TimeStamping(url, load_anchors(world.keys)), within_s=WITHIN_S)
        guard = make_guard(signer)
        with pytest.raises(ReleaseFailed, match="time stamp server"):
            guard.check(pictures["new"]).save(tmp_path / "out")
    require_kept_in(guard, tmp_path / "out")


# --- the disk ----------------------------------------------------------------------------------------------------


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class FullFile:
    """A file on a full disk: half of what is written arrives."""

    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, content):
        self.file.write(content[: len(content) // 2])
        self.file.flush()
        full()


def fill_at(monkeypatch, step):
    """Let the disk be full at a step of writing a file."""
    if step == "open":
        opened = os.open
        monkeypatch.setattr(os, "open", lambda path, *rest: full() if ".part" in str(path) else opened(path, *rest))
    elif step == "write":
        fdopen = os.fdopen
        monkeypatch.setattr(
            os, "fdopen", lambda made, mode, *rest: FullFile(fdopen(made, mode)) if mode == "wb" else fdopen(made, mode)
        )
    elif step == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    elif step == "link":
        monkeypatch.setattr(os, "link", full)
        monkeypatch.setattr("pathlib.Path.replace", full)
    else:
        fsync = os.fsync
        calls = []
        monkeypatch.setattr(os, "fsync", lambda made: full() if calls else calls.append(fsync(made)))


@pytest.mark.parametrize("step", ["open", "write", "fsync", "link", "flush of the folder"])
def test_full_disk_leaves_no_file_and_takes_the_row_back(guard, world, pictures, tmp_path, monkeypatch, step):
    report = guard.check(pictures["new"])
    with monkeypatch.context() as patch:
        fill_at(patch, step)
        with pytest.raises(ReleaseFailed, match="No space left"):
            report.save(tmp_path / "out")
    require_kept_in(guard, tmp_path / "out", recorded=True)
    require_released(guard, world, pictures["new"], tmp_path / "again")


# --- the ledger --------------------------------------------------------------------------------------------------


REFUSES = {  # what SQLite is told to refuse, and which rows are there afterwards
    "intent": ("INSERT ON ledger WHEN NEW.kind = 'intent'", ["verdict"]),
    "release": ("INSERT ON ledger WHEN NEW.kind = 'release'", ["verdict", "intent", "withdrawal"]),
    "prints": ("INSERT ON prints", ["verdict", "intent", "withdrawal"]),
}


def tell_sqlite(home, *statements):
    """As another program would: in a connection of its own."""
    with closing(sqlite3.connect(home / "memory.db", isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def refuse(home, *whens):
    tell_sqlite(
        home,
        *(
            f"CREATE TRIGGER full_{number} BEFORE {when} BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
            for number, when in enumerate(whens)
        ),
    )


@pytest.mark.parametrize("fault", REFUSES)
def test_ledger_that_refuses_a_row_lets_nothing_out(guard, world, pictures, tmp_path, fault):
    when, expected = REFUSES[fault]
    report = guard.check(pictures["new"])
    refuse(tmp_path, when)
    with pytest.raises(MemoryUnwritable, match="disk is full"):
        report.save(tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*"))
    assert kinds(guard) == expected
    tell_sqlite(tmp_path, "DROP TRIGGER full_0")
    guard.memory.verify(deep=True)
    require_released(guard, world, pictures["new"], tmp_path / "again")


def test_ledger_that_takes_no_verdict_judges_nothing(guard, pictures, tmp_path):
    refuse(tmp_path, "INSERT ON ledger WHEN NEW.kind = 'verdict'")
    with pytest.raises(MemoryUnwritable, match="disk is full"):
        guard.check(pictures["new"])


def test_ledger_that_takes_no_withdrawal_either_is_put_right_at_the_next_start(
    make_guard, world, pictures, tmp_path, monkeypatch
):
    guard = make_guard()
    report = guard.check(pictures["new"])
    refuse(tmp_path, "INSERT ON ledger WHEN NEW.kind = 'withdrawal'")
    with monkeypatch.context() as patch:
        fill_at(patch, "write")
        with pytest.raises(ReleaseFailed, match="No space left"):
            report.save(tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*"))
    assert kinds(guard) == ["verdict", "intent", "release"]  # of which the file is not there
    tell_sqlite(tmp_path, "DROP TRIGGER full_0")
    guard.memory.close()
    again = make_guard()
    require_kept_in(again, tmp_path / "out", recorded=True)
    require_released(again, world, pictures["new"], tmp_path / "again")


def test_file_in_place_stands_when_the_ledger_cannot_note_that(make_guard, world, pictures, tmp_path, caplog):
    guard = make_guard()
    report = guard.check(pictures["new"])
    refuse(tmp_path, "DELETE ON unfinished")
    (path,) = report.save(tmp_path / "out")
    assert "not noted as finished" in caplog.text
    assert verify_file(path, load_anchors(world.keys)).outcome is VerifyOutcome.OURS
    tell_sqlite(tmp_path, "DROP TRIGGER full_0")
    guard.memory.close()
    again = make_guard()
    assert kinds(again) == ["verdict", "intent", "release"]
    assert again.memory.counts().unfinished == 0


def test_ledger_whose_file_is_gone_lets_nothing_out(guard, pictures, tmp_path):
    report = guard.check(pictures["new"])
    guard.memory._database.engine.dispose()
    (tmp_path / "memory.db").unlink()
    with pytest.raises(MemoryUnwritable):
        report.save(tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*"))


# --- the SDK -----------------------------------------------------------------------------------------------------


def crashes(builder, signer, mime, source, dest):
    raise c2pa.C2paError.Other("a bug in the SDK")


def panics(builder, signer, mime, source, dest):
    raise OSError("exception: access violation")  # what ctypes makes of one


def gives_garbage(builder, signer, mime, source, dest):
    dest.write(b"garbage")


def gives_nothing(builder, signer, mime, source, dest):
    """Say that it is done, and write nothing."""


def forgets_to_sign(builder, signer, mime, source, dest):
    dest.write(source.read())


def signs_half(builder, signer, mime, source, dest):
    whole = io.BytesIO()
    SIGN(builder, signer, mime, source, whole)
    dest.write(whole.getvalue()[:-100])


def signs_another_picture(builder, signer, mime, source, dest):
    SIGN(builder, signer, mime, io.BytesIO(OTHER_PNG), dest)


def appends(builder, signer, mime, source, dest):
    SIGN(builder, signer, mime, source, dest)
    dest.write(b"more than was signed")


SIGN = c2pa.Builder.sign
OTHER_PNG = encode_png(np.zeros((96, 96, 3), np.uint8))


@pytest.mark.parametrize(
    "fault",
    [
        crashes,
        panics,
        gives_garbage,
        gives_nothing,
        forgets_to_sign,
        signs_half,
        signs_another_picture,
        appends,
    ],
)
def test_sdk_that_fails_lets_nothing_out(guard, world, pictures, tmp_path, monkeypatch, fault):
    report = guard.check(pictures["new"])
    with monkeypatch.context() as patch:
        patch.setattr(c2pa.Builder, "sign", fault)
        with pytest.raises((ReleaseFailed, OSError)):
            report.save(tmp_path / "out")
    require_kept_in(guard, tmp_path / "out")
    require_released(guard, world, pictures["new"], tmp_path / "again")


READ = sdk.read
DISAGREES = {
    "state": lambda reading: replace(reading, state="Valid"),
    "list": lambda reading: replace(reading, trusted_by="somebody's"),
    "failures": lambda reading: replace(reading, failures=("assertion.dataHash.mismatch",)),
    "signer": lambda reading: replace(reading, chain=()),
    "claims": lambda reading: replace(reading, assertions={**reading.assertions, "org.example": {}}),
    "silence": lambda reading: replace(reading, assertions={sdk.BINDING_LABEL: {}}),
    "name": lambda reading: replace(reading, manifest_id=None),
    "binding": lambda reading: replace(reading, binding=None),
    "generator": lambda reading: replace(reading, generator={"name": "somebody"}),
}


@pytest.mark.parametrize("part", DISAGREES)
def test_file_that_is_read_back_otherwise_does_not_leave(guard, pictures, tmp_path, monkeypatch, part):
    report = guard.check(pictures["new"])
    monkeypatch.setattr(sdk, "read", lambda *given: DISAGREES[part](READ(*given)))
    with pytest.raises(ReleaseFailed, match="read back"):
        report.save(tmp_path / "out")
    require_kept_in(guard, tmp_path / "out")


def test_file_that_cannot_be_read_back_does_not_leave(guard, pictures, tmp_path, monkeypatch):
    def refuses(*given):
        raise c2pa.C2paError.Decoding("injected")

    report = guard.check(pictures["new"])
    monkeypatch.setattr(sdk, "read", refuses)
    with pytest.raises(ReleaseFailed, match="injected"):
        report.save(tmp_path / "out")
    require_kept_in(guard, tmp_path / "out")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the child is forked")
def test_sdk_that_takes_the_process_with_it_leaves_nothing_behind(make_guard, world, pictures, tmp_path):
    guard = make_guard()
    child = os.fork()
    if not child:
        try:
            faulthandler.disable()  # it would tell of the abort, which is meant
            c2pa.Builder.sign = lambda *_: os.abort()
            guard.check(pictures["new"]).save(tmp_path / "out")
        finally:
            os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGABRT
    assert kinds(guard) == ["verdict", "intent"]
    again = make_guard()
    require_kept_in(again, tmp_path / "out")
    require_released(again, world, pictures["new"], tmp_path / "again")
