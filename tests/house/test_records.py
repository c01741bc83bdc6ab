"""Every record, with whatever it may hold, is the same after a way through JSON."""

import enum
import types
from datetime import UTC
from decimal import Decimal
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from annotated_types import Ge, Gt, Le, Lt, MinLen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel, ValidationError
from pydantic.fields import FieldInfo

from guardrail import records
from guardrail import settings as settings_module

EVERY_RECORD = [
    kind
    for kind in vars(records).values()
    if isinstance(kind, type) and issubclass(kind, records.Record) and kind is not records.Record
]
_SETTINGS = [kind for name in settings_module.__all__ if issubclass(kind := getattr(settings_module, name), BaseModel)]
EITHER_OR = {records.Neighbour: ("similarity", "distance_bits")}
_MEASURED = [signal for signal in records.Signal if signal not in (records.Signal.BYTES, records.Signal.PIXELS)]
NARROWED = {records.BankLimit: {"signal": st.sampled_from(_MEASURED), "limit": st.just(1.0)}}
"""Fields whose values hang on one another; the limit is one that every signal may have."""


def _flat(metadata: Any) -> list[Any]:
    """Constraints, those inside a `Field(...)` too."""
    return [one for item in metadata for one in (_flat(item.metadata) if isinstance(item, FieldInfo) else [item])]


def _numbers(kind: type, constraints: list[Any]) -> st.SearchStrategy[Any]:
    low = max((one.ge for one in constraints if isinstance(one, Ge)), default=None)
    high = min((one.le for one in constraints if isinstance(one, Le)), default=None)
    above = max((one.gt for one in constraints if isinstance(one, Gt)), default=None)
    below = min((one.lt for one in constraints if isinstance(one, Lt)), default=None)
    if kind is int:
        low, high = low if above is None else above + 1, high if below is None else below - 1
        return st.integers(low, high if high is not None else 2**53)
    return st.floats(
        low if above is None else above,
        high if below is None else below,
        exclude_min=above is not None,
        exclude_max=below is not None,
        allow_nan=False,
        allow_infinity=False,
    )


def _values(annotation: Any, metadata: Any = ()) -> st.SearchStrategy[Any]:
    """Whatever a field of this annotation may hold."""
    constraints = _flat(metadata)
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _values(args[0], [*args[1:], *constraints])
    if origin in {Union, types.UnionType}:
        return st.one_of([_values(arg, constraints) for arg in args])
    if origin is tuple:
        return st.lists(_values(args[0]), max_size=2).map(tuple)
    if origin is dict:
        return st.dictionaries(_values(args[0]), _values(args[1]), max_size=2)
    if origin is Literal:
        return st.sampled_from(args)
    return _plain(annotation, constraints)


def _plain(annotation: Any, constraints: list[Any]) -> st.SearchStrategy[Any]:
    if annotation is type(None):
        return st.none()
    if annotation is AwareDatetime:
        return st.datetimes(timezones=st.just(UTC))
    if annotation is bool:
        return st.booleans()
    if annotation is Decimal:
        return st.decimals(min_value=0, max_value=10**9, places=4)
    if annotation in {int, float}:
        return _numbers(annotation, constraints)
    if annotation is str:
        patterns = [one.pattern for one in constraints if getattr(one, "pattern", None)]
        shortest = max((one.min_length for one in constraints if isinstance(one, MinLen)), default=0)
        return st.from_regex(patterns[0], fullmatch=True) if patterns else st.text(min_size=shortest, max_size=8)
    if issubclass(annotation, enum.Enum):
        return st.sampled_from(annotation)
    return _made(annotation)


def _made(kind: type[BaseModel]) -> st.SearchStrategy[Any]:
    fields = {name: _values(field.annotation, field.metadata) for name, field in kind.model_fields.items()}
    if kind not in EITHER_OR:
        return st.builds(kind, **fields | NARROWED.get(kind, {}))
    one, other = EITHER_OR[kind]
    sides = [(one, other), (other, one)]
    return st.one_of(
        [
            st.builds(kind, **(fields | {none: st.none(), some: fields[some].filter(lambda v: v is not None)}))
            for some, none in sides
        ]
    )


@pytest.mark.parametrize("kind", EVERY_RECORD, ids=lambda kind: kind.__name__)
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much], max_examples=20)
@given(chance=st.data())
def test_record_is_the_same_after_json(kind: type[records.Record], chance: st.DataObject):
    record = chance.draw(_made(kind))
    assert kind.model_validate_json(record.model_dump_json()) == record


@pytest.mark.parametrize("kind", EVERY_RECORD, ids=lambda kind: kind.__name__)
def test_record_is_frozen_and_closed(kind: type[records.Record]):
    assert kind.model_config["frozen"]
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        kind.model_validate({"no such field": 1})


@pytest.mark.parametrize("kind", EVERY_RECORD, ids=lambda kind: kind.__name__)
def test_record_has_a_sentence_and_is_exported(kind: type[records.Record]):
    assert kind.__doc__
    assert kind.__name__ in records.__all__


@pytest.mark.parametrize("kind", _SETTINGS)
def test_every_setting_is_described(kind: type[BaseModel]):
    assert [name for name, field in kind.model_fields.items() if not field.description] == []
