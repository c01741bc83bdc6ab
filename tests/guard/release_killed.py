"""Release pictures in child processes that kill themselves, each at another point; prints what each was killed at.

Run as `python release_killed.py INDEX KEYS HOME OUT [STEPS]`. What a child does while it releases is a row of events:
every call of and return from a function of the modules below, what these functions call in C, and what SQLite is told.
A first release counts them; then the K-th child, with OUT/K as its folder, is killed at the K-th of STEPS events that
are spread evenly over all; without STEPS, of those in NAMED. One JSON document: how many events there are, and for each
child its folder, where it was killed, and its status as of `waitpid`.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path

import numpy as np
from PIL import Image

from guardrail.guard import Guard
from guardrail.settings import Settings
from guardrail.testing import FakePlugin

WATCHED = ("guardrail/releasing.py", "guardrail/act/", "guardrail/memory/", "guardrail/plugins.py")
TOLD_SQLITE = {"do_execute", "do_commit", "do_rollback"}  # of SQLAlchemy's dialect
FIRST, LAST = 0, -1
SURE = 0.98  # of the events: how many there are differs from one release to the next by a few
NAMED = {  # between any two steps: the first time that a step begins, the last time that it ends
    "record_intent begins": FIRST,
    "record_intent ends": LAST,
    "sign begins": FIRST,
    "embed ends": LAST,
    "sign ends": LAST,
    "record_release begins": FIRST,
    "record_release ends": LAST,
    "_write_durably begins": FIRST,
    "fsync begins": FIRST,
    "_write_durably ends": LAST,
    "link ends": FIRST,
    "_flush_folder ends": LAST,
    "record_done begins": FIRST,
    "record_done ends": LAST,
}
ENDS = {"call": "begins", "c_call": "begins", "return": "ends", "c_return": "ends"}


def event_of(frame, event, argument):
    """`write_release begins`, or nothing where it is not watched."""
    if event not in ENDS:
        return ""
    code = frame.f_code
    watched = any(place in code.co_filename for place in WATCHED)
    told = code.co_filename.endswith("sqlalchemy/engine/default.py") and code.co_name in TOLD_SQLITE
    if not watched and not told:
        return ""
    return f"{argument.__name__ if event.startswith('c_') else code.co_name} {ENDS[event]}"


def released(guard, picture, folder, kills=None):
    """Check and save a picture; gives the events, unless `kills` says of one, and of those before it, to end there."""
    events = []

    def note(frame, event, argument):
        name = event_of(frame, event, argument)
        if name:
            if kills is not None and kills(name, events):
                os.kill(os.getpid(), signal.SIGKILL)
            events.append(name)

    report = guard.check(picture)
    sys.setprofile(note)
    try:
        paths = report.save(folder)
    finally:
        sys.setprofile(None)
    assert paths[0] is not None, "it was accepted and released"
    return events


def in_child(work):
    """Run something in a forked process, which dies with it; gives its status."""
    child = os.fork()
    if not child:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1]


def pictures():
    """New pictures without end, none like another or like a work."""
    for seed in range(1000, 10**6):
        coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
        yield Image.fromarray(coarse).resize((96, 96), Image.Resampling.BICUBIC)


def main():
    index, keys, home, out, *rest = sys.argv[1:]
    assert threading.active_count() == 1, "it can be forked"
    settings = Settings(index=index, home=Path(home), keys=Path(keys), device="cpu")
    guard = Guard(settings=settings, plugins=[FakePlugin()])
    new = pictures()
    for _ in range(2):  # the first one loads what is loaded once, and the parent has signed before it is forked
        events = released(guard, next(new), Path(out) / "whole")
    points = evenly(len(events), int(rest[0])) if rest else named(events)
    killed = []
    for number, (event, kills) in enumerate(points):
        folder, picture = Path(out) / f"{number}", next(new)
        status = in_child(lambda picture=picture, folder=folder, kills=kills: released(guard, picture, folder, kills))
        killed.append({"folder": folder.name, "event": event, "status": status})
    json.dump({"events": len(events), "killed": killed}, sys.stdout)


def named(events):
    """Each named event, in the order in which they happen, and what kills there."""
    found = {}
    for name, which in NAMED.items():
        places = [at for at, event in enumerate(events) if event == name]
        assert places, f"{name!r} does not happen"
        found[places[which]] = name, places.index(places[which])
    return [(name, times_before(name, times)) for _, (name, times) in sorted(found.items())]


def times_before(name, times):
    """Says to end when an event of that name happened so many times before."""
    return lambda event, before: event == name and before.count(name) == times


def evenly(count, steps):
    """So many places of `count`, the first among them, and what kills there."""
    return [(f"event {at}", after(at)) for at in np.linspace(0, count * SURE, steps, dtype=int)]


def after(at):
    """Says to end when so many events have happened."""
    return lambda event, before: len(before) == at


if __name__ == "__main__":
    main()
