"""A check as the API does it: images into the queue, verdicts into an answer; at once, or as a job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from pydantic import ValidationError

from guardrail.desk.web.answers import CheckAnswer, CheckedImage
from guardrail.desk.web.batching import ToCheck, Unchecked
from guardrail.desk.web.problems import Problem, problem_of
from guardrail.errors import GuardrailError, MemoryUnwritable
from guardrail.records import CheckFailed, Decision, GenerationContext, Verdict
from guardrail.review_errors import PictureMissing

if TYPE_CHECKING:
    from guardrail.desk.web.desk import Desk
    from guardrail.memory import JobRow

__all__ = ["Sent", "answer_of", "context_of", "enter_check", "handler", "images_of", "new_check_id"]

_READING = "read_file"  # the check that fails where a file is no picture
_HEADER = b"guardrail check "  # before the bytes of an image that waits: no picture of a case has the same digest


class Sent(NamedTuple):
    """One image as it was sent: the name that its sender knows it by, and what gives its bytes."""

    name: str
    content: Callable[[], bytes]


def new_check_id() -> str:
    """A name for one check."""
    return uuid4().hex[:16]


def context_of(text: str | None) -> GenerationContext | None:
    """How the model was run, as it was sent: JSON with the fields of `GenerationContext`.

    Raises:
        Problem: it cannot be followed (422).
    """
    if text is None or not text.strip():
        return None
    try:
        return GenerationContext.model_validate_json(text)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:5])
        found = f"found a context in which {wrong}"
        raise Problem(422, f"{found}; expected the fields of GenerationContext as JSON", "bad-context") from None


def images_of(check_id: str, sent: Sequence[Sent]) -> list[ToCheck]:
    """The images of one check under names that no other check has: its id, their place, and their own names."""
    return [ToCheck(f"{check_id}/{place}-{one.name}", one.content) for place, one in enumerate(sent)]


def answer_of(check_id: str, names: Sequence[str], found: Sequence[Verdict | Unchecked]) -> CheckAnswer:
    """What is answered.

    Args:
        check_id: of the check.
        names: of the images, as their sender knows them.
        found: on each of them.

    Raises:
        Exception: what kept every single one from being checked, where a store, not the images, is at fault.
    """
    lost = [one.error for one in found if isinstance(one, Unchecked)]
    if lost and len(lost) == len(found) and isinstance(lost[0], GuardrailError | OSError):
        raise lost[0]
    images = [_image(name, one) for name, one in zip(names, found, strict=True)]
    worst = max((one.decision for one in images), key=lambda decision: decision.severity)
    return CheckAnswer(check_id=check_id, decision=worst, images=images)


def _image(name: str, found: Verdict | Unchecked) -> CheckedImage:
    if isinstance(found, Unchecked):
        refused = problem_of(found.error)
        said = "it could not be checked, and what could not be checked is not let out"
        return CheckedImage(
            image=name, decision=Decision.BLOCK, rule="not_checked", explanation=said, verdict=None, problem=refused
        )
    unread = [one for one in found.evidence if isinstance(one, CheckFailed) and one.check == _READING]
    problem = (
        problem_of(Problem(422, f"{unread[0].error}; send a still picture", "unreadable-image")) if unread else None
    )
    return CheckedImage(
        image=name,
        decision=found.decision,
        rule=found.rule,
        explanation=found.explanation,
        verdict=found,
        problem=problem,
    )


def enter_check(
    desk: Desk, organisation: str, account_id: str, sent: Sequence[Sent], context: GenerationContext | None
) -> str:
    """Keep images, and enter a job that checks them; returns its id. It outlives this process.

    Raises:
        MemoryUnwritable: nothing was entered.
    """
    check_id = new_check_id()
    kept = [
        {"name": one.name, "sha256": desk.memory.pictures.put(_wrapped(check_id, place, one.content()))}
        for place, one in enumerate(sent)
    ]
    asked: dict[str, Any] = {"check_id": check_id, "images": kept}
    asked["context"] = context.model_dump(mode="json") if context is not None else None
    job_id = desk.memory.jobs.add(organisation, "check", asked, account_id, len(kept))
    desk.workers.nudge()
    return job_id


def handler(desk: Desk) -> Callable[[JobRow], dict[str, Any]]:
    """What does jobs of kind `check`."""

    def check(job: JobRow) -> dict[str, Any]:
        asked = job.asked
        names = [str(one["name"]) for one in asked["images"]]
        sent = [
            Sent(name, lambda digest=one["sha256"]: _unwrapped(desk.memory.pictures.get(digest)))  # type: ignore[misc]
            for name, one in zip(names, asked["images"], strict=True)
        ]
        context = GenerationContext.model_validate(asked["context"]) if asked["context"] is not None else None
        check_id = str(asked["check_id"])
        found = desk.checks.put(job.organisation, images_of(check_id, sent), context).result()
        answer = answer_of(check_id, names, found).model_dump(mode="json")
        for one in asked["images"]:
            _let_go(desk, str(one["sha256"]))
        return answer

    return check


def _let_go(desk: Desk, sha256: str) -> None:
    try:
        desk.memory.pictures.delete(sha256)
    except (MemoryUnwritable, PictureMissing):  # it was judged all the same; what stays is swept away later
        return


def _wrapped(check_id: str, place: int, content: bytes) -> bytes:
    return _HEADER + f"{check_id} {place}\n".encode() + content


def _unwrapped(kept: bytes) -> bytes:
    return kept.partition(b"\n")[2]
