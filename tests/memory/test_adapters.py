"""The register of adapters: rows of the ledger, so that no price changes for what was released before."""

from decimal import Decimal

import pytest

from guardrail.attribution_errors import AdapterRefused
from guardrail.errors import LedgerBroken
from guardrail.records import RegisteredAdapter

pytestmark = pytest.mark.usefixtures("both_stores")


def ghibli(**also):
    said = {"name": "ghibli", "weights_sha256": "a" * 64, "holder": "Ada", "price": Decimal("0.02"), "currency": "EUR"}
    return RegisteredAdapter(**(said | also))


def test_registered_adapter_stands_and_is_a_row_of_the_ledger(memory):
    entered = memory.adapters.register(ghibli())
    assert memory.adapters.standing() == (entered,)
    (row,) = memory.rows()
    assert row.kind == "adapter"
    assert row.content["adapter"]["price"] == "0.02"
    assert memory.verify(deep=True)[0] == 1


def test_another_price_is_another_row_and_the_first_stays(memory):
    first = memory.adapters.register(ghibli())
    second = memory.adapters.register(ghibli(price=Decimal("0.03")))
    assert memory.adapters.standing() == (second,)
    assert [one.adapter for one in memory.adapters.entries()] == [first, second]
    assert first.registered_at <= second.registered_at


def test_removed_adapter_stays_in_the_history(memory):
    entered = memory.adapters.register(ghibli())
    assert memory.adapters.remove("ghibli") == entered
    assert memory.adapters.standing() == ()
    assert [one.change for one in memory.adapters.entries()] == ["registered", "removed"]
    again = memory.adapters.register(ghibli())
    assert memory.adapters.remove(again.weights_sha256) == again
    assert memory.verify(deep=True)[0] == 4


@pytest.mark.parametrize(
    ("also", "found"),
    [
        ({"currency": ""}, "a price of 0.02 in no currency"),
        ({"purpose": "extract"}, "takes out ''"),
        ({"purpose": "extract", "extracts": "fox"}, "takes out 'fox'"),
        ({"extracts": "zoo/fox"}, "that it adds one"),
    ],
)
def test_adapter_that_does_not_say_all_is_refused(memory, also, found):
    with pytest.raises(AdapterRefused, match=found):
        memory.adapters.register(ghibli(**also))
    assert list(memory.rows()) == []


def test_nothing_new_and_the_name_of_another_are_refused(memory):
    memory.adapters.register(ghibli())
    with pytest.raises(AdapterRefused, match="just this registered already"):
        memory.adapters.register(ghibli())
    with pytest.raises(AdapterRefused, match="another of that name"):
        memory.adapters.register(ghibli(weights_sha256="b" * 64))
    with pytest.raises(AdapterRefused, match="no such adapter"):
        memory.adapters.remove("other")


def test_organisations_have_registers_of_their_own(memory):
    memory.adapters.register(ghibli(), "north")
    memory.adapters.register(ghibli(holder="Bo"), "south")
    assert [one.holder for one in memory.adapters.standing("north")] == ["Ada"]
    assert memory.adapters.standing() == ()


def test_edited_price_is_found_broken(memory, tamper):
    memory.adapters.register(ghibli())
    tamper("update ledger set leaf = cast(replace(cast(leaf as text), '0.02', '0.01') as blob)")
    with pytest.raises(LedgerBroken, match="edited"):
        memory.adapters.standing()
    with pytest.raises(LedgerBroken):
        memory.verify()
