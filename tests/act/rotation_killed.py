"""Rotate copies of a key folder, killed before the 1st, 2nd, 3rd ... operation on files; prints how many there were.

Run as `python rotation_killed.py KEYS INTO [--root]`: each copy is INTO/N, and the last one was not killed.
"""

import os
import shutil
import signal
import sys
from pathlib import Path

from guardrail.act import rotate_keys

EVENTS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "shutil.rmtree", "os.truncate"}


def killed_before(operation, folder, *, new_root):
    """Rotate in a child process that kills itself before its so manieth operation; whether it was killed."""
    child = os.fork()
    if not child:
        done = 0

        def count(event, arguments):
            nonlocal done
            if event in EVENTS and arguments and str(folder) in str(arguments[0]):
                done += 1
                if done == operation:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        rotate_keys(folder, new_root=new_root)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit(f"the rotation failed before operation {operation}")
    return os.WIFSIGNALED(status)


def main():
    keys, into, *rest = sys.argv[1:]
    operation = 0
    while True:
        operation += 1
        copy = Path(into).resolve() / str(operation)
        shutil.copytree(keys, copy)
        if not killed_before(operation, copy, new_root="--root" in rest):
            break
    sys.stdout.write(f"{operation}\n")


if __name__ == "__main__":
    main()
