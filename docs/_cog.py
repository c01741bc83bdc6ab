"""What the generated blocks of the documentation say; `make docs` has cog call it, `make lint` compares."""

import ast
import importlib
import importlib.util
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from guardrail import errors, hookspecs
from guardrail.desk.web.case_words import OUTCOMES, QUESTIONS, REASONS
from guardrail.settings import Settings

__all__ = [
    "cli_commands",
    "cli_help",
    "error_table",
    "error_tree",
    "hook_names",
    "hook_table",
    "outcome_table",
    "reason_table",
    "room_reference",
    "settings_table",
]

_ROOT = Path(__file__).parent.parent
_PLUGINS = _ROOT / "hooks" / "guardrail_hooks"


def _table(*rows: tuple[str, ...]) -> str:
    """A Markdown table; the first row is its head."""
    head, *body = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([head, "| " + " | ".join(["---"] * len(rows[0])) + " |", *body])


def _first_sentence(text: str | None) -> str:
    return " ".join(inspect.cleandoc(text or "").split()).split(". ")[0].rstrip(".")


# --- settings -------------------------------------------------------------------------------------------------


_MADE_DEFAULTS = {"home": "the user's data folder", "policy": "the shipped policy"}


def _default_of(name: str, field: FieldInfo) -> str:
    if name in _MADE_DEFAULTS:
        return _MADE_DEFAULTS[name]
    if field.is_required():
        return "required"
    if isinstance(field.default, BaseModel):
        return "see below"
    default = getattr(field.default, "value", field.default)
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    if isinstance(default, dict):
        default = {
            key: one.model_dump(mode="json") if isinstance(one, BaseModel) else one for key, one in default.items()
        }
    return "none" if default is None else f"`{json.dumps(default)}`"


def settings_table(model: type[BaseModel] = Settings) -> str:
    """Name, default and meaning of each field of `Settings`, `Policy` or `Rule`."""
    fields = model.model_fields.items()
    rows = [(f"`{name}`", _default_of(name, field), field.description or "") for name, field in fields]
    return _table(("setting", "default", "meaning"), *rows)


# --- errors ---------------------------------------------------------------------------------------------------


def error_tree() -> str:
    """The tree as it is drawn at the top of `errors.py`."""
    lines = inspect.cleandoc(errors.__doc__ or "").splitlines()
    drawn = [line.strip("\n") for line in lines if line.strip().startswith(("GuardrailError", "├", "└"))]
    assert len(drawn) == len(errors.__all__), "every error is drawn"
    return "\n".join(["```text", *drawn, "```"])


def error_table() -> str:
    """Each error, and what it says."""
    rows = [(f"`{name}`", f"`{getattr(errors, name).message}`") for name in errors.__all__ if name != "GuardrailError"]
    return _table(("error", "message"), *rows)


# --- hooks ----------------------------------------------------------------------------------------------------


def hook_names() -> tuple[str, ...]:
    """Every hook of `hookspecs`, in the order it stands there."""
    marker = f"{hookspecs.PROJECT}_spec"
    return tuple(name for name, member in vars(hookspecs).items() if hasattr(member, marker))


def _shipped_plugins(hook: str) -> tuple[str, ...]:
    """The shipped plugins that implement a hook, found without importing them."""
    return tuple(
        path.stem
        for path in sorted(_PLUGINS.glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name == hook
    )


def _on_error(hook: str) -> str:
    if hook.startswith("register_"):
        return "stops the build"
    if hook in {"verdict_reached", "output_released", "review_recorded"}:
        return "is logged"
    return (
        "becomes evidence"
        if hook in {"before_generation", "during_generation", "find_evidence"}
        else "withholds the image"
    )


def hook_table() -> str:
    """Hook, purpose, what an error does, and the shipped plugins that use it."""
    rows = []
    for hook in hook_names():
        purpose = _first_sentence(getattr(hookspecs, hook).__doc__)
        plugins = ", ".join(f"`{name}`" for name in _shipped_plugins(hook)) or "none yet"
        rows.append((f"[`{hook}`](#{hook})", purpose, _on_error(hook), plugins))
    return _table(("hook", "purpose", "an error", "shipped plugins"), *rows)


# --- decisions ------------------------------------------------------------------------------------------------


def outcome_table() -> str:
    """What a decision may come to, and whether it needs a reason."""
    rows = [
        (f"`{name}`", f"the image {one.means}", "at least one" if one.needs_reasons else "")
        for name, one in OUTCOMES.items()
    ]
    return _table(("`outcome`", "what follows", "reasons"), *rows)


def reason_table() -> str:
    """The codes of reasons, in words, and the answers on the page that say the same."""
    said = {
        code: "; ".join(
            f"{question.words} {answer.words}"
            for question in QUESTIONS
            for answer in question.answers
            if answer.reason == code
        )
        for code in REASONS
    }
    rows = [(f"`{code}`", words, said[code]) for code, words in REASONS.items()]
    return _table(("code", "says", "the answer on the page that says it"), *rows)


# --- command line ---------------------------------------------------------------------------------------------


def _command_tree(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    yield name, command
    for child_name, child in getattr(command, "commands", {}).items():
        if not child.hidden:
            yield from _command_tree(child, f"{name} {child_name}")


def cli_commands() -> dict[str, Any]:
    """Every command of the command line by its full name; none while there is no `guardrail.desk.cli`."""
    if importlib.util.find_spec("guardrail.desk") is None or importlib.util.find_spec("guardrail.desk.cli") is None:
        return {}
    import typer

    app = importlib.import_module("guardrail.desk.cli").app
    return dict(_command_tree(typer.main.get_command(app), "guardrail"))


def _parameter_rows(command: Any) -> list[tuple[str, str]]:
    rows = []
    for parameter in command.params:
        if parameter.name in {"help", "install_completion", "show_completion"} or getattr(parameter, "hidden", False):
            continue
        if parameter.param_type_name == "option":
            name = ", ".join([*parameter.opts, *parameter.secondary_opts])
        else:
            name = parameter.metavar or parameter.name.upper()
        is_required = parameter.required and parameter.param_type_name == "option"
        rows.append((f"`{name}`", (parameter.help or "") + (" (required)" if is_required else "")))
    return rows


def cli_help() -> str:
    """A section for each command: what it does, its arguments and options."""
    sections = []
    for name, command in cli_commands().items():
        if not command.params and hasattr(command, "commands") and name == "guardrail":
            continue
        sections += [f"## `{name}`", "", inspect.cleandoc(command.help or "").replace("\b\n", ""), ""]
        if rows := _parameter_rows(command):
            sections += [_table(("argument or option", "meaning"), *rows), ""]
    return "\n".join(sections).rstrip() or "The command line is not built yet."


# --- rooms ----------------------------------------------------------------------------------------------------


def room_reference(module: str) -> str:
    """The mkdocstrings block of a module, once it is there."""
    path = _ROOT / module.replace(".", "/")
    if (path / "__init__.py").exists() or path.with_suffix(".py").exists():
        return f"::: {module}"
    return f"`{module}` is not built yet."
