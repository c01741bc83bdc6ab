"""What an audit proved of a claim of differential privacy, kept beside the model's weights."""

from __future__ import annotations

from pathlib import Path

from guardrail.errors import AuditImpossible
from guardrail.records import AuditReport, PrivacyClaim, PrivacyStatement
from guardrail.study.audit.privacy import PrivacyBound, read_statement, write_statement

__all__ = ["keep_claim_audit"]


def keep_claim_audit(model: str, claim: PrivacyClaim | None, report: AuditReport) -> AuditReport:
    """Add what the part `privacy` proved to the statement in the model's folder.

    Nothing is kept of a model that is no folder, of a part that bounded nothing, or where another claim was put to the
    test than the one that lies there. Where none lies there, the claim that was tested begins the statement.

    Args:
        model: as the person named it.
        claim: that was put to the test; None: the one in the folder.
        report: of the audit.

    Returns:
        The report, with a warning where the statement could not be written.
    """
    folder = Path(model)
    finding = next((one for one in report.findings if one.part == "privacy"), None)
    audit = PrivacyBound(claim).audit(finding, report.weights_sha256) if finding else None
    if audit is None or not folder.is_dir():
        return report
    try:
        statement = read_statement(folder) or (PrivacyStatement(claim=claim) if claim else None)
        if statement is None or (claim and _bound(claim) != _bound(statement.claim)):
            return report
        audits = (*statement.audits, audit)
        write_statement(folder, statement.model_copy(update={"audits": audits}))
    except (AuditImpossible, OSError) as error:
        warning = f"what was proved of the claim could not be kept beside the weights ({error})"
        return report.model_copy(update={"warnings": (*report.warnings, warning)})
    return report


def _bound(claim: PrivacyClaim) -> tuple[float, float]:
    return claim.epsilon, claim.delta
