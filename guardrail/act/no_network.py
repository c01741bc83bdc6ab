"""Take the network away from this process, before it touches a stranger's file."""

import ctypes
import platform
import struct
import sys
from typing import Any, Literal

__all__ = ["close_network"]

_SET_NO_NEW_PRIVILEGES, _SET_SECCOMP = 38, 22  # linux/prctl.h
_FILTER_MODE = 2  # linux/seccomp.h
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # linux/bpf_common.h, 32-bit words
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | 13  # linux/seccomp.h; 13 is EACCES
_AT_NUMBER, _AT_ARCHITECTURE = 0, 4  # offsets in struct seccomp_data
_OTHER_TABLE = 0x40000000  # asm/unistd.h: numbers of the x32 calls, under the same architecture
_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # linux/audit.h
_REFUSED = {  # socket, connect, socketpair, execve, execveat, io_uring_setup, ptrace
    "x86_64": (41, 42, 53, 59, 322, 425, 101),
    "aarch64": (198, 203, 199, 221, 281, 425, 117),
}


def close_network() -> Literal["kernel", "python"]:
    """Refuse this process, for good, every socket and every other program; call it before other threads are started.

    On Linux (x86-64, ARM64) the kernel refuses the system calls, whoever makes them. Elsewhere, and where the kernel
    has no such filters, only Python's own sockets are refused, by an audit hook.

    Returns:
        Who refuses.
    """
    sys.addaudithook(_refuse)
    machine = platform.machine()
    if sys.platform == "linux" and machine in _ARCHITECTURE and _filtered(machine):
        return "kernel"
    return "python"


def _refuse(event: str, given: tuple[Any, ...]) -> None:
    del given
    if event.startswith("socket.") or event in {"os.system", "os.exec", "os.posix_spawn", "subprocess.Popen"}:
        raise PermissionError(f"{event} is refused in the process that reads strangers' files")


def _filtered(machine: str) -> bool:
    """Whether the kernel took the filter."""
    instructions = _program(machine)
    code = ctypes.create_string_buffer(b"".join(instructions))
    program = struct.pack("@HP", len(instructions), ctypes.addressof(code))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    if prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        return False
    held = ctypes.create_string_buffer(program)
    return bool(prctl(_SET_SECCOMP, _FILTER_MODE, ctypes.addressof(held), 0, 0) == 0)


def _program(machine: str) -> list[bytes]:
    """The filter, one instruction each: another architecture or a refused call ends at the last line."""
    refused = _REFUSED[machine]
    rest = [_step(_JUMP_EQUAL, number, yes=len(refused) - at) for at, number in enumerate(refused)]
    return [
        _step(_LOAD, _AT_ARCHITECTURE),
        _step(_JUMP_EQUAL, _ARCHITECTURE[machine], no=len(refused) + 3),
        _step(_LOAD, _AT_NUMBER),
        _step(_JUMP_AT_LEAST, _OTHER_TABLE, yes=len(refused) + 1),
        *rest,
        _step(_RETURN, _ALLOW),
        _step(_RETURN, _REFUSE),
    ]


def _step(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    """One instruction of a classic BPF program: `struct sock_filter`."""
    return struct.pack("=HBBI", code, yes, no, value)
