"""What the memory knows of changes of works: which stand, what each was about, and that others see none of it."""

import pytest

from guardrail.records import Actor
from guardrail.review_errors import CaseMissing, ChangeRefused, NotAllowed

pytestmark = pytest.mark.usefixtures("both_stores")

LEA = Actor(account_id="a" * 32, organisation="default", role="lead")
EVE = Actor(account_id="e" * 32, organisation="another", role="admin")
FOX = {"bank": "zoo", "work_id": "fox", "before": {"x": 1}, "pixels_before": "f" * 64, "stated_reason": "because"}


def found(memory, *asked):
    return [one.change_id for one in memory.changes.of_work("default", *asked)]


def test_changes_are_found_by_work_and_by_picture(memory):
    fox = memory.changes.record(LEA, "withdrawn", FOX)
    elk = memory.changes.record(LEA, "lowered", {**FOX, "work_id": "elk", "pixels_before": None})
    memory.changes.record(LEA, "generic", {**FOX, "what": "work"})
    memory.changes.record(EVE, "withdrawn", FOX)
    assert found(memory, "zoo", "fox") == [fox]
    assert found(memory, "zoo", "elk", "f" * 64) == [elk, fox]
    assert found(memory, "zoo", "fo") == found(memory, "", "") == []


def test_change_that_is_taken_back_stands_again_once_that_is_taken_back(memory):
    change = memory.changes.record(LEA, "withdrawn", FOX)
    back = memory.changes.record(LEA, "withdrawn", FOX, undoes=change)
    assert found(memory, "zoo", "fox") == []
    with pytest.raises(ChangeRefused):
        memory.changes.record(LEA, "withdrawn", FOX, undoes=change)
    memory.changes.record(LEA, "withdrawn", {"reason": "IndexUnwritable: nothing was changed"}, undoes=back)
    assert found(memory, "zoo", "fox") == [change]
    again = memory.changes.record(LEA, "withdrawn", FOX, undoes=change)
    undone = {one.change_id: one.undone for one in memory.changes.page(LEA)}
    assert (undone[change], undone[back], undone[again]) == (True, True, False)
    memory.verify(deep=True)


def test_nobody_takes_back_what_is_not_theirs(memory):
    change = memory.changes.record(LEA, "withdrawn", FOX)
    with pytest.raises(CaseMissing):
        memory.changes.record(EVE, "withdrawn", FOX, undoes=change)


@pytest.mark.parametrize(
    ("kind", "also"),
    [
        ("withdrawn", {"role": "reviewer"}),
        ("withdrawn", {"role": "reviewer", "token_id": "f" * 32, "scopes": ("works:write",)}),
        ("lowered", {"token_id": "f" * 32, "scopes": ("cases:decide", "check")}),
        ("limit", {"token_id": "f" * 32, "scopes": ("works:write",)}),
        ("generic", {"token_id": "f" * 32, "scopes": ("works:write",)}),
    ],
)
def test_who_may_not_change_what_is_protected_enters_nothing(memory, kind, also):
    with pytest.raises(NotAllowed):
        memory.changes.record(LEA.model_copy(update=also), kind, FOX)
    assert memory.changes.page(LEA) == ()


def test_token_of_a_lead_is_named_in_the_ledger(memory):
    token = LEA.model_copy(update={"token_id": "f" * 32, "scopes": ("works:write",)})
    memory.changes.record(token, "replaced", FOX)
    (row,) = [row.content["change"] for row in memory.rows() if row.kind == "change"]
    assert (row["token_id"], row["account_id"], row["kind"]) == ("f" * 32, "a" * 32, "replaced")
