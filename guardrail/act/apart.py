"""Files of strangers, read in a process of their own: little memory, little time, no network, and one small answer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
from pydantic import TypeAdapter

from guardrail.act.verify import FileSeen
from guardrail.errors import ImageUnreadable, KeysUnusable
from guardrail.records import ImageMime, VerifyReport

__all__ = ["Caps", "FilesApart"]

_LARGEST_ANSWER_BYTES = 2**18  # 256 KiB of JSON; a report has some KiB
_LENGTH_BYTES = 8
_START_WITHIN_S = 60.0  # for the process to import what it needs, on a machine under load
_KEPT_VARIABLES = ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH", "TMPDIR", "LANG")  # no secret of ours is among them
_MIME: TypeAdapter[ImageMime] = TypeAdapter(ImageMime)


@dataclass(frozen=True, slots=True)
class Caps:
    """What one file may cost the process that reads it.

    Attributes:
        wall_s: seconds by the clock; then the process is killed.
        cpu_s: seconds of computing; then the kernel kills it.
        memory_bytes: address space of the whole process, its libraries (about 0.5 GB) included.
        largest_px: pictures of more pixels are not decoded.
    """

    wall_s: float = 60.0
    cpu_s: int = 30
    memory_bytes: int = 3 * 2**30
    largest_px: int = 64_000_000


class FilesApart:
    """Reads files in one child process, which is started when first needed and again whenever it died.

    What comes back is a report of at most 256 KiB and, where asked for, the bare pixels. Use it as a context manager,
    from one thread at a time. The caps are the kernel's on Linux and macOS; elsewhere the clock's alone.

    Args:
        anchors: our root certificates, PEM.
        time_stamp_anchors: root certificates of the time stamp servers to believe, PEM.
        caps: what one file may cost.
    """

    def __init__(
        self, anchors: Sequence[bytes], time_stamp_anchors: Sequence[bytes] = (), caps: Caps | None = None
    ) -> None:
        self._caps = caps or Caps()
        self._given = {
            "anchors": [pem.decode("latin-1") for pem in anchors],
            "time_stamp_anchors": [pem.decode("latin-1") for pem in time_stamp_anchors],
            "caps": asdict(self._caps),
        }
        self._child: subprocess.Popen[bytes] | None = None
        self.network_closed_by = ""
        """`kernel`, or `python` where the kernel cannot; empty before the first file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self, path: Path, *, with_pixels: bool = False) -> FileSeen:
        """What `look_into` finds in a file, found elsewhere.

        Raises:
            ImageUnreadable: the file is no picture, or reading it crashed, took too long or too much memory.
            KeysUnusable: an anchor is not a PEM certificate.
        """
        child = self._started()
        late = threading.Event()
        timer = threading.Timer(self._caps.wall_s, _kill, (child, late))
        timer.start()
        try:
            found = self._asked(child, path, with_pixels=with_pixels)
        except (OSError, EOFError, ValueError) as error:
            self.close()
            reason = f"reading it took more than {self._caps.wall_s:g} s" if late.is_set() else _end_of(child, error)
            raise ImageUnreadable(str(path), reason) from error
        finally:
            timer.cancel()
        if isinstance(found, FileSeen):
            return found
        raise found

    def close(self) -> None:
        """End the child process, if there is one."""
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue  # it still held a question that nobody is there to read

    # --- the child ---------------------------------------------------------------------------------------

    def _started(self) -> subprocess.Popen[bytes]:
        """The child, alive and ready."""
        if self._child is not None and self._child.poll() is None:
            return self._child
        self.close()
        self._child = child = _spawn()
        late = threading.Event()
        timer = threading.Timer(_START_WITHIN_S, _kill, (child, late))
        timer.start()
        try:
            _write(child.stdin, self._given)
            self.network_closed_by = str(_answer(child.stdout)["network_closed_by"])
        except (OSError, EOFError, ValueError, KeyError) as error:
            self.close()
            raise ImageUnreadable("every file", f"the process that reads them does not start ({error!r})") from error
        finally:
            timer.cancel()
        return child

    def _asked(
        self, child: subprocess.Popen[bytes], path: Path, *, with_pixels: bool
    ) -> FileSeen | ImageUnreadable | KeysUnusable:
        """What the child says, if it is what it may say; an error it reports is handed back, not raised."""
        _write(child.stdin, {"path": os.fspath(path), "with_pixels": with_pixels})
        said = _answer(child.stdout)
        if "unreadable" in said:
            return ImageUnreadable(str(path), str(said["unreadable"]))
        if "keys" in said:
            return KeysUnusable("anchors", str(said["keys"]), "PEM root certificates")
        return _seen(said, child.stdout, self._caps.largest_px)


def _spawn() -> subprocess.Popen[bytes]:
    """A bare interpreter with our modules, none of the folder it is started in, and none of our environment."""
    environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    environment |= {"PYTHONPATH": os.pathsep.join(part for part in sys.path if part), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-P", "-B", "-m", "guardrail.act.apart_child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    )


def _kill(child: subprocess.Popen[bytes], late: threading.Event) -> None:
    late.set()
    child.kill()


def _end_of(child: subprocess.Popen[bytes], error: Exception) -> str:
    """How a child that gave no usable answer came to its end; it has ended."""
    code = child.returncode
    if isinstance(error, EOFError | BrokenPipeError) and code is not None and code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        told = {"SIGXCPU": "reading it took more time than a file may", "SIGKILL": "the system ended its reading"}
        return told.get(name, f"reading it crashed ({name})")
    return f"the process that read it ended or gave no usable answer ({type(error).__name__})"


# --- what goes over the pipe -------------------------------------------------------------------------------


def _write(pipe: IO[bytes] | None, message: dict[str, Any]) -> None:
    assert pipe is not None, "opened as a pipe"
    text = json.dumps(message).encode()
    pipe.write(len(text).to_bytes(_LENGTH_BYTES, "big") + text)
    pipe.flush()


def _answer(pipe: IO[bytes] | None) -> dict[str, Any]:
    size = int.from_bytes(_exactly(pipe, _LENGTH_BYTES), "big")
    if size > _LARGEST_ANSWER_BYTES:
        raise ValueError(f"an answer of {size} bytes")
    said = json.loads(_exactly(pipe, size))
    if not isinstance(said, dict):
        raise ValueError("an answer that is no object")  # noqa: TRY004 - its content is at fault
    return said


def _exactly(pipe: IO[bytes] | None, size: int) -> bytes:
    assert pipe is not None, "opened as a pipe"
    found = pipe.read(size)
    if len(found) != size:
        raise EOFError("it ended in the middle of an answer")
    return found


def _seen(said: dict[str, Any], pipe: IO[bytes] | None, largest_px: int) -> FileSeen:
    """The answer as a record; nothing in it is taken for what it says it is before it was looked at."""
    report = VerifyReport.model_validate(said["report"])
    pixels = None
    if said["size_px"] is not None:
        width, height = (int(side) for side in said["size_px"])
        if not 0 < width * height <= largest_px or width < 1:
            raise ValueError(f"a picture of {width}x{height}")
        pixels = np.frombuffer(_exactly(pipe, width * height * 3), np.uint8).reshape(height, width, 3)
    binding = said["binding_sha256"]
    return FileSeen(report, _MIME.validate_python(said["mime"]), None if binding is None else str(binding), pixels)
