"""What a rule asks of the run in; whether that holds out: yes, no, or nobody knows."""

from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

from guardrail.records import (
    Adapter,
    CheckFailed,
    Decision,
    Evidence,
    GenerationContext,
    InputMatch,
    MatchEvidence,
    MemorisationSign,
    RunEvidence,
    SignUnavailable,
    Work,
)
from guardrail.settings import RunCondition

__all__ = ["covering_input", "holds"]

_TRAINED_KINDS = ("lora", "textual_inversion")  # those that a user trains on a folder of images


def holds(
    condition: RunCondition,
    found: MatchEvidence | RunEvidence | CheckFailed,
    evidence: Sequence[Evidence],
    run: GenerationContext | None,
) -> bool | None:
    """Whether all that a rule asks holds; None where it hangs on something that is not known.

    Args:
        condition: what the rule asks.
        found: the evidence that the rule speaks of.
        evidence: all evidence on the image.
        run: how the image was made; None where nobody knows.
    """
    answers = list(_answers(condition, found, evidence, run))
    if any(answer is False for answer in answers):
        return False
    return None if any(answer is None for answer in answers) else True


def covering_input(work: Work, evidence: Iterable[Evidence]) -> InputMatch | None:
    """The evidence that an image repeats an input which is itself a copy of this work."""
    key = work.bank, work.work_id
    return next(
        (
            one
            for one in evidence
            if isinstance(one, InputMatch) and any((other.bank, other.work_id) == key for other in one.works)
        ),
        None,
    )


def _answers(
    asked: RunCondition,
    found: MatchEvidence | RunEvidence | CheckFailed,
    evidence: Sequence[Evidence],
    run: GenerationContext | None,
) -> Iterator[bool | None]:
    """One answer for each thing that is asked."""
    if asked.multiplicity_at_least is not None:
        yield isinstance(found, MatchEvidence) and found.work.multiplicity >= asked.multiplicity_at_least
    if asked.sign is not None:
        yield _sign(asked.sign, evidence)
    if asked.repeats_input is not None:
        said = _repeats(found, evidence, run)
        yield None if said is None else said is asked.repeats_input
    if asked.pipeline is not None:
        yield None if run is None else fnmatchcase(run.pipeline, asked.pipeline)
    if asked.strength_below is not None:
        yield _strength(asked.strength_below, run)
    if asked.has_input is not None:
        yield _has_input(asked.has_input, run)
    if asked.adapter is not None or asked.adapter_trained_on_fewer_than is not None:
        yield _adapter(asked.adapter or "*", asked.adapter_trained_on_fewer_than, run)


def _sign(name: str, evidence: Sequence[Evidence]) -> bool | None:
    """Whether a sign reaches a limit; one that was not measured is not known."""
    measured = [one for one in evidence if isinstance(one, MemorisationSign) and fnmatchcase(one.sign, name)]
    if any(one.reaches is not Decision.ACCEPT for one in measured):
        return True
    missing = any(isinstance(one, SignUnavailable) and fnmatchcase(one.sign, name) for one in evidence)
    return False if measured and not missing else None


def _repeats(
    found: MatchEvidence | RunEvidence | CheckFailed, evidence: Sequence[Evidence], run: GenerationContext | None
) -> bool | None:
    if isinstance(found, MatchEvidence) and covering_input(found.work, evidence) is not None:
        return True
    if run is None or run.is_unread("inputs", "arguments"):
        return None
    return None if any(one.pixels_sha256 is None and one.role != "mask" for one in run.inputs) else False


def _strength(below: float, run: GenerationContext | None) -> bool | None:
    """Whether the strength is lower; a pipeline without any is not."""
    if run is None or (run.strength is None and run.is_unread("strength", "arguments")):
        return None
    return run.strength is not None and run.strength < below


def _has_input(role: str, run: GenerationContext | None) -> bool | None:
    if run is None:
        return None
    if any(one.role == role for one in run.inputs):
        return True
    return None if run.is_unread("inputs", "arguments") else False


def _adapter(name: str, fewer_than: int | None, run: GenerationContext | None) -> bool | None:
    """Whether an adapter of that name is on that was trained on fewer images (None: on any number).

    One that may only bear the name settles nothing: nobody knows whether it is the adapter that is asked for.
    """
    if run is None:
        return None
    answers = [_is_asked(one, fewer_than) for one in run.adapters if _bears(one, name)]
    if any(answers):
        return True
    return None if None in answers or run.is_unread("adapters") else False


def _bears(adapter: Adapter, name: str) -> bool:
    return any(fnmatchcase(one, name) for one in (adapter.name, adapter.known_as) if one is not None)


def _is_asked(adapter: Adapter, fewer_than: int | None) -> bool | None:
    """Whether an adapter of the right name is the one that is asked for; None where nobody can tell."""
    if adapter.doubted:
        return None
    if fewer_than is None:
        return True
    if adapter.trained_on is None:
        return None if adapter.kind in _TRAINED_KINDS else False
    return adapter.trained_on < fewer_than
