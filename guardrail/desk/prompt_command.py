"""`guardrail prompt-digest`: whether a prompt belongs to a signed image, for who has the key of the digests."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from guardrail.desk.console import AsJson, SettingsFile, plain, print_json, read_settings

__all__ = ["prompt_digest"]

_EXIT_ANOTHER = 24  # after the outcomes of `verify`


def prompt_digest(
    file: Annotated[Path, typer.Argument(help="A file that guardrail signed.")],
    prompt: Annotated[str, typer.Argument(help="The prompt, letter by letter; - reads it from standard input.")],
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Say whether a prompt belongs to a signed image. Only who has the key of the digests can tell.

    Example: guardrail prompt-digest fox.png - < prompt.txt

    Exit codes: 0 it was a prompt of the image, 24 it was none, 1 that cannot be told (not our file, no key).
    """
    from guardrail import act

    settings = read_settings(settings_file)
    key = act.load_prompt_key(settings.prompt_key, make=False)
    text = sys.stdin.read() if prompt == "-" else prompt
    proof = act.prove_prompt(file, act.load_anchors(settings.keys_dir), key, text)
    if as_json:
        print_json({"path": str(file), "verdict_id": proof.verdict_id, "fields": list(proof.fields)})
    elif proof.fields:
        typer.echo(plain(f"{file}: that was its {' and its '.join(proof.fields)}").plain)
    else:
        typer.echo(plain(f"{file}: that was none of its prompts ({', '.join(proof.digested)})").plain)
    raise typer.Exit(0 if proof.fields else _EXIT_ANOTHER)
