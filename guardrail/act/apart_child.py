"""The process in which `FilesApart` has a stranger's file read: limited first, then told of files, one after another.

Messages are JSON after their length in 8 bytes; pixels follow the answer they belong to, bare.
"""

import sys

from guardrail.act.no_network import close_network

if __name__ == "__main__":
    _CLOSED_BY = close_network()  # before anything else is imported: threads that are started later inherit it

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from guardrail.act.verify import FileSeen, look_into
from guardrail.errors import ImageUnreadable, KeysUnusable

__all__ = ["serve"]

_LENGTH_BYTES = 8
_LARGEST_ANSWER_BYTES = 2**18  # the other side reads no more


def serve(asked: IO[bytes], answers: IO[bytes], network_closed_by: str) -> None:
    """Answer until nobody asks any more.

    Args:
        asked: first the anchors and caps, then one question a file.
        answers: to write to.
        network_closed_by: what `close_network` said.
    """
    given = _question(asked)
    if given is None:
        return
    caps = given["caps"]
    _limit_memory(caps["memory_bytes"])
    _say(answers, {"network_closed_by": network_closed_by})
    anchors, time_stamps = _pem(given["anchors"]), _pem(given["time_stamp_anchors"])
    while (question := _question(asked)) is not None:
        _limit_time(caps["cpu_s"])
        try:
            path, wanted = Path(question["path"]), question["with_pixels"]
            seen = look_into(path, anchors, time_stamps, with_pixels=wanted, largest_px=caps["largest_px"])
        except ImageUnreadable as error:
            _say(answers, {"unreadable": str(error.args[1])[:1000]})
        except KeysUnusable as error:
            _say(answers, {"keys": str(error.args[1])[:1000]})
        except MemoryError:
            _say(answers, {"unreadable": f"reading it takes more than {caps['memory_bytes']} bytes of memory"})
        else:
            _tell(answers, seen)


def _tell(answers: IO[bytes], seen: FileSeen) -> None:
    size = None if seen.pixels is None else (seen.pixels.shape[1], seen.pixels.shape[0])
    report = seen.report.model_dump(mode="json")
    said = {"report": report, "mime": seen.mime, "binding_sha256": seen.binding_sha256, "size_px": size}
    if len(json.dumps(said)) > _LARGEST_ANSWER_BYTES:
        _say(answers, {"unreadable": "what it says of itself is too long"})
        return
    _say(answers, said)
    if seen.pixels is not None:
        answers.write(seen.pixels.data)
        answers.flush()


def _question(asked: IO[bytes]) -> dict[str, Any] | None:
    length = asked.read(_LENGTH_BYTES)
    if len(length) < _LENGTH_BYTES:
        return None
    found: dict[str, Any] = json.loads(asked.read(int.from_bytes(length, "big")))
    return found


def _say(answers: IO[bytes], message: dict[str, Any]) -> None:
    text = json.dumps(message).encode()
    answers.write(len(text).to_bytes(_LENGTH_BYTES, "big") + text)
    answers.flush()


def _pem(texts: Sequence[str]) -> tuple[bytes, ...]:
    return tuple(text.encode("latin-1") for text in texts)


def _limit_memory(most_bytes: int) -> None:
    """Cap the address space, and let this process write no file and leave no core dump, where the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    for what, most in (("RLIMIT_AS", most_bytes), ("RLIMIT_FSIZE", 0), ("RLIMIT_CORE", 0)):
        _, hard = resource.getrlimit(getattr(resource, what))
        if hard == resource.RLIM_INFINITY or most <= hard:
            resource.setrlimit(getattr(resource, what), (most, most))


def _limit_time(cpu_s: int) -> None:
    """Give this process so many more seconds of computing, at the end of which the kernel ends it."""
    try:
        import resource
    except ImportError:  # Windows
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + cpu_s, hard))


if __name__ == "__main__":
    _OUT = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    serve(sys.stdin.buffer, _OUT, _CLOSED_BY)
