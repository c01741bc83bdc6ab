"""A folder of signing keys in, what people want to know of it out; no key leaves it."""

from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from guardrail.act.certificates import common_name, parse_pem, profile_faults, sha256_of
from guardrail.act.keys import CHAIN, ROOT_KEY, anchor_files, load_anchors, load_signing, place_of
from guardrail.errors import KeysMissing, KeysUnusable
from guardrail.records import CertificateFacts, KeysReport

__all__ = ["describe_keys"]


def describe_keys(folder: Path, at: datetime) -> KeysReport:
    """Look at a folder of keys, whether they can be signed with or not.

    Args:
        folder: as `make_development_keys` makes it.
        at: now.

    Raises:
        KeysMissing: there is no root or no leaf certificate.
        KeysUnusable: one of them is not a PEM certificate.
    """
    load_anchors(folder)
    chain = place_of(folder, CHAIN)
    try:
        leaf = parse_pem(chain.read_bytes())[0]
    except FileNotFoundError as error:
        raise KeysMissing(str(folder), CHAIN) from error
    except ValueError as error:
        raise KeysUnusable(str(chain), f"no certificate ({error})", "PEM certificates") from error
    return KeysReport(
        folder=str(folder),
        leaf=_facts(folder, chain, leaf),
        days_left=(leaf.not_valid_after_utc - at) / timedelta(days=1),
        faults=profile_faults(leaf),
        unusable=_unusable(folder),
        root_key=place_of(folder, ROOT_KEY).exists(),
        anchors=_anchors(folder),
    )


def _anchors(folder: Path) -> tuple[CertificateFacts, ...]:
    found: dict[str, CertificateFacts] = {}
    for path in anchor_files(folder):
        for certificate in parse_pem(path.read_bytes()):
            facts = _facts(folder, path, certificate)
            found.setdefault(facts.sha256, facts)
    return tuple(found.values())


def _facts(folder: Path, path: Path, certificate: x509.Certificate) -> CertificateFacts:
    return CertificateFacts(
        file=path.relative_to(folder).as_posix(),
        name=common_name(certificate),
        sha256=sha256_of(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def _unusable(folder: Path) -> str:
    try:
        load_signing(folder)
    except (KeysMissing, KeysUnusable) as error:
        return str(error)
    return ""
