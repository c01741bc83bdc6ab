"""Every error survives the way between processes, and says what was found, what was expected and what to do."""

import inspect
import pickle
import re
import string

import pytest

from guardrail import errors

EVERY_ERROR = [getattr(errors, name) for name in errors.__all__ if name != "GuardrailError"]


def _made(kind: type[errors.GuardrailError]) -> errors.GuardrailError:
    places = [int(name) for _, name, _, _ in string.Formatter().parse(kind.message) if name is not None]
    return kind(*(f"word{number}" for number in range(max(places) + 1)))


@pytest.mark.parametrize("kind", EVERY_ERROR)
def test_error_pickles(kind: type[errors.GuardrailError]):
    error = _made(kind)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.args, str(again)) == (kind, error.args, str(error))


@pytest.mark.parametrize("kind", EVERY_ERROR)
def test_error_message_has_every_fact_and_three_clauses(kind: type[errors.GuardrailError]):
    error = _made(kind)
    clauses = re.split(r"[;:,] | but | \(", str(error))
    assert all(fact in str(error) for fact in error.args)
    assert len(clauses) >= 3, "what was found, what was expected, what to do"
    assert "; " in str(error), "what to do, or what it means, comes last, after a semicolon"


@pytest.mark.parametrize("kind", EVERY_ERROR)
def test_error_stands_in_the_tree_with_its_builtin(kind: type[errors.GuardrailError]):
    builtin = next(base for base in kind.__mro__[1:] if base.__module__ == "builtins")
    assert re.search(rf"─ {kind.__name__} +\({builtin.__name__}\) +\w", errors.__doc__ or "")
    assert builtin is not Exception


def test_tree_names_no_error_that_is_gone():
    assert set(re.findall(r"─ (\w+)", errors.__doc__ or "")) == {kind.__name__ for kind in EVERY_ERROR}


def test_every_error_is_exported():
    defined = {name for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, Exception)}
    assert defined == set(errors.__all__)
