"""What `guardrail bench desk` does: a queue that is filled, a desk in a child process, and requests to it."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import httpx
import numpy as np
from PIL import Image

from guardrail.desk.speed_commands import scratch_guard
from guardrail.guard import Guard
from guardrail.memory import Held
from guardrail.records import Decision
from guardrail.records.review import Scope
from guardrail.settings import Settings

__all__ = ["DeskAsked", "DeskPace", "Spread", "run_desk_bench"]

_SEEDED_AT_ONCE = 250
_SIDE_PX = 256  # of the pictures that are checked and added
_STEPS_PX = 16  # of the random field that they are: enough in them to hash
_START_S = 120
_STOP_S = 60
_ANSWER_S = 300
_NEXT = "/queue/next"  # takes a case, and sends on to it: both are one page here
_PAGES = {
    "page: queue": "/queue",
    "page: queue, filtered": "/queue?bank={bank}",
    "page: one case": "/cases/{case}",
    "page: next case": _NEXT,
    "api: cases": "/v1/cases?limit=50",
    "api: one case": "/v1/cases/{case}",
}
_SCOPES: tuple[Scope, ...] = ("check", "cases:read", "works:write")


@dataclass(frozen=True, slots=True)
class DeskAsked:
    """What is to be measured; see the command's options."""

    cases: int
    checks: int
    at_once: int
    pages: int
    works: int
    index: str


@dataclass(frozen=True, slots=True)
class Spread:
    """How long requests took, in milliseconds."""

    count: int
    p50: float
    p95: float

    @classmethod
    def of(cls, spent_s: list[float]) -> Spread:
        """The spread of some times in seconds."""
        p50, p95 = (float(np.percentile(spent_s, at)) * 1000 for at in (50, 95))
        return cls(len(spent_s), p50, p95)


@dataclass(slots=True)
class DeskPace:
    """What was measured: times by what was asked for, and what failed."""

    works_in_index: int
    rows: dict[str, Spread] = field(default_factory=dict)
    checks_per_s: float = 0.0
    images_per_batch: float = 0.0
    failures: list[str] = field(default_factory=list)


def run_desk_bench(settings: Settings, asked: DeskAsked, progress: Callable[[int, int], None]) -> DeskPace:
    """Fill a queue, start a desk, and ask it.

    Raises:
        IndexMissing, IndexDamaged: the index cannot be used.
        RuntimeError: the desk did not start.
    """
    with TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        index = _copied(asked.index or settings.index, Path(scratch))
        with scratch_guard(settings, index, settings.device) as guard:
            session, token = _people(guard)
            bank = _fill(guard, asked.cases, progress)
            pace = DeskPace(guard.index.header.works)
            with _desk_of(guard) as address:
                cookies, headers = {"guardrail": session}, {"Authorization": f"Bearer {token}"}
                with httpx.Client(base_url=address, cookies=cookies, timeout=_ANSWER_S, trust_env=False) as person:
                    _ask_pages(person, asked.pages, {"bank": bank, "case": str(asked.cases // 2 + 1)}, pace)
                asyncio.run(_ask_checks(address, headers, asked, pace))
                with httpx.Client(base_url=address, headers=headers, timeout=_ANSWER_S, trust_env=False) as program:
                    _ask_works(program, asked.works, pace)
                    pace.images_per_batch = _images_per_batch(program)
    return pace


def _copied(index: str, scratch: Path) -> str:
    """An index of our own, for works are added to it; empty where the demo's is to be built."""
    if not index:
        return ""
    shutil.copytree(index, scratch / "index")
    return str(scratch / "index")


def _people(guard: Guard) -> tuple[str, str]:
    """An admin who signed in, and a token of theirs."""
    accounts = guard.memory.accounts
    accounts.first_links({"default": "default"})
    person = accounts.open_account("default", "bench@example.org", "Bench", "admin")
    return accounts.sessions.open(person.account_id, "full", hours=1), accounts.tokens.make(
        person.actor, "bench", _SCOPES, 1
    )


def _fill(guard: Guard, cases: int, progress: Callable[[int, int], None]) -> str:
    """Open cases that are like a real one, and older from one to the next; returns the bank of the nearest work."""
    picture = _picture(0)
    verdict = guard.check([Image.open(io.BytesIO(picture))]).verdicts[0]
    spread = np.random.default_rng(0)
    now = datetime.now(UTC)
    for start in range(0, cases, _SEEDED_AT_ONCE):
        held = []
        for at in range(start, min(start + _SEEDED_AT_ONCE, cases)):
            said = {
                "verdict_id": uuid4().hex,
                "image": f"{at}.png",
                "decision": Decision.FLAG,
                "pixels_sha256": hashlib.sha256(str(at).encode()).hexdigest(),
                "at": now - timedelta(seconds=cases - at),
            }
            held.append(Held(verdict.model_copy(update=said), picture, spread.bytes(32)))
        guard.memory.record_verdicts(held, None, guard.limits)
        progress(min(start + _SEEDED_AT_ONCE, cases), cases)
    return verdict.nearest[0].work.bank if verdict.nearest else ""


def _picture(seed: int) -> bytes:
    """A PNG of a smooth random field."""
    coarse = np.random.default_rng(seed).integers(0, 256, (_STEPS_PX, _STEPS_PX, 3), np.uint8)
    kept = io.BytesIO()
    Image.fromarray(coarse).resize((_SIDE_PX, _SIDE_PX), Image.Resampling.BICUBIC).save(kept, "PNG")
    return kept.getvalue()


@contextmanager
def _desk_of(guard: Guard) -> Iterator[str]:
    """A desk on the guard's memory and index, in a process of its own; gives its address."""
    settings = guard.settings
    said = {
        "GUARDRAIL_INDEX": settings.index,
        "GUARDRAIL_HOME": str(settings.home),
        "GUARDRAIL_DEVICE": settings.device,
        "GUARDRAIL_WEIGHTS": str(settings.weights_dir),
        "GUARDRAIL_BATCH": str(settings.batch),
    }
    command = [sys.executable, "-m", "guardrail", "desk", "--port", "0", "--json"]
    with (
        (settings.home / "desk.log").open("wb") as log,
        subprocess.Popen(  # noqa: S603 - this very program
            command, cwd=settings.home, env=os.environ | said, stdout=subprocess.PIPE, stderr=log
        ) as child,
    ):
        try:
            yield _address(child)
        finally:
            child.terminate()
            child.wait(_STOP_S)


def _address(child: subprocess.Popen[bytes]) -> str:
    """Where the desk says to be, once it is ready there.

    Raises:
        RuntimeError: it ended, or is not ready in time.
    """
    text = b""
    assert child.stdout is not None, "it was started with a pipe"
    while line := child.stdout.readline():
        text += line
        if line.rstrip() == b"}":
            break
    if not text:
        raise RuntimeError("the desk did not start; run guardrail desk with the same settings to see why")
    address = str(json.loads(text)["address"])
    until = time.monotonic() + _START_S
    while time.monotonic() < until:
        try:
            if httpx.get(f"{address}/readyz", trust_env=False).is_success:
                return address
        except httpx.TransportError:
            pass  # it does not listen yet
        time.sleep(0.1)
    raise RuntimeError(f"the desk is not ready at {address} within {_START_S} s")


def _ask_pages(person: httpx.Client, count: int, filled: dict[str, str], pace: DeskPace) -> None:
    """Ask for pages one after the other; the first of each kind is not counted."""
    for name, place in _PAGES.items():
        spent = []
        for at in range(count + 1):
            started = time.perf_counter()
            answer = person.get(place.format(**filled), follow_redirects=place == _NEXT)
            if at:
                spent.append(time.perf_counter() - started)
            if answer.status_code != httpx.codes.OK or (place == _NEXT and not answer.url.path.startswith("/cases/")):
                pace.failures.append(f"{place}: {answer.status_code}")
                break
        if spent:
            pace.rows[name] = Spread.of(spent)


async def _ask_checks(address: str, headers: dict[str, str], asked: DeskAsked, pace: DeskPace) -> None:
    """Ask for checks, so many in flight at a time; each has another picture."""
    spent: list[float] = []
    pictures = [_picture(1000 + at) for at in range(asked.checks)]
    limits = httpx.Limits(max_connections=asked.at_once)
    gate = asyncio.Semaphore(asked.at_once)
    timeout = httpx.Timeout(_ANSWER_S)
    async with httpx.AsyncClient(
        base_url=address, headers=headers, limits=limits, timeout=timeout, trust_env=False
    ) as program:

        async def ask(picture: bytes) -> None:
            async with gate:
                started = time.perf_counter()
                answer = await program.post("/v1/check", files=[("image", ("a.png", picture))])
                spent.append(time.perf_counter() - started)
                if answer.status_code != httpx.codes.OK or answer.json()["images"][0]["verdict"] is None:
                    pace.failures.append(f"/v1/check: {answer.status_code}")

        started = time.perf_counter()
        await asyncio.gather(*map(ask, pictures))
        pace.checks_per_s = len(spent) / (time.perf_counter() - started)
    pace.rows[f"check, {asked.at_once} in flight"] = Spread.of(spent)


def _ask_works(program: httpx.Client, count: int, pace: DeskPace) -> None:
    """Add works, and check each at once: how long adding takes, and until a check has found it."""
    adding, live = [], []
    for at in range(count):
        picture = _picture(100_000 + at)
        started = time.perf_counter()
        sent = {"files": [("image", ("a.png", picture))]}
        answer = program.post("/v1/works", data={"bank": "bench", "work_id": f"bench-{at}"}, **sent)  # type: ignore[arg-type]
        adding.append(time.perf_counter() - started)
        found = program.post("/v1/check", **sent)  # type: ignore[arg-type]
        live.append(time.perf_counter() - started)
        if answer.status_code != httpx.codes.CREATED or found.json().get("decision") != "block":
            pace.failures.append(f"/v1/works: {answer.status_code}, then {found.status_code}")
    pace.rows["work added"] = Spread.of(adding)
    pace.rows["work added, and found by a check"] = Spread.of(live)


def _images_per_batch(program: httpx.Client) -> float:
    """How many images were judged together, in the mean, as the desk itself counted."""
    text = program.get("/metrics").text
    counted = dict(
        line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("guardrail_check_batch_images_")
    )
    batches = float(counted["guardrail_check_batch_images_count"])
    return float(counted["guardrail_check_batch_images_sum"]) / max(1.0, batches)
