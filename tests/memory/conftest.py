"""What tests of the memory share: a ledger of their own, and what goes into it."""

import hashlib
from datetime import UTC, datetime

import numpy as np
import pytest
from sqlalchemy import create_engine

from guardrail.carriers import OutputPrints
from guardrail.memory import Memory
from guardrail.records import Decision, Release, ReleaseIntent, Verdict

NOW = datetime(2026, 11, 22, tzinfo=UTC)


class Making:
    """What is entered into ledgers, with ids of one repeated digit so that tests can name them."""

    @staticmethod
    def verdict(decision=Decision.ACCEPT, **also):
        said = {"image": "images[0]", "rule": "r", "explanation": "e", "calibration": "uncalibrated", "at": NOW}
        said |= {"pixels_sha256": "a" * 64, "index_snapshot": "b" * 64, "policy_sha256": "c" * 64}
        return Verdict(decision=decision, evidence=(), nearest=(), **(said | also))

    @staticmethod
    def intent(digit, file, verdict_id="1" * 32):
        return ReleaseIntent(
            intent_id=digit * 32,
            verdict_id=verdict_id,
            file=str(file),
            part=f".{digit * 32}.part",
            pixels_sha256="a" * 64,
            at=NOW,
        )

    @staticmethod
    def release(digit, file, content=b"signed", verdict_id="1" * 32, **also):
        said = {"verdict_id": verdict_id, "intent_id": digit * 32, "file": str(file), "at": NOW}
        said |= {"file_sha256": hashlib.sha256(content).hexdigest(), "manifest_id": f"urn:c2pa:{digit}"}
        return Release(**(said | also))

    @staticmethod
    def prints(fill=1.0):
        copy = np.full((3, 4), fill, np.float16)
        return OutputPrints(b"p" * 32, f"mini@{'0' * 64}", copy, "ISCC:X", b"\xff\xd8 a preview")


@pytest.fixture(scope="session")
def making():
    return Making()


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'deep' / 'memory.db'}"


@pytest.fixture
def memory(url):
    memory = Memory(url)
    yield memory
    memory.close()


@pytest.fixture
def tamper(url):
    """Edit the database behind the memory's back."""

    def edit(*statements):
        engine = create_engine(url)
        with engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
        engine.dispose()

    return edit
