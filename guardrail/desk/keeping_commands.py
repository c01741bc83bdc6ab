"""`guardrail keys init`, `guardrail ledger verify`, `guardrail settings show`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from guardrail import act
from guardrail.desk.console import AsJson, SettingsFile, print_json, read_settings

__all__ = ["keys_app", "ledger_app", "settings_app"]

keys_app = typer.Typer(name="keys", help="Signing keys.", no_args_is_help=True)
ledger_app = typer.Typer(name="ledger", help="The record of every verdict and release.", no_args_is_help=True)
settings_app = typer.Typer(name="settings", help="What guardrail would run with.", no_args_is_help=True)


@keys_app.callback()
@ledger_app.callback()
@settings_app.callback()
def group() -> None:
    """Keep the one command of each group a command of its own."""


@keys_app.command()
def init(
    folder: Annotated[Path | None, typer.Option("--dir", help="Folder for the keys; default: the settings'.")] = None,
    name: Annotated[str, typer.Option(help="Name in the certificates: who signs.")] = "guardrail development",
    settings_file: SettingsFile = None,
) -> None:
    """Make development keys: a root of our own and a signing certificate under it. They are never overwritten.

    Example: guardrail keys init --dir keys

    Exit codes: 0 made, 1 not made.
    """
    target = folder or read_settings(settings_file).keys_dir
    act.make_development_keys(target, common_name=name)
    Console(highlight=False).print(
        f"development keys are in {target}; give root.pem to whoever is to recognise your images, and nobody the rest",
        soft_wrap=True,
    )


@ledger_app.command("verify")
def verify_ledger(settings_file: SettingsFile = None, as_json: AsJson = False) -> None:
    """Check the ledger's hash chain from its first row to its last.

    Example: guardrail ledger verify

    Exit codes: 0 the chain holds, 1 it is broken (the first bad row is named) or cannot be read.
    """
    from guardrail.memory import Memory

    memory = Memory(read_settings(settings_file).memory_url, must_exist=True)
    rows, tip = memory.verify()
    if as_json:
        print_json({"rows": rows, "tip": tip, "open_cases": len(memory.open_cases())})
    else:
        Console(highlight=False).print(
            f"{rows} rows, the chain holds; tip {tip[:12]}; {len(memory.open_cases())} open cases"
        )


@settings_app.command()
def show(settings_file: SettingsFile = None) -> None:
    """Print every setting as JSON, defaults included, with the policy's digest.

    Example: guardrail settings show | jq .policy

    Exit codes: 0, or 1 where the settings cannot be followed.
    """
    settings = read_settings(settings_file)
    print_json(settings.model_dump(mode="json") | {"policy_sha256": settings.policy.sha256})
