"""The command line: `guardrail COMMAND`; every command's help has an example and its exit codes."""

import logging
import sys
from typing import Annotated

import typer

from guardrail import __version__
from guardrail.desk.adapters_commands import adapters_app
from guardrail.desk.attribute_command import attribute_app
from guardrail.desk.audit_command import audit
from guardrail.desk.bench_commands import bench_app
from guardrail.desk.casefile_command import case_file
from guardrail.desk.check_command import check
from guardrail.desk.console import plain
from guardrail.desk.credit_command import credit_app
from guardrail.desk.demo_command import demo
from guardrail.desk.desk_commands import desk, serve
from guardrail.desk.index_commands import index_app
from guardrail.desk.keeping_commands import settings_app
from guardrail.desk.keys_commands import keys_app
from guardrail.desk.ledger_commands import ledger_app
from guardrail.desk.prompt_command import prompt_digest
from guardrail.desk.signs_command import signs_app
from guardrail.desk.verify_command import verify
from guardrail.errors import GuardrailError

__all__ = ["app", "main"]

_EXIT_COULD_NOT = 1
_EXIT_USAGE = 2
_EXIT_STOPPED = 130

app = typer.Typer(
    name="guardrail",
    help="A guard around diffusion pipelines: finds near-copies of protected works, judges, signs what it accepts.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(demo)
app.command()(check)
app.command()(verify)
app.command()(audit)
app.command()(desk)
app.command()(serve)
app.command("case-file")(case_file)
app.command()(prompt_digest)
app.add_typer(adapters_app)
app.add_typer(credit_app)
app.add_typer(index_app)
app.add_typer(attribute_app)
app.add_typer(bench_app)
app.add_typer(keys_app)
app.add_typer(ledger_app)
app.add_typer(settings_app)
app.add_typer(signs_app)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"guardrail {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log every verdict and release to stderr.")] = False,
) -> None:
    """What holds for every command."""
    del version
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR, stream=sys.stderr, format="%(message)s")


def main() -> None:
    """Run the command line; an error we know ends it with one line on stderr and exit code 1."""
    try:
        code = app(standalone_mode=False) or 0
        if code == _EXIT_STOPPED:  # what typer makes of Ctrl-C
            typer.echo(
                "stopped; nothing half-written stays, and building and adding go on where they stopped",
                err=True,
            )
        sys.exit(code)
    except typer.TyperException as error:  # the words of the command line are off
        error.show()  # type: ignore[attr-defined]  # every one of them can
        sys.exit(_EXIT_USAGE)
    except GuardrailError as error:
        typer.echo(plain(f"error: {error}").plain, err=True)
        sys.exit(_EXIT_COULD_NOT)
    except Exception as error:
        logging.getLogger("guardrail").info("unexpected error", exc_info=True)
        typer.echo(
            plain(f"error: {type(error).__name__}: {error}; run with --verbose for the traceback").plain, err=True
        )
        sys.exit(_EXIT_COULD_NOT)
