"""What `guardrail keys show` finds in a folder of signing keys."""

from typing import Literal

from pydantic import AwareDatetime

from guardrail.records.base import Record, Sha256

__all__ = ["CertificateFacts", "KeysReport"]


class CertificateFacts(Record):
    """One certificate: the file it is in, whom it is made out to, its fingerprint (sha256 of its DER) and its dates."""

    file: str
    name: str
    sha256: Sha256
    not_before: AwareDatetime
    not_after: AwareDatetime


class KeysReport(Record):
    """A folder of signing keys: the certificate that signs, the days it has left, what is wrong with it, the anchors.

    `faults` say in what the certificate falls short of the C2PA profile, `unusable` why nothing can be signed with it
    now; both are empty where all is well. `root_key` says whether the next certificate can be issued from here.
    """

    schema_version: Literal[1] = 1
    folder: str
    leaf: CertificateFacts
    days_left: float
    faults: tuple[str, ...] = ()
    unusable: str = ""
    root_key: bool
    anchors: tuple[CertificateFacts, ...]
