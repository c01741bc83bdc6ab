"""Use a guard, fork, and use it again in the children; prints how each ended.

Run as `python used_then_forked.py INDEX KEYS HOME OUT WITHIN_S`. Torch gets two threads at least, as it takes them
where OMP_NUM_THREADS does not say otherwise, and the picture is large enough for it to share the work among them. A
child that is not done in time is killed.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from guardrail.guard import Guard
from guardrail.settings import Settings
from guardrail.testing import FakePlugin

CHILDREN, SIDE_PX, PAUSE_S = 2, 1024, 0.05


def picture(seed):
    """A picture that is in no index."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)


def forked(work):
    """Run something in a forked process, which dies with it; gives its id."""
    child = os.fork()
    if not child:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return child


def how_it_ended(child, until):
    """0, the status it ended with, or -9 where it had to be killed."""
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(PAUSE_S)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main():
    index, keys, home, out, within_s = sys.argv[1:]
    torch.set_num_threads(max(2, torch.get_num_threads()))
    settings = Settings(index=index, home=Path(home), keys=Path(keys), device="cpu")
    guard = Guard(settings=settings, plugins=[FakePlugin()])
    guard.check(picture(2000)).save(out)
    until = time.monotonic() + float(within_s)
    children = [forked(lambda at=at: guard.check(picture(2001 + at)).save(out)) for at in range(CHILDREN)]
    ended = [how_it_ended(child, until) for child in children]
    guard.check(picture(2001 + CHILDREN)).save(out)  # and the parent goes on
    json.dump({"threads": torch.get_num_threads(), "ended": ended}, sys.stdout)


if __name__ == "__main__":
    main()
