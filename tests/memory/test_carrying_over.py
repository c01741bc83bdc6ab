"""Databases of every format that there was are carried over to today on both stores, and no case is lost."""

import multiprocessing
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text

from guardrail.errors import MemoryUnwritable
from guardrail.memory import Held, Memory, migration
from guardrail.memory.audit import AuditFilter
from guardrail.memory.tables import FORMAT, REVISION, Base
from guardrail.records import Actor, CaseFilter, Decision, DecisionAsked

pytestmark = pytest.mark.usefixtures("both_stores")

HERE = Path(__file__).parent
FORMAT_2 = HERE / "ledger-format-2.sql"  # a dump of eleven rows and three cases, one erased, written before accounts
LEAD = Actor(account_id="a" * 32, organisation="default", role="lead")


@pytest.fixture
def empty(url, request, tmp_path):
    """The URL of a database without tables."""
    if url.startswith("sqlite"):
        (tmp_path / "old").mkdir()
        return f"sqlite:///{tmp_path / 'old' / 'memory.db'}"
    return request.getfixturevalue("postgresql_url")


@pytest.fixture
def old(empty, request):
    """The URL of a database of format 2, with rows; on PostgreSQL the same rows in tables of that format."""
    script = FORMAT_2.read_text(encoding="utf-8")
    if empty.startswith("sqlite"):
        with closing(sqlite3.connect(empty.removeprefix("sqlite:///"))) as connection:
            connection.executescript(script)
        return empty
    engine = create_engine(empty)
    with engine.begin() as connection:
        migration._take_steps(connection, None, "0001")
        connection.exec_driver_sql("set session_replication_role = replica")
        for statement in re.findall(r"^INSERT INTO .*?;$", script, re.DOTALL | re.MULTILINE):
            connection.exec_driver_sql(re.sub(r"X'([0-9A-F]*)'", r"'\\x\1'::bytea", statement).replace("%", "%%"))
        connection.exec_driver_sql("drop table alembic_version")  # it came later
        connection.exec_driver_sql("select setval('cases_case_id_seq', 3)")
    engine.dispose()
    return empty


@pytest.fixture
def carried(old):
    memory = Memory(old, pictures="")
    yield memory
    memory.close()


def looked_at(url, look):
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            return look(connection)
    finally:
        engine.dispose()


def differences(connection):
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": _differ})
    return compare_metadata(context, Base.metadata)


def _differ(_context, _found, _expected, in_database, _default, in_code):
    """Whether two defaults are others, however the database writes them down (`''::character varying`, `('')`)."""

    def bare(default):
        return (default or "").partition("::")[0].strip("()'") if default is not None else None

    return bare(in_database) != bare(in_code)


def test_tables_that_are_carried_over_are_those_that_are_made_new(old, url):
    Memory(old, pictures="").close()
    assert looked_at(old, differences) == []


def test_tables_that_are_made_new_are_those_of_the_code(empty):
    Memory(empty, pictures="").close()
    assert looked_at(empty, differences) == []
    assert looked_at(empty, lambda connection: MigrationContext.configure(connection).get_current_heads()) == (
        REVISION,
    )


def test_a_difference_would_be_found(empty):
    Memory(empty, pictures="").close()
    engine = create_engine(empty)
    with engine.begin() as connection:
        connection.exec_driver_sql("alter table accounts drop column name")
    engine.dispose()
    assert [(one[0], one[3].name) for one in looked_at(empty, differences)] == [("add_column", "name")]


def test_revision_and_format_of_today_are_the_last_step():
    script = ScriptDirectory(str(Path(migration.__file__).parent))
    assert script.get_heads() == [REVISION]
    assert [step.revision for step in script.walk_revisions()] == ["0002", "0001"]
    assert migration._REVISIONS[FORMAT] == (REVISION,)


def test_rows_of_format_2_are_what_they_were(carried):
    kinds = ["verdict"] * 4 + ["intent", "release"] * 2 + ["withdrawal", "remedy", "erasure"]
    assert [row.kind for row in carried.rows()] == kinds
    tip = carried.verify(deep=True)
    assert (tip.rows, tip.root) == (11, "edb5aa8e3a8428bedb58041aba4b815945c0ba7fc4e693ded5cf19cbf4352ab3")
    assert [carried.fate_of(f"urn:c2pa:{digit}") for digit in "ab"] == ["released", "withdrawn"]
    assert len(list(carried.released_prints())) == 1
    assert carried.origin.endswith("d41d71dbcfe54e46b420dc1475e915bb")


def test_cases_of_format_2_wait_with_picture_run_and_what_they_are_found_by(carried):
    first, second = carried.open_cases()
    assert (first.case_id, first.verdict_id, first.group_id, first.seen_times) == (1, "2" * 32, 1, 1)
    assert first.png.startswith(b"\x89PNG")
    assert second.png.startswith(b"\x89PNG")
    assert first.context["prompts"] == {"prompt": "a secret fox"}
    assert (first.rule, first.image, first.pixels_sha256) == ("copy_flag", "images[0]", "2" * 64)
    assert (first.nearest_work, first.nearest_title) == ("catalogue/red-fox", "The red fox")
    assert (first.nearest_bank, first.nearest_holder) == ("catalogue", "Fox Prints Ltd")
    assert (second.rule, second.nearest_work, second.organisation) == ("check_failed", "", "default")
    for asked in ({"bank": "catalogue"}, {"holder": "Fox Prints Ltd"}, {"adapter": "foxes"}, {"model": "demo/model"}):
        assert [row.case_id for row in carried.reviews.queue(LEAD, CaseFilter(**asked)).rows] == [1], asked
    assert carried.reviews.picture(LEAD, 1) == first.png


def test_case_of_format_2_is_decided_and_erased_as_any_other(carried, making):
    asked = DecisionAsked(outcome="withhold", reasons=("expression_copied",))
    carried.reviews.decide(LEAD, 1, asked)
    assert carried.verify(deep=True).rows == 12
    assert carried.erase("2" * 32, "request 18") == (2, 12)
    assert carried.verify(deep=True).rows == 13
    assert [case.case_id for case in carried.open_cases()] == [2]
    carried.record_verdicts([Held(making.verdict(Decision.FLAG), b"png")], None)
    assert [case.case_id for case in carried.open_cases()] == [2, 4]


def test_erased_case_of_format_2_says_nothing(carried):
    with carried._database.reading() as session:
        (row,) = session.execute(text("select rule, image, nearest_work, png, state from cases where case_id = 3"))
    assert (row.rule, row.image, row.nearest_work, bytes(row.png), row.state) == ("", "", "", b"", "erased")


def test_format_1_goes_all_the_way_on_both(empty):
    """The file of format 1; on PostgreSQL its rows in tables of that format."""
    with closing(sqlite3.connect(HERE / "ledger-format-1.db")) as source:
        if empty.startswith("sqlite"):
            with closing(sqlite3.connect(empty.removeprefix("sqlite:///"))) as target:
                source.backup(target)
        else:
            _copy_format_1(source, empty)
    memory = Memory(empty, pictures="")
    assert memory.verify(deep=True).rows == 8
    (case,) = memory.open_cases()
    assert (case.case_id, case.png[:4], case.pixels_sha256) == (1, b"\x89PNG", "a" * 64)
    memory.close()
    assert looked_at(empty, differences) == []


def _copy_format_1(source, url):
    tables = {
        "ledger": ("sequence bigint primary key, kind text, content json, previous_sha256 text, row_sha256 text", 5),
        "cases": (
            "case_id serial primary key, verdict_id varchar(32) unique, sequence bigint references ledger (sequence),"
            " opened_at varchar(40), state varchar(16), png bytea, context json",
            7,
        ),
    }
    engine = create_engine(url)
    with engine.begin() as connection:
        for name, (columns, count) in tables.items():
            connection.exec_driver_sql(f"create table {name} ({columns})")
            for row in source.execute(f"select * from {name}"):
                connection.exec_driver_sql(f"insert into {name} values ({', '.join(['%s'] * count)})", tuple(row))
    engine.dispose()


def test_step_that_fails_leaves_everything_as_it_was(old):
    """A table is in the way of the new ones, when the cases were changed already."""
    engine = create_engine(old)
    with engine.begin() as connection:
        connection.exec_driver_sql("create table audit_events (somebody_elses integer)")
    engine.dispose()
    before = looked_at(old, lambda connection: sorted(inspect(connection).get_table_names()))
    with pytest.raises(MemoryUnwritable):
        Memory(old, pictures="")
    assert looked_at(old, lambda connection: sorted(inspect(connection).get_table_names())) == before
    count = "select format, (select count(*) from cases where length(png) > 0) from ledger_state"
    assert looked_at(old, lambda connection: tuple(connection.execute(text(count)).one())) == (2, 2)


def start(url, ready):
    ready.wait()
    Memory(url, pictures="").close()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # it has threads, says Python 3.12
def test_first_starts_at_the_same_time_carry_over_once(old):
    context = multiprocessing.get_context("fork")
    ready = context.Barrier(3)
    starts = [context.Process(target=start, args=(old, ready)) for _ in range(3)]
    for one in starts:
        one.start()
    for one in starts:
        one.join()
    assert [one.exitcode for one in starts] == [0] * 3
    memory = Memory(old, pictures="")
    assert memory.verify(deep=True).rows == 11
    memory.close()


@pytest.mark.parametrize("is_new", [True, False])
def test_audit_cannot_be_changed_whether_new_or_carried_over(memory, carried, is_new):
    memory = memory if is_new else carried
    memory.audit.note(LEAD, "case.seen", "case 1")
    columns = "at, organisation, action, target, details, address"
    statements = ["update audit_events set action = 'another'", "delete from audit_events"]
    if memory.url.startswith("sqlite"):  # which knows no truncate, and replaces without a trigger for deleting
        again = f"select event_id, {columns} from audit_events"
        statements += [f"insert or replace into audit_events (event_id, {columns}) {again}"]
    else:
        statements += ["truncate audit_events"]
    for statement in statements:
        with pytest.raises(MemoryUnwritable, match="only appended to"), memory._database.writing() as (session, _):
            session.execute(text(statement))
    assert [event.action for event in memory.audit.page(LEAD, AuditFilter())] == ["case.seen"]
