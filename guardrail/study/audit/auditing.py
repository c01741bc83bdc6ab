"""The audit from plan to report: generate what is missing, ask every part, say what they say together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from guardrail.errors import GuardrailError
from guardrail.records import AuditFinding, AuditOutcome, AuditReport
from guardrail.study.audit.asks import AuditPart, Budget, Subject
from guardrail.study.audit.coverage import unasked, works_asked
from guardrail.study.audit.keeping import Keeping
from guardrail.study.audit.making import Maker, generate
from guardrail.study.audit.wording import counted

__all__ = ["Audit", "outcome_of", "run_audit"]

ProgressOf = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]


@dataclass(frozen=True, slots=True)
class Audit:
    """What is to be done.

    Attributes:
        subject: the model and its pictures; `generated` is filled in.
        maker: calls the pipeline.
        keeping: the folder of generations, with their plan.
        parts: the questions, asked in order.
        batch: pictures a call of the pipeline.
        budget: of all parts, and of the generations as far as time goes.
        training: where the training pictures are from, for the report.
        weights_sha256: digest of the model's weights, where it was taken.
        warnings: what was not looked at, such as a training picture that cannot be read: then nothing is clean.
        left_out: parts that do not apply to this model, each with the reason: they change nothing.
        versions: of the libraries, for the report.
    """

    subject: Subject
    maker: Maker
    keeping: Keeping
    parts: tuple[AuditPart, ...]
    batch: int
    budget: Budget
    training: str
    weights_sha256: str | None = None
    warnings: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)


def run_audit(audit: Audit, progress_of: ProgressOf) -> AuditReport:
    """Carry an audit out.

    Args:
        audit: what is to be done.
        progress_of: gives, for a piece of work by name, a context whose value is called with (done, total).

    Raises:
        AuditImpossible: the pipeline could not be called, or the work folder not be written.
    """
    with progress_of("generating") as progress:
        stopped = generate(audit.maker, audit.keeping, audit.batch, audit.budget, progress)
    subject = replace(audit.subject, generated=audit.keeping.generations())
    failures = audit.keeping.failures
    warnings = [*audit.warnings, *([stopped] if stopped else [])]
    if failures:
        first = next(iter(failures.values()))
        gave = counted(len(failures), "generation")
        warnings.append(f"{gave} gave no picture that could be looked at, such as: {first}")
    plan, made = audit.keeping.plan, subject.generated
    warnings += unasked(subject.training, plan, made)
    findings = tuple(_asked(part, subject, audit.budget, progress_of) for part in audit.parts)
    return AuditReport(
        pipeline=subject.name,
        weights_sha256=audit.weights_sha256,
        training=audit.training,
        training_pictures=len(subject.training),
        held_out_pictures=len(subject.held_out),
        planned=plan.count,
        generated=len(made),
        works_asked=works_asked(subject.training, made.prompts, made.labels),
        seed=plan.seed,
        outcome=outcome_of(findings, complete=not warnings),
        findings=findings,
        warnings=tuple(warnings),
        parts_left_out=audit.left_out,
        versions=audit.versions,
    )


def outcome_of(findings: Sequence[AuditFinding], *, complete: bool) -> AuditOutcome:
    """What all findings say together: memorised if one says so; clean only if all do and everything was looked at.

    Args:
        findings: of the parts; without any, nothing can be told.
        complete: whether every training picture and every generation of the plan was looked at.
    """
    said = {finding.outcome for finding in findings}
    if AuditOutcome.MEMORISED in said:
        return AuditOutcome.MEMORISED
    return AuditOutcome.CLEAN if said == {AuditOutcome.CLEAN} and complete else AuditOutcome.COULD_NOT_TELL


def _asked(part: AuditPart, subject: Subject, budget: Budget, progress_of: ProgressOf) -> AuditFinding:
    """A part's finding; one that fails could not tell, and the others go on."""
    try:
        with progress_of(part.name) as progress:
            finding = part.run(subject, budget, progress)
    except GuardrailError as error:
        return _untold(part, str(error))
    except Exception as error:  # noqa: BLE001 - one part that fails on a model must not lose the others' findings
        return _untold(part, f"it failed with {type(error).__name__}: {error}")
    if finding.part != part.name:
        return _untold(part, f"its finding is named {finding.part!r}, expected its own name")
    return finding


def _untold(part: AuditPart, reason: str) -> AuditFinding:
    return AuditFinding(part=part.name, outcome=AuditOutcome.COULD_NOT_TELL, reason=reason)
