"""`guardrail settings show`."""

import typer

from guardrail.desk.console import SettingsFile, print_json, read_settings

__all__ = ["settings_app"]

settings_app = typer.Typer(name="settings", help="What guardrail would run with.", no_args_is_help=True)


@settings_app.callback()
def group() -> None:
    """Keep the one command of the group a command of its own."""


@settings_app.command()
def show(settings_file: SettingsFile = None) -> None:
    """Print every setting as JSON, defaults included, with the policy's digest.

    Example: guardrail settings show | jq .policy

    Exit codes: 0, or 1 where the settings cannot be followed.
    """
    settings = read_settings(settings_file)
    print_json(settings.model_dump(mode="json") | {"policy_sha256": settings.policy.sha256})
