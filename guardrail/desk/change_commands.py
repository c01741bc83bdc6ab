"""`guardrail index add|remove|update|compact`: works come and go while the index is searched."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from guardrail.desk.build_command import Columns, PrivateAddresses, Workers, workers_of
from guardrail.desk.console import AsJson, SettingsFile, aside, plain, print_json, progress_of, read_settings
from guardrail.errors import SettingsInvalid

if TYPE_CHECKING:
    from guardrail.index import Recipe
    from guardrail.index.adding import AddReport

__all__ = ["add", "compact", "remove", "update"]

_SHOWN = 20  # files or works
_AUTOMATIC = -1

Target = Annotated[str, typer.Argument(metavar="INDEX", help="Folder of the index, or the URL of a backend.")]
Bank = Annotated[str, typer.Option(help="Bank of the works that are named.")]


def add(
    target: Target,
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE...", help="Folder of images, image files, tar or parquet shards.")
    ],
    works: Annotated[Path | None, typer.Option(help="Works table, CSV or parquet: who made which file.")] = None,
    bank: Annotated[str, typer.Option(help="Bank of works that the table does not list.")] = "default",
    disposition: Annotated[str, typer.Option(help="What a match means: protect, credit, ignore.")] = "protect",
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Let other pictures of the same path replace works without id."),
    ] = False,
    only_listed: Annotated[bool, typer.Option("--only-listed", help="Leave out files that the table lacks.")] = False,
    column: Columns = None,
    private_addresses: PrivateAddresses = False,
    workers: Workers = _AUTOMATIC,
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Add works to an index. A work that is there (the same bank and id) is replaced; searches see it at once.

    Interrupted, the same command goes on where it stopped; done twice, it changes nothing.

    Example: guardrail index add my-index new-works --works new-works/works.csv

    Exit codes: 0 added (unreadable files are listed), 1 nothing was added.
    """
    from guardrail.desk.changing import add_source
    from guardrail.intake import SourceOptions, open_source

    recipe = _recipe({"bank": bank, "disposition": disposition, "unlisted": "skip" if only_listed else "index"})
    source = open_source(sources, SourceOptions.of(column or (), private=private_addresses))
    with progress_of("fingerprinting") as progress:
        report = add_source(
            source,
            target,
            read_settings(settings_file),
            recipe,
            works,
            workers=workers_of(workers, source.estimate()),
            replace_unnamed=replace,
            progress=progress,
        )
    change = report.change
    _show_added(target, report, as_json=as_json)
    if not change.added + change.replaced + change.unchanged:
        aside().print("nothing was added: there was no picture that could be read, or none that the table lists")
    raise typer.Exit(0 if change.added + change.replaced + change.unchanged else 1)


def _recipe(said: dict[str, str]) -> "Recipe":
    from guardrail.index import Recipe

    try:
        return Recipe.model_validate(said)
    except ValueError as error:
        wrong = f"{said['disposition']!r}, expected protect, credit or ignore"
        raise SettingsInvalid("--disposition", wrong) from error


def _show_added(target: str, report: "AddReport", *, as_json: bool) -> None:
    change = report.change
    if as_json:
        unreadable = [{"file": file, "error": error} for file, error in report.unreadable]
        rest = {"unreadable": unreadable, "faint": report.faint, "left_out": report.left_out}
        print_json(change.model_dump(mode="json") | rest)
        return
    counts = f"{change.added} added, {change.replaced} replaced, {change.unchanged} unchanged"
    _say(f"{target}: {counts}; {change.works} works, snapshot {change.snapshot[:12]}")
    if report.left_out:
        _say(f"{report.left_out} other files left out (not named like images, or not in the works table)")
    if report.faint:
        _list(f"blank images look like works that have little in them ({len(report.faint)}):", report.faint)
    if report.unreadable:
        lines = [f"{file}: {error}" for file, error in report.unreadable]
        _list(f"{len(report.unreadable)} files could not be added:", lines)


def remove(
    target: Target,
    ids: Annotated[list[str] | None, typer.Argument(metavar="WORK_ID...", help="Works to withdraw.")] = None,
    bank: Bank = "default",
    listed: Annotated[
        Path | None, typer.Option("--from", help="File of ids, one a line, or CSV with work_id and bank.")
    ] = None,
    missing_ok: Annotated[bool, typer.Option("--missing-ok", help="Exit 0 though some are not there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Withdraw works from an index: the next search does not see them. `index compact` purges them from the disk.

    Example: guardrail index remove my-index fox-17 fox-18

    Exit codes: 0 all withdrawn, 1 some are not there (each is named; the others are withdrawn).
    """
    from guardrail.desk.changing import keys_from_file, open_for_writing

    keys = [(bank, one) for one in ids or ()] + (keys_from_file(listed, bank) if listed else [])
    if not keys:
        raise SettingsInvalid("the command line", "no work is named; give ids, or --from FILE")
    change = open_for_writing(target).withdraw(keys)
    _show(target, f"{change.withdrawn} withdrawn", change, as_json=as_json)
    raise typer.Exit(1 if change.unknown and not missing_ok else 0)


def update(
    target: Target,
    ids: Annotated[list[str] | None, typer.Argument(metavar="WORK_ID...", help="Works that --set is said of.")] = None,
    said: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="title, creator, licence, opted_out_at (or now), ..."),
    ] = None,
    bank: Bank = "default",
    listed: Annotated[
        Path | None, typer.Option("--from", help="File of ids, one a line, or CSV with work_id and bank.")
    ] = None,
    works: Annotated[Path | None, typer.Option(help="Works table: each of its works is described anew.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say other things of works: owner, licence, opt-out, expiry. Their fingerprints stay; searches see it at once.

    Example: guardrail index update my-index fox-17 --set opted_out_at=now --set rights_holder="Ada Fox"

    Exit codes: 0 all updated, 1 some are not there (each is named; the others are updated).
    """
    from guardrail.desk.changing import keys_from_file, open_for_writing, update_works
    from guardrail.index import read_works

    keys = [(bank, one) for one in ids or ()] + (keys_from_file(listed, bank) if listed else [])
    if bool(keys) != bool(said) or not (keys or works):
        wrong = "expected ids and --set FIELD=VALUE together, or --works TABLE, or both; one half is missing"
        raise SettingsInvalid("the command line", wrong)
    change = update_works(open_for_writing(target), keys, said or (), read_works(works) if works else ())
    _show(target, f"{change.replaced} updated, {change.unchanged} unchanged", change, as_json=as_json)
    raise typer.Exit(1 if change.unknown else 0)


def compact(
    target: Annotated[Path, typer.Argument(metavar="INDEX", help="Folder of the index.")],
    as_json: AsJson = False,
) -> None:
    """Put the files of an index in order, and purge withdrawn works from the disk. Searches go on meanwhile.

    Example: guardrail index compact my-index

    Exit codes: 0, or 1 where it cannot be written.
    """
    from guardrail.index import FolderIndex

    index = FolderIndex(target)
    with progress_of("compacting") as progress:
        purged = index.compact(progress)
    header = index.header
    if as_json:
        print_json({"purged": purged} | header.model_dump(mode="json"))
        return
    _say(f"{target}: {purged} withdrawn rows purged; {header.works} works, snapshot {header.snapshot[:12]}")


def _show(target: str, done: str, change: Any, *, as_json: bool) -> None:
    if as_json:
        print_json(change.model_dump(mode="json"))
        return
    _say(f"{target}: {done}; {change.works} works, snapshot {change.snapshot[:12]}")
    if change.unknown:
        _list(f"{len(change.unknown)} are not there:", change.unknown)


def _say(line: str) -> None:
    Console(highlight=False).print(plain(line), soft_wrap=True)


def _list(heading: str, lines: Any) -> None:
    aside().print(heading)
    for line in lines[:_SHOWN]:
        aside().print(plain(f"  {line}"), soft_wrap=True)
    if len(lines) > _SHOWN:
        aside().print(f"  ... and {len(lines) - _SHOWN} more")
