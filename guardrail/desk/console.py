"""What commands share: where progress goes, how JSON is printed, how settings are found."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from guardrail.settings import Settings

__all__ = ["AsJson", "SettingsFile", "aside", "plain", "print_json", "progress_of", "read_settings"]

_DEFAULT_SETTINGS = Path("guardrail.toml")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_PLAIN_LINES = 10  # progress lines where there is no terminal

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout; all else goes to stderr.")]
SettingsFile = Annotated[
    Path | None,
    typer.Option(
        "--settings", help="TOML file of settings; default: guardrail.toml in this folder, where there is one."
    ),
]


def aside() -> Console:
    """The console for what is not the answer: stderr."""
    return Console(stderr=True, highlight=False)


def plain(text: object) -> Text:
    """Text from elsewhere (titles, file names, signers) as it is: no markup, and no control characters."""
    return Text("".join(sign if sign.isprintable() else _REPLACEMENT for sign in str(text)))


def print_json(document: Any) -> None:
    """Print the one JSON document of a command."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    sys.stdout.write(text.encode("utf-8", "backslashreplace").decode() + "\n")


def read_settings(path: Path | None) -> Settings:
    """The settings a command runs with.

    Raises:
        SettingsInvalid: the file cannot be followed.
    """
    if path is None and _DEFAULT_SETTINGS.is_file():
        path = _DEFAULT_SETTINGS
    return Settings.load(path)


@contextmanager
def progress_of(what: str) -> Iterator[Callable[[int, int], None]]:
    """A function to call with (done, total): a bar on a terminal, a few plain lines elsewhere, on stderr."""
    console = aside()
    if not console.is_terminal:
        yield _plain_lines(what, console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _plain_lines(what: str, console: Console) -> Callable[[int, int], None]:
    said = -1

    def say(done: int, total: int) -> None:
        nonlocal said
        step = done * _PLAIN_LINES // max(total, 1)
        if step != said:
            said = step
            console.print(f"{what}: {done} of {total}")

    return say
