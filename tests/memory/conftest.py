"""What tests of the memory share: a ledger of their own, in SQLite or on a PostgreSQL server, and what goes into it.

A module that says `pytestmark = pytest.mark.usefixtures("both_stores")` runs on both. The server is the one whose
database `POSTGRESQL_TEST_URL` names, else one that is started here from the wheel `pgserver`; every test has a schema.
"""

import hashlib
import os
import re
import tempfile
import warnings
from datetime import UTC, datetime
from functools import partial
from itertools import count
from uuid import uuid4

import numpy as np
import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from guardrail.carriers import OutputPrints
from guardrail.memory import Memory
from guardrail.memory.tables import FORMAT, Base
from guardrail.records import Decision, Release, ReleaseIntent, Verdict
from tests.memory.reviewed import lea, mia, office

__all__ = ["lea", "mia", "office"]  # fixtures that lie elsewhere

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def in_a_fork(job):
    """Do something in a forked process; whether it went well."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            job()
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1] == 0


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


@pytest.fixture(scope="session")
def postgresql():
    """The URL of an empty database on a PostgreSQL server."""
    if named := os.environ.get("POSTGRESQL_TEST_URL"):
        yield named
        return
    with warnings.catch_warnings(), tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        warnings.simplefilter("ignore")  # about a folder that nobody uses
        pgserver = pytest.importorskip("pgserver", reason="neither POSTGRESQL_TEST_URL nor pgserver is there")
        server = pgserver.get_server(f"{folder}/server", cleanup_mode="delete")
        url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        server.psql("alter system set fsync = off")  # nobody cuts the power here
        server.psql("select pg_reload_conf()")
        yield url
        server.cleanup()


@pytest.fixture(scope="session")
def _schemas():
    return count(1)


@pytest.fixture
def postgresql_url(postgresql, _schemas):
    """The URL of a schema without tables on the server."""
    name, url = _schema(postgresql, next(_schemas))
    yield url
    run_in(postgresql, f"drop schema {name} cascade")


@pytest.fixture(scope="session")
def _emptied(postgresql, _schemas):
    """The URL of a schema with tables, and what empties them: that takes less time than making them anew."""
    _, url = _schema(postgresql, next(_schemas))
    Memory(url, pictures="").close()
    tables = [f"delete from {table.name}" for table in reversed(Base.metadata.sorted_tables)]
    started_again = [
        f"select setval('{table}_{key}_seq', 1, false)"
        for table, key in (("cases", "case_id"), ("audit_events", "event_id"))
    ]
    return url, [*tables, *started_again]


def _schema(postgresql, number):
    name = f"test_{os.getpid()}_{number}"
    run_in(postgresql, f"create schema {name}")
    return name, make_url(postgresql).update_query_dict({"options": f"-csearch_path={name}"}).render_as_string(False)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.server)])
def both_stores(request):
    """Makes the tests of a module run on SQLite and on PostgreSQL."""
    return request.param


@pytest.fixture
def url(request, tmp_path):
    """The URL of an empty database."""
    if "both_stores" in request.fixturenames and request.getfixturevalue("both_stores") == "postgresql":
        url, emptying = request.getfixturevalue("_emptied")
        state = f"insert into ledger_state values (1, {FORMAT}, '{uuid4().hex}', 0, '')"
        run_in(url, *emptying, state)
        return url
    return f"sqlite:///{tmp_path / 'deep' / 'memory.db'}"


@pytest.fixture
def open_memory(url, tmp_path):
    """Opens the memory of the test once more; in another process, too."""
    return partial(Memory, url, pictures=str(tmp_path / "pictures"))


@pytest.fixture
def memory(open_memory):
    memory = open_memory()
    yield memory
    memory.close()


@pytest.fixture
def tamper(url):
    """Edit the database behind the memory's back."""
    return partial(run_in, url)


def run_in(url, *statements):
    """Run statements that are written for SQLite; on PostgreSQL as one who need not keep to foreign keys."""
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql("set session_replication_role = replica")
                statements = [in_postgresql(statement) for statement in statements]
            for statement in statements:
                connection.exec_driver_sql(statement)
    finally:
        engine.dispose()


def in_postgresql(statement):
    """A statement in the words of PostgreSQL, which psycopg reads a percent sign of as its own."""
    for pattern, words in (
        (r"cast\(leaf as blob\)", "leaf"),
        (r"cast\(leaf as text\)", "convert_from(leaf, 'UTF8')"),
        (r"cast\((.*) as blob\)", r"convert_to(\1, 'UTF8')"),
        (r"x'([0-9a-f]*)'", r"'\\x\1'::bytea"),
        (r"zeroblob\((\d+)\)", r"decode(repeat('00', \1), 'hex')"),
        (r"%", "%%"),
    ):
        statement = re.sub(pattern, words, statement)
    return statement
