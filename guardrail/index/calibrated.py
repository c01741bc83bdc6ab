"""The calibration that lies beside an index: written atomically, and read only where it was made for this index."""

import logging
from pathlib import Path

from guardrail.errors import CalibrationUnfit
from guardrail.index.sealed import read_sealed, write_sealed
from guardrail.index.store.opening import open_state
from guardrail.records import Calibration, IndexHeader, Limits
from guardrail.records.calibration import calibration_digest, specification_sha256

__all__ = ["CALIBRATION", "calibrated_limits", "read_calibration", "uncalibrated_header", "write_calibration"]

CALIBRATION = "CALIBRATION.json"
log = logging.getLogger("guardrail.index")


def read_calibration(folder: Path, header: IndexHeader) -> Calibration | None:
    """The calibration beside an index, or None where there is none.

    It fits when it is as it was written, and was made on this index as it is (the same snapshot) or on an earlier state
    of it (the same time of building, the same embedders, hashes and sampling).

    Raises:
        CalibrationUnfit: it was edited or cut, is of a version we do not know, or was made on another index.
    """
    path = folder / CALIBRATION
    found = read_sealed(path, Calibration, calibration_digest, "a calibration as guardrail writes it")
    if found is None:
        return None
    _require_lineage(path, found, header)
    return found


def _require_lineage(path: Path, found: Calibration, header: IndexHeader) -> None:
    if found.specification_sha256 != specification_sha256(header):
        made = ", ".join(f"{role}: {spec}" for role, spec in found.embedders.items())
        raise CalibrationUnfit(str(path), f"one for other fingerprints ({made})", "one for this index's")
    if found.index_snapshot != header.snapshot and found.index_built_at != header.built_at:
        raise CalibrationUnfit(
            str(path), f"one made on another index ({found.index_snapshot[:12]})", f"one on {header.snapshot[:12]}"
        )


def calibrated_limits(folder: Path, header: IndexHeader) -> Limits | None:
    """The limits that the calibration beside an index sets, named by its id; None where there is none.

    A stale one holds on, because growth raises false alarms and lets no copy pass; it is logged, and its name says so.

    Raises:
        CalibrationUnfit: see `read_calibration`.
    """
    found = read_calibration(folder, header)
    if found is None:
        return None
    if found.is_stale(header.works):
        log.warning(
            "calibration %s of index %r is stale: it was fitted at %d works, expected under %d, now there are %d; "
            "fit anew with: guardrail index calibrate",
            *(found.id[:12], str(folder), found.works, found.stale_at_works, header.works),
        )
    return found.limits.model_copy(update={"calibration": found.named(header.works)})


def uncalibrated_header(folder: Path) -> IndexHeader:
    """The header as the index was built, with the shipped limits.

    Raises:
        IndexMissing, IndexDamaged: there is no index in that folder that can be trusted.
    """
    return open_state(folder).header


def write_calibration(folder: Path, calibration: Calibration) -> Path:
    """Put a calibration beside an index, in the place of an earlier one, whole or not at all.

    Raises:
        IndexUnwritable: the folder cannot be written.
    """
    path = folder / CALIBRATION
    write_sealed(path, calibration.model_dump(mode="json"))
    return path
