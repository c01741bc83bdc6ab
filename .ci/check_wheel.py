"""Run by a Python in which only the wheel is installed: is everything in it that a user needs?"""

import sys
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import guardrail
import guardrail_hooks

__all__: list[str] = []

DATA = ("policy.toml", "limits.toml", "py.typed", "shipped/demo/works.csv")

home = Path(guardrail.__file__).parent
for package in (guardrail, guardrail_hooks):
    assert "site-packages" in str(package.__file__), f"{package.__file__} is not the installed one"
for name in DATA:
    assert (home / name).is_file(), f"{name} is missing from the wheel"
for name in guardrail.__all__:
    getattr(guardrail, name)
for entry in entry_points(group="guardrail"):
    import_module(entry.value)
    sys.stdout.write(f"{entry.group}: {entry.name} = {entry.value}\n")
assert list(entry_points(group="guardrail")), "the wheel offers no plugin"
