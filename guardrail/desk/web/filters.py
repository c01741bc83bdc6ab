"""Which cases the queue shows: said in the address, so that it can be kept, shared and paged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from pydantic import ValidationError

from guardrail.records import CaseFilter, CaseState

__all__ = ["AGES", "TABS", "FilterAsked", "Tab", "filter_of", "query_of"]

_WORDS = ("bank", "holder", "model", "adapter", "rule", "work")
_LONGEST = 512  # letters of one filter; names in the database are no longer
AGES = ((1, "1 hour"), (8, "8 hours"), (24, "1 day"), (72, "3 days"), (168, "1 week"), (720, "30 days"))


@dataclass(frozen=True, slots=True)
class Tab:
    """One view of the queue: its name in the address, in words, the states it shows, and who sees it."""

    name: str
    words: str
    states: tuple[CaseState, ...]
    role: str = "viewer"


TABS = (
    Tab("waiting", "To decide", ("open",)),  # with those that wait for a second look, to whoever may take it
    Tab("disputed", "Disputed", ("disputed",)),
    Tab("appealed", "Appealed", ("appealed",)),
    Tab("decided", "Decided", ("decided", "second")),
)
_BY_NAME = {tab.name: tab for tab in TABS}


@dataclass(frozen=True, slots=True)
class FilterAsked:
    """What an address asks for.

    Attributes:
        asked: the filter; where the address cannot be followed, the usual one.
        tab: which view.
        said: what the address says, as it was typed, for the form.
        wrong: what cannot be followed, in words; "" where all can.
    """

    asked: CaseFilter
    tab: Tab
    said: dict[str, str]
    wrong: str = ""


def filter_of(query: str | Iterable[tuple[str, str]]) -> FilterAsked:
    """The filter that an address's query says; nothing that was typed is lost where it cannot be followed."""
    pairs = parse_qsl(query) if isinstance(query, str) else query
    said = {name: value for name, value in pairs if value and name in {*_WORDS, "tab", "older", "mine", "apart"}}
    tab = _BY_NAME.get(said.get("tab", "waiting"), TABS[0])
    if wrong := _wrong(said):
        return FilterAsked(CaseFilter(states=tab.states), tab, said, wrong)
    words = {name: said[name] for name in _WORDS if name in said}
    older = float(said["older"]) if "older" in said else None
    asked = CaseFilter.model_validate(
        {"states": tab.states, "older_than_h": older, "mine": "mine" in said, "grouped": "apart" not in said, **words}
    )
    return FilterAsked(asked, tab, said)


def _wrong(said: dict[str, str]) -> str:
    if said.get("tab", "waiting") not in _BY_NAME:
        return f"view: found {said['tab']!r}, expected {', '.join(_BY_NAME)}; choose one above"
    for name in _WORDS:
        if len(said.get(name, "")) > _LONGEST:
            return f"{name}: found {len(said[name])} letters, expected at most {_LONGEST}; choose one of the list"
    if "older" in said:
        try:
            CaseFilter.model_validate({"older_than_h": said["older"]})
        except ValidationError:
            return f"age: found {said['older']!r}, expected a number of hours; choose one of the list"
    return ""


def query_of(said: dict[str, str], **changed: str) -> str:
    """The address's query for what was said, with changes ("" takes one out); "" where nothing is said."""
    named = {**said, **changed}
    return urlencode({name: value for name, value in named.items() if value})
