"""Images that wait to be judged: requests put them in, one thread takes them out a batch at a time."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from guardrail.carriers import ImageBatch, Picture
from guardrail.desk.web.problems import Problem

if TYPE_CHECKING:
    from guardrail.desk.web.desk import Desk
    from guardrail.guard import Guard
    from guardrail.records import GenerationContext, Verdict

__all__ = ["CheckQueue", "ToCheck", "Unchecked"]

log = logging.getLogger("guardrail.desk")

_BATCH_PX = 32_000_000  # pixels decoded at once, 100 MB; a picture that is larger is judged alone
_RETRY_AFTER_S = 2


class Unchecked(NamedTuple):
    """An image on which there is no verdict: the check itself failed; it may not leave."""

    error: Exception


class ToCheck(NamedTuple):
    """One image: what the verdict calls it, and what gives its bytes, in the thread that judges."""

    name: str
    content: Callable[[], bytes]


@dataclass(eq=False, slots=True)
class _Request:
    """The images of one request, which are answered together."""

    organisation: str
    context: GenerationContext | None
    answers: list[Verdict | Unchecked | None]
    future: Future[tuple[Verdict | Unchecked, ...]] = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)


class _Waiting(NamedTuple):
    request: _Request
    place: int
    image: ToCheck


class CheckQueue:
    """The queue, and the thread behind it, which starts with the first image.

    Images of one organisation are judged together, whatever requests they came with, if these say the same of the run.
    Organisations take turns.

    Args:
        desk: whose guards judge; its settings say how many may wait, and how many are judged at once.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._waiting: dict[str, deque[_Waiting]] = {}
        self._count = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many images wait or are judged just now."""
        return self._count

    @property
    def alive(self) -> bool:
        """Whether images that are put in now will be judged."""
        return not self._closed and (self._thread is None or self._thread.is_alive())

    def put(
        self, organisation: str, images: Sequence[ToCheck], context: GenerationContext | None = None
    ) -> Future[tuple[Verdict | Unchecked, ...]]:
        """Have images judged.

        Args:
            organisation: whose; its guard judges.
            images: one or more; no two of one name, in this request or any other.
            context: how the model was run.

        Returns:
            A future of a verdict on each image, in their order, or why there is none.

        Raises:
            Problem: too many images wait (503).
        """
        request = _Request(organisation, context, [None] * len(images))
        with self._changed:
            if self._closed or self._count + len(images) > self._desk.settings.desk.checks_waiting:
                found = f"found {self._count} images waiting, expected room for {len(images)} more"
                headers = {"Retry-After": str(_RETRY_AFTER_S)}
                raise Problem(503, f"{found}; send them again in a moment", "queue-full", headers)
            line = self._waiting.setdefault(organisation, deque())
            line.extend(_Waiting(request, place, image) for place, image in enumerate(images))
            self._count += len(images)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="guardrail-checks", daemon=True)
                self._thread.start()
            self._changed.notify()
        return request.future

    def close(self) -> None:
        """Judge what waits, and stop."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while taken := self._take():
            try:
                self._judge(taken)
            except Exception as error:  # whatever goes wrong, the next batch is judged, and nothing passes
                log.exception("a batch could not be judged")
                for one in taken:
                    self._answer(one, Unchecked(error))
            finally:
                with self._changed:
                    self._count -= len(taken)

    def _take(self) -> list[_Waiting]:
        """The next batch: of one organisation and one run; empty when there will be no more."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            if not self._waiting:
                return []
            organisation = next(iter(self._waiting))
            line = self._waiting.pop(organisation)
            context = line[0].request.context
            taken: list[_Waiting] = []
            while line and len(taken) < self._desk.settings.batch and line[0].request.context == context:
                taken.append(line.popleft())
            if line:
                self._waiting[organisation] = line  # at the end: the others first
            return taken

    def _judge(self, taken: list[_Waiting]) -> None:
        """Read images until they are large enough together, judge them, and go on with the rest."""
        guard = self._desk.guard_for(taken[0].request.organisation)
        batch: list[tuple[_Waiting, Picture]] = []
        pixels = 0
        for one in taken:
            if one.request.future.cancelled():  # nobody waits for it any more
                continue
            picture = self._read(one, guard)
            if picture is None:
                continue
            size_px = 0 if picture.pixels is None else picture.pixels.shape[1] * picture.pixels.shape[2]
            if batch and pixels + size_px > _BATCH_PX:
                self._judge_batch(guard, batch)
                batch, pixels = [], 0
            batch.append((one, picture))
            pixels += size_px
        if batch:
            self._judge_batch(guard, batch)

    def _read(self, one: _Waiting, guard: Guard) -> Picture | None:
        """The picture of an image; None where its bytes are not at hand any more, which is its answer."""
        from guardrail.intake.files import read_content  # torch, which came with the guard

        try:
            content = one.image.content()
        except Exception as error:  # noqa: BLE001 - a store or a closed file may raise anything; the others go on
            self._answer(one, Unchecked(error))
            return None
        return read_content(one.image.name, content, guard.settings.largest_image_px)

    def _judge_batch(self, guard: Guard, batch: list[tuple[_Waiting, Picture]]) -> None:
        """Judge pictures together; if that fails, each alone, so that only those at fault have no verdict."""
        context = batch[0][0].request.context
        self._desk.metrics.waited([one.request.since for one, _ in batch], len(batch))
        try:
            verdicts = guard.judge(ImageBatch(tuple(picture for _, picture in batch)), context)
        except Exception as error:
            if len(batch) == 1:
                log.exception("%s was not judged", batch[0][0].image.name)
                self._answer(batch[0][0], Unchecked(error))
                return
            reason = f"{type(error).__name__}: {error}"
        else:
            for (one, _), verdict in zip(batch, verdicts, strict=True):
                self._answer(one, verdict)
            return
        log.warning("a batch of %d is judged image by image: %s", len(batch), reason)
        for pair in batch:
            self._judge_batch(guard, [pair])

    def _answer(self, one: _Waiting, answer: Verdict | Unchecked) -> None:
        request = one.request
        if request.answers[one.place] is None:
            request.answers[one.place] = answer
        if all(found is not None for found in request.answers) and not request.future.done():
            self._desk.metrics.checked(time.monotonic() - request.since)
            try:
                request.future.set_result(tuple(found for found in request.answers if found is not None))
            except InvalidStateError:  # it was cancelled in this very moment
                log.info("a request was given up while it was answered")
