"""How every module is written: exports, size, names, imports."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest

import guardrail

LONGEST_MODULE_LINES = 400
LONGEST_FUNCTION_LINES = 40
FORBIDDEN_NAMES = {"score", "data", "info", "result", "process", "utils", "manager", "handle"}
ROOMS = ("intake", "fingerprint", "index", "judge", "proof", "act", "memory", "study")


def _exported(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        target = node.target if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [None])[0]
        if isinstance(target, ast.Name) and target.id == "__all__":
            return ast.literal_eval(node.value)
    return None


def _is_found_by_name(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    """Hooks, commands and routes are registered where they stand, so they are not exported."""
    marks = [ast.unparse(mark).partition("(")[0] for mark in node.decorator_list]
    found = (".command", ".callback", "router.get", "router.post", "router.delete")
    return any(mark in {"hookspec", "hookimpl"} or mark.endswith(found) for mark in marks)


def _defined(tree: ast.Module) -> set[str]:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return {node.name for node in tree.body if isinstance(node, kinds) and not _is_found_by_name(node)}


def _constants(tree: ast.Module) -> set[str]:
    targets = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    targets += [node.target for node in tree.body if isinstance(node, ast.AnnAssign)]
    return {target.id for target in targets if isinstance(target, ast.Name) and target.id.isupper()}


def _public(names: set[str]) -> set[str]:
    return {name for name in names if not name.startswith("_")}


def _isort_style(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest, each sorted: as ruff's RUF022 does."""
    kind = 0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2
    return kind, name


def test_exports_are_sorted(module: Any):
    exported = _exported(module.tree) or []
    assert exported == sorted(exported, key=_isort_style)


def test_functions_and_classes_are_exported_or_private(module: Any):
    assert _public(_defined(module.tree)) - set(_exported(module.tree) or []) == set(), "export it, or name it _so"


def test_constants_are_exported_or_private(module: Any):
    assert _public(_constants(module.tree)) - set(_exported(module.tree) or []) == set(), "export it, or name it _so"


def test_module_is_short(module: Any):
    lines = module.path.read_text(encoding="utf-8").count("\n")
    assert lines <= LONGEST_MODULE_LINES, "due for a split"


def test_functions_are_short(module: Any):
    lengths = {node.name: _lines_of(node) for node in module.functions()}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FUNCTION_LINES} == {}, "due for a split"


def _lines_of(node: Any) -> int:
    """Lines of a function, its docstring not counted: pages of shapes and units are no reason to split."""
    first = node.body[0]
    documented = (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    )
    return node.end_lineno - node.lineno + 1 - (first.end_lineno - first.lineno + 1 if documented else 0)


def test_names_say_what_they_mean(module: Any):
    names = [
        node.name
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    ]
    names += [node.arg for node in ast.walk(module.tree) if isinstance(node, ast.arg)]
    assert FORBIDDEN_NAMES & {name.lower() for name in names} == set(), "see STYLE 8 and docs/glossary.md"


def test_module_says_what_it_is_for(module: Any):
    assert ast.get_docstring(module.tree)


def test_room_asks_the_front_door_for_the_version_only(own_module: Any):
    """Inside the house names come from the module that defines them; the lazy front door is for users and plugins."""
    asked = {name for home, name in _imported(own_module.tree) if home == "guardrail"}
    assert asked & set(guardrail.__all__) <= {"__version__"}


def test_plugin_uses_public_names_only(plugin_module: Any):
    names = [f"{home}.{name}" for home, name in _imported(plugin_module.tree) if home.startswith("guardrail")]
    assert [name for name in names if "._" in name] == []


def _imported(tree: ast.Module) -> list[tuple[str, str]]:
    imports = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    return [(node.module or "", alias.name) for node in imports for alias in node.names]


@pytest.mark.parametrize("room", [*ROOMS, "desk"])
def test_room_is_one_sentence(root: Path, room: str):
    init = root / "guardrail" / room / "__init__.py"
    sentence = ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))) or ""
    assert re.fullmatch(r"[A-Z][^\n]+\.", sentence), "one line: what enters, what leaves, its one heavy dependency"
