"""Strangers' files are read in a process of their own, which may crash, hang or be too large, and cannot reach out."""

import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import c2pa
import numpy as np
import pytest
from act_samples import accepted, noise, output_of, why
from PIL import Image

from guardrail.act import Caps, FilesApart, apart, encode_png, sdk, sign, verify_file
from guardrail.act.assertions import ACTIONS_LABEL, actions_assertion
from guardrail.act.picture_file import pixels_sha256
from guardrail.errors import ImageUnreadable, KeysUnusable
from guardrail.fingerprint import pixels_digest
from guardrail.records import VerifyOutcome


@pytest.fixture(scope="module")
def files(signing):
    with FilesApart(signing.anchors) as files:
        yield files


@pytest.fixture
def ours(signed, tmp_path):
    path = tmp_path / "ours.png"
    path.write_bytes(signed.content)
    return path


def test_the_answer_is_that_of_reading_here(files, ours, signing, forger, tmp_path):
    plain, other, torn = tmp_path / "plain.png", tmp_path / "other.png", tmp_path / "torn.png"
    plain.write_bytes(encode_png(noise()))
    other.write_bytes(sign(output_of(), accepted(), why(accepted()), forger).content)
    torn.write_bytes(ours.read_bytes() + b"more")
    outcomes = []
    for path in (ours, plain, other, torn):
        seen = files.read(path)
        assert seen.report == verify_file(path, signing.anchors)
        assert seen.pixels is None
        outcomes.append(seen.report.outcome)
    assert outcomes == ["ours", "no_credential", "other_signer", "tampered"]


def test_pixels_come_back_as_they_are(files, ours, signed):
    seen = files.read(ours, with_pixels=True)
    assert np.array_equal(seen.pixels, noise())
    assert (seen.mime, seen.binding_sha256) == ("image/png", signed.binding_sha256)


def test_digest_of_pixels_is_that_of_fingerprints():
    import torch

    rows = noise(5, 7)
    assert pixels_sha256(rows) == pixels_digest(torch.from_numpy(rows).permute(2, 0, 1))


def test_what_is_transparent_lies_on_white(files, tmp_path):
    Image.new("RGBA", (3, 2), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (files.read(tmp_path / "clear.png", with_pixels=True).pixels == 255).all()


def test_file_that_is_no_picture_is_named_and_the_next_is_read(files, ours, tmp_path):
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(ImageUnreadable, match=r"text\.png.*not a PNG"):
        files.read(tmp_path / "text.png")
    child = files._child
    assert files.read(ours).report.outcome is VerifyOutcome.OURS
    assert files._child is child, "the process goes on"


def test_anchor_that_is_no_certificate_is_told(ours):
    with FilesApart((b"not PEM",)) as files, pytest.raises(KeysUnusable, match="anchors"):
        files.read(ours)


def test_name_that_is_no_text_is_read(files, ours, tmp_path):
    strange = tmp_path / os.fsdecode(b"c\xff.png")
    strange.write_bytes(ours.read_bytes())
    assert files.read(strange).report.path == str(strange)


def test_picture_of_too_many_pixels_is_not_decoded(signing, tmp_path):
    Image.new("RGB", (101, 100)).save(tmp_path / "large.png")
    with FilesApart(signing.anchors, caps=Caps(largest_px=10_000)) as files:
        with pytest.raises(ImageUnreadable, match="more than 10000"):
            files.read(tmp_path / "large.png")
        Image.new("RGB", (100, 100)).save(tmp_path / "large.png")
        assert files.read(tmp_path / "large.png", with_pixels=True).pixels.shape == (100, 100, 3)


# --- a process that fails ----------------------------------------------------------------------------------

STUB = """
import sys, json, time, resource
def ask():
    size = int.from_bytes(sys.stdin.buffer.read(8), "big")
    return json.loads(sys.stdin.buffer.read(size))
def say(said, size=None):
    text = json.dumps(said).encode()
    sys.stdout.buffer.write((len(text) if size is None else size).to_bytes(8, "big") + text)
    sys.stdout.buffer.flush()
ask(); say({"network_closed_by": "nobody"})
path = ask()["path"]
"""


@pytest.fixture
def stub(monkeypatch, signing):
    """Readers whose process, instead of ours, runs some code once it was asked for a file."""

    def reader(code, **caps):
        command = [sys.executable, "-c", STUB + code]

        def spawn():
            return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

        monkeypatch.setattr(apart, "_spawn", spawn)
        return FilesApart(signing.anchors, caps=Caps(**caps))

    return reader


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed .SIGSEGV"),
        ("import os; os.abort()", "crashed .SIGABRT"),
        ("resource.setrlimit(resource.RLIMIT_CPU, (1, 3))\nwhile True: pass", "more time than a file may"),
        ("sys.exit(0)", "no usable answer"),
        ("say({}, size=2**40)", "no usable answer"),
        ("say([1])", "no usable answer"),
        (
            "say({'report': {'outcome': 'ours'}, 'mime': 'image/png', 'size_px': None, 'binding_sha256': None})",
            "usable",
        ),
        ("say({'report': {}, 'size_px': [2**31, 2**31]})", "no usable answer"),
        ("sys.stdout.buffer.write(b'rubbish!' * 9)", "no usable answer"),
    ],
    ids=["segfault", "abort", "cpu", "exit", "huge", "list", "half a report", "huge picture", "rubbish"],
)
def test_process_that_fails_makes_one_file_unreadable(stub, ours, code, told):
    with stub(code) as files, pytest.raises(ImageUnreadable, match=rf"ours\.png.*{told}"):
        files.read(ours)


def test_process_that_hangs_is_ended(stub, ours):
    at = time.monotonic()
    with stub("time.sleep(100)", wall_s=0.5) as files, pytest.raises(ImageUnreadable, match=r"more than 0\.5 s"):
        files.read(ours)
    assert time.monotonic() - at < 50


def test_process_that_does_not_start_makes_files_unreadable(stub, ours):
    with stub("") as files:
        files._given = {"caps": {}, "anchors": [], "time_stamp_anchors": []}
        with pytest.raises(ImageUnreadable):
            files.read(ours)


def test_after_a_crash_the_next_file_is_read(signing, ours, monkeypatch):
    with FilesApart(signing.anchors) as files:
        assert files.read(ours).report.outcome is VerifyOutcome.OURS
        first = files._child
        monkeypatch.setattr(apart, "_write", lambda pipe, message: first.kill() or first.wait())
        with pytest.raises(ImageUnreadable):
            files.read(ours)
        monkeypatch.undo()
        assert files.read(ours).report.outcome is VerifyOutcome.OURS
        assert files._child is not first


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS holds on Linux")
def test_picture_that_takes_too_much_memory_is_unreadable_and_the_next_is_read(signing, ours, tmp_path):
    Image.new("RGB", (12_000, 5_000)).save(tmp_path / "large.png", compress_level=1)  # 180 MB, and again as an array
    with FilesApart(signing.anchors, caps=Caps(memory_bytes=700 * 2**20)) as files:
        with pytest.raises(ImageUnreadable, match=r"large\.png"):
            files.read(tmp_path / "large.png", with_pixels=True)
        assert files.read(ours, with_pixels=True).report.outcome is VerifyOutcome.OURS


def test_nothing_of_ours_is_left_behind(signing, ours):
    with FilesApart(signing.anchors) as files:
        files.read(ours)
        child = files._child
    assert child.returncode is not None


# --- out of reach ------------------------------------------------------------------------------------------

SOCKETS = """
from guardrail.act.no_network import close_network
import ctypes, json, os, threading
by = close_network()
libc = ctypes.CDLL(None, use_errno=True)
tried = []
thread = threading.Thread(target=lambda: tried.append(libc.socket(2, 1, 0)))
thread.start(); thread.join()
tried.append(libc.socket(10, 1, 0))
tried.append(libc.execve(b"/bin/true", None, None))
try:
    import socket
    socket.socket()
    tried.append("socket")
except PermissionError:
    tried.append("refused")
try:
    os.system("true")
    tried.append("ran")
except PermissionError:
    tried.append("refused")
print(json.dumps([by, *tried]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's filter is Linux's")
def test_kernel_refuses_sockets_and_programs_whoever_asks():
    done = subprocess.run([sys.executable, "-c", SOCKETS], capture_output=True, text=True, check=True)
    by, *tried = json.loads(done.stdout)
    if by != "kernel":
        pytest.skip("this kernel has no filter for system calls")
    assert tried == [-1, -1, -1, "refused", "refused"]


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's filter is Linux's")
def test_reading_process_has_its_network_closed(files, ours):
    files.read(ours)
    assert files.network_closed_by in {"kernel", "python"}
    if files.network_closed_by == "kernel":
        status = Path(f"/proc/{files._child.pid}/status").read_text()
        assert "Seccomp:\t2" in status
        assert "NoNewPrivs:\t1" in status


def test_manifest_kept_elsewhere_is_not_fetched_from_there(signing, tmp_path):
    """A server listens here; the file names it; nobody comes."""
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        path = tmp_path / "remote.png"
        path.write_bytes(remote(f"http://127.0.0.1:{server.getsockname()[1]}/m.c2pa", signing))
        with FilesApart(signing.anchors) as files:
            seen = files.read(path)
        with contextlib.suppress(TimeoutError):
            asked.append(server.accept())
    assert asked == []
    assert (seen.report.outcome, "never fetched" in seen.report.explanation) == (VerifyOutcome.NO_CREDENTIAL, True)


def remote(url, signing):
    credential = c2pa.C2paSignerInfo(c2pa.C2paSigningAlg.ES256, signing.chain, signing.key, None)
    manifest = {"assertions": [{"label": ACTIONS_LABEL, "data": actions_assertion(output_of())}]}
    file = io.BytesIO()
    with (
        c2pa.Context.from_dict(sdk._settings(signing.anchors)) as context,
        c2pa.Signer.from_info(credential) as signer,
        c2pa.Builder(manifest, context) as builder,
    ):
        builder.set_no_embed()
        builder.set_remote_url(url)
        builder.sign(signer, "image/png", io.BytesIO(encode_png(noise())), file)
    return file.getvalue()


def test_our_environment_and_folder_do_not_reach_the_reading_process(signing, ours, tmp_path, monkeypatch):
    """A folder of downloads may hold a `json.py`; a shell may hold secrets."""
    (tmp_path / "json.py").write_text("raise SystemExit('imported from the folder')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GUARDRAIL_KEY_PASSWORD", "canary-secret")
    with FilesApart(signing.anchors) as files:
        assert files.read(ours).report.outcome is VerifyOutcome.OURS
        if sys.platform == "linux":
            assert b"canary" not in Path(f"/proc/{files._child.pid}/environ").read_bytes()
