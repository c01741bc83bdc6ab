"""The page of the audit says in words what was done, and keeps the names of events for filters."""

import re
from pathlib import Path
from typing import get_args

import guardrail.desk.web
import guardrail.memory
from guardrail.desk.web.audit_said import AUDIT_WORDS, words_of
from guardrail.memory.changes import ChangeKind

ROOMS = [Path(one.__file__).parent for one in (guardrail.memory, guardrail.desk.web)]
NOTED = re.compile(r"""(?:\bnote|add_event|_tell|action)\b[^\n]*?"([a-z_]+\.[a-z_]+)\"""")
SAID_ELSEWHERE = {"desk.organisations"}


def noted():
    """The events that the code notes, by their names as they stand in it."""
    texts = [path.read_text() for room in ROOMS for path in room.rglob("*.py") if path.name != "audit_said.py"]
    return {name for text in texts for name in NOTED.findall(text)} - SAID_ELSEWHERE


def test_every_event_has_words_of_its_own():
    names = noted()
    assert len(names) > 40
    assert sorted(names - set(AUDIT_WORDS)) == []
    assert len(set(AUDIT_WORDS.values())) == len(AUDIT_WORDS)


def test_every_kind_of_change_has_words_when_it_is_made_and_taken_back():
    names = {f"{kind}.{way}" for kind in get_args(ChangeKind) for way in ("changed", "undone")}
    assert sorted(names - set(AUDIT_WORDS)) == []


def test_an_event_without_words_is_called_by_its_name():
    assert words_of("thing.done") == "thing.done"


def test_the_page_says_words_and_filters_by_names(client_as):
    lead = client_as("lead")
    lead.get("/queue")
    page = lead.get("/audit").text
    assert '<option value="queue.seen">looked at the queue</option>' in page
    assert '<td title="queue.seen">looked at the queue</td>' in page
    narrowed = lead.get("/audit?action=queue.seen").text
    assert '<option value="queue.seen" selected>' in narrowed
    assert '<td title="audit.seen">' not in narrowed
