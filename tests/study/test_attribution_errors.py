"""Errors of attribution survive the way between processes, and stand in their tree."""

import pickle
import re

import pytest

from guardrail import attribution_errors as errors

EVERY = [getattr(errors, name) for name in errors.__all__]


@pytest.mark.parametrize("kind", EVERY)
def test_error_pickles_with_its_facts_in_three_clauses(kind):
    error = kind(*(f"word{at}" for at in range(kind.message.count("{") - (kind is errors.GradientsMissing))))
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.args, str(again)) == (kind, error.args, str(error))
    assert all(fact in str(error) for fact in error.args)
    assert len(re.split(r"[;:,] | but | \(", str(error))) >= 3


@pytest.mark.parametrize("kind", EVERY)
def test_error_stands_in_the_tree_with_its_builtin(kind):
    builtin = next(base for base in kind.__mro__[1:] if base.__module__ == "builtins")
    assert re.search(rf"─ {kind.__name__} +\({builtin.__name__}\) +\w", errors.__doc__)
