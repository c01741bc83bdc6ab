"""What tests of the review share: people, works, flagged pictures, and a memory whose clock and chance they set."""

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from guardrail.desk_settings import DeskSettings
from guardrail.memory import Held, Memory
from guardrail.memory.review_tables import Account, Job, Organisation, StoredDecision
from guardrail.memory.reviews import Reviews
from guardrail.memory.tables import Case
from guardrail.records import (
    Actor,
    Adapter,
    CaseFilter,
    CopyMatch,
    Decision,
    DecisionAsked,
    GenerationContext,
    Limits,
    Neighbour,
    Signal,
    SimilarityLimit,
    Verdict,
    Work,
)

START = datetime(2026, 11, 22, 12, tzinfo=UTC)
LIMITS = Limits(copy=SimilarityLimit(flag_above=0.5, block_above=0.9))
FOX = Work(work_id="fox", bank="zoo", title="A fox", creator="Ada", rights_holder="Zoo Ltd")
ELK = Work(work_id="elk", bank="woods", title="An elk", creator="Bo", rights_holder="Woods Inc")
OPEN = CaseFilter(states=("open",), grouped=False)
EVERY = CaseFilter(states=(), grouped=False)
WITHHOLD = DecisionAsked(outcome="withhold", reasons=("expression_copied",))
RELEASE = DecisionAsked(outcome="release")
NO_MATCH = DecisionAsked(outcome="not_a_match", reasons=("wrong_work",))
CREDIT = DecisionAsked(outcome="release_with_credit")


def verdict(name, *, work=FOX, similarity=0.6, rule="near copy", evidence=None, at=START, decision=Decision.FLAG):
    """A verdict on the picture of a name; the same name is the same pixels."""
    found = (CopyMatch(work=work, similarity=similarity),) if evidence is None else evidence
    near = (Neighbour(work=work, row=0, signal=Signal.COPY, similarity=similarity),) if work else ()
    said = {
        "image": f"{name}.png",
        "explanation": "It is near.",
        "calibration": "uncalibrated",
        "policy_sha256": "c" * 64,
    }
    return Verdict(
        decision=decision,
        rule=rule,
        at=at,
        pixels_sha256=hashlib.sha256(name.encode()).hexdigest(),
        index_snapshot="b" * 64,
        evidence=found,
        nearest=near,
        **said,
    )


class Office:
    """A memory with people in it, whose clock stands until it is moved on and whose chance is what `draws` says."""

    def __init__(self, url, pictures="memory://", **desk):
        self.settings = DeskSettings(**({"second_review_share": 0.0} | desk))
        self.memory = Memory(url, desk=self.settings, pictures=pictures)
        self.now, self.draws = START, 0.99
        database, pictures = self.memory._database, self.memory.pictures
        self.reviews = Reviews(database, pictures, self.settings, lambda: self.now, lambda: self.draws)
        self.memory.reviews = self.reviews

    def person(self, name, role="reviewer", organisation="default", state="active"):
        """The actor of an account; it is made when it is not there."""
        account_id = hashlib.md5(f"{organisation}/{name}".encode(), usedforsecurity=False).hexdigest()
        with self.memory._database.writing() as (session, _):
            if session.get(Organisation, organisation) is None:
                said = {"organisation": organisation, "title": organisation, "created_at": START.isoformat()}
                session.add(Organisation(**said))
                session.flush()
            if session.get(Account, account_id) is None:
                session.add(
                    Account(
                        account_id=account_id,
                        organisation=organisation,
                        email=f"{name}@{organisation}.example".lower(),
                        name=name,
                        role=role,
                        state=state,
                        recovery_hashes=[],
                        preferences={},
                        totp_last_step=0,
                        failures=0,
                        created_at=START.isoformat(),
                    )
                )
        return Actor(account_id=account_id, organisation=organisation, role=role)

    def flag(self, *verdicts, pdq=None, organisation="default", model="m/1", adapters=(), limits=LIMITS):
        """Enter verdicts as a guard does; returns the case that each is of."""
        context = GenerationContext(
            pipeline="P", model_id=model, adapters=tuple(map(_adapter, adapters)), prompts={"prompt": "a red fox"}
        )
        held = [Held(one, one.image.encode(), pdq, organisation) for one in verdicts]
        self.memory.record_verdicts(held, context, limits)
        with self.memory._database.reading() as session:
            by_verdict = {case.verdict_id: case.case_id for case in session.scalars(select(Case))}
        return [by_verdict.get(one.verdict_id) for one in verdicts]

    def later(self, **by):
        """Move the clock on."""
        self.now += timedelta(**by)

    def stored(self, table):
        """All rows of a table, as they are."""
        with self.memory._database.reading() as session:
            rows = list(session.scalars(select(table)))
            session.expunge_all()
            return rows

    def case(self, case_id):
        """The stored case."""
        return next(one for one in self.stored(Case) if one.case_id == case_id)

    def jobs(self):
        """Kind, case and decision of every job, as they were entered."""
        rows = sorted(self.stored(Job), key=lambda one: (one.created_at, one.kind != "undo"))
        return [(one.kind, one.asked["case_id"], one.asked["decision_id"]) for one in rows]

    def decisions(self):
        """All stored decisions, oldest first."""
        return sorted(self.stored(StoredDecision), key=lambda one: one.sequence)

    def ledger(self):
        """The ids of the decisions that the ledger has, oldest first."""
        return [row.content["review"]["decision_id"] for row in self.memory.rows() if row.kind == "review"]


def _adapter(name):
    return Adapter(name=name)


@pytest.fixture
def office(url, tmp_path):
    """A memory with people in it."""
    office = Office(url, str(tmp_path / "pictures"))
    yield office
    office.memory.close()


@pytest.fixture
def mia(office):
    """A reviewer."""
    return office.person("Mia")


@pytest.fixture
def lea(office):
    """A lead."""
    return office.person("Lea", "lead")
