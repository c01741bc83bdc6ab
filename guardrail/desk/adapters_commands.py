"""`guardrail adapters add|list|remove`: whose adapters are whose, and what a released image with them costs."""

import re
from contextlib import closing
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from guardrail.desk.console import AsJson, SettingsFile, plain, print_json, read_settings
from guardrail.errors import SettingsInvalid
from guardrail.records import RegisteredAdapter

if TYPE_CHECKING:
    from guardrail.memory import AdapterEntry, Memory

__all__ = ["MemoryUrl", "Organisation", "adapters_app", "opened"]

_SHOWN = 12  # digits of a digest, for people
_DIGEST = re.compile("[0-9a-f]{64}")

adapters_app = typer.Typer(
    name="adapters", help="The register of adapters: whose they are, and at which price.", no_args_is_help=True
)

MemoryUrl = Annotated[
    str, typer.Option("--memory", metavar="URL", help="Ledger to use, in place of the settings': file or database URL.")
]
Organisation = Annotated[str, typer.Option(help="Whose register and whose images.")]


@adapters_app.command("add")
def add_adapter(
    weights: Annotated[
        str, typer.Argument(metavar="FILE", help="Its safetensors file; or the sha256 that runs report of it.")
    ],
    holder: Annotated[str, typer.Option(help="Who holds the rights in it, and is paid.")],
    name: Annotated[str, typer.Option(help="Its name here; default: the file's.")] = "",
    licence: Annotated[str, typer.Option(help="Under which terms it is used.")] = "",
    price: Annotated[str, typer.Option(help="For one released image that it was on for, such as 0.02.")] = "",
    currency: Annotated[str, typer.Option(help="Of the price, by ISO 4217, such as EUR.")] = "",
    extracts: Annotated[str, typer.Option(metavar="BANK/ID", help="The work that it takes out of the model.")] = "",
    memory: MemoryUrl = "",
    organisation: Organisation = "default",
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Register an adapter: whose it is, and what a released image with it costs.

    Said again with another price or holder, it holds from then on: images that were released before keep theirs.

    Example: guardrail adapters add ghibli.safetensors --holder "Ada Fox" --price 0.02 --currency EUR

    Exit codes: 0 registered, 1 it was not (an unreadable file, or a name that another has).
    """
    adapter = RegisteredAdapter(
        name=_name(name or Path(weights).stem),
        weights_sha256=_digest(weights),
        holder=_name(holder),
        licence=licence,
        price=_price(price),
        currency=_currency(currency),
        purpose="extract" if extracts else "add",
        extracts=extracts,
    )
    with opened(memory, settings_file, must_exist=False) as ledger:
        entered = ledger.adapters.register(adapter, organisation)
    if as_json:
        print_json(entered.model_dump(mode="json"))
        return
    console = Console(highlight=False)
    console.print(plain(f"registered {entered.name} of {entered.holder}: {_told(entered)}"), soft_wrap=True)


@adapters_app.command("list")
def list_adapters(
    every: Annotated[bool, typer.Option("--history", help="All that was ever said, oldest first.")] = False,
    memory: MemoryUrl = "",
    organisation: Organisation = "default",
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """List the adapters that are registered, or with `--history` every entry of the register.

    Example: guardrail adapters list --history

    Exit codes: 0 listed, 1 the ledger cannot be read.
    """
    with opened(memory, settings_file) as ledger:
        entries = ledger.adapters.entries(organisation) if every else ()
        standing = ledger.adapters.standing(organisation)
    if as_json:
        print_json({"adapters": [_document(one) for one in entries] if every else [_plainly(one) for one in standing]})
        return
    if every:
        _show_history(entries)
    else:
        _show(standing)


@adapters_app.command("remove")
def remove_adapter(
    named: Annotated[str, typer.Argument(metavar="NAME", help="Its name, or the sha256 of its weights.")],
    memory: MemoryUrl = "",
    organisation: Organisation = "default",
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Take an adapter out of the register: what is released with it from now on is listed as unregistered.

    Example: guardrail adapters remove ghibli

    Exit codes: 0 removed, 1 there is none of that name.
    """
    with opened(memory, settings_file) as ledger:
        removed = ledger.adapters.remove(named, organisation)
    if as_json:
        print_json({"removed": _plainly(removed)})
        return
    Console(highlight=False).print(plain(f"removed {removed.name} of {removed.holder}"), soft_wrap=True)


def opened(memory: str, settings_file: Path | None, *, must_exist: bool = True) -> "closing[Memory]":
    """The ledger that a command names, or else the settings'.

    Args:
        memory: a database URL, a file, or nothing.
        settings_file: of the settings.
        must_exist: whether a missing SQLite file is an error.

    Raises:
        SettingsInvalid: the settings cannot be followed.
        MemoryUnwritable: it cannot be opened.
    """
    from guardrail.memory import Memory

    settings = read_settings(settings_file)
    if not memory:
        return closing(Memory(settings.memory_url, must_exist=must_exist, pictures=settings.pictures_place))
    return closing(Memory(memory if "://" in memory else f"sqlite:///{memory}", must_exist=must_exist))


def _digest(weights: str) -> str:
    """The digest by which runs know an adapter, from its file or as it was given.

    Raises:
        SettingsInvalid: the file cannot be read as safetensors.
    """
    if _DIGEST.fullmatch(weights):
        return weights
    from safetensors import SafetensorError

    from guardrail.intake import adapter_file_digest

    try:
        return adapter_file_digest(weights)
    except (OSError, SafetensorError) as error:
        wrong = f"{weights!r} ({error}), expected a safetensors file or a sha256 of 64 hex digits; name another"
        raise SettingsInvalid("FILE", wrong) from error


def _name(said: str) -> str:
    if not said.strip():
        raise SettingsInvalid("--name and --holder", "found nothing, expected a name; say both")
    return said


def _price(said: str) -> Decimal | None:
    if not said:
        return None
    try:
        price = Decimal(said)
    except InvalidOperation:
        price = Decimal(-1)
    if not price.is_finite() or price < 0:
        raise SettingsInvalid("--price", f"found {said!r}, expected a number of 0 or more, such as 0.02")
    return price


def _currency(said: str) -> str:
    if said and not re.fullmatch("[A-Z]{3}", said):
        raise SettingsInvalid("--currency", f"found {said!r}, expected three capitals, such as EUR")
    return said


# --- for people -----------------------------------------------------------------------------------------------------


def _plainly(adapter: RegisteredAdapter) -> dict[str, Any]:
    return adapter.model_dump(mode="json")


def _document(entry: "AdapterEntry") -> dict[str, Any]:
    return {"row": entry.sequence, "change": entry.change, "at": entry.at.isoformat(), **_plainly(entry.adapter)}


def _told(adapter: RegisteredAdapter) -> str:
    price = f"{adapter.price} {adapter.currency} an image" if adapter.price is not None else "no price"
    extracts = f", takes out {adapter.extracts}" if adapter.extracts else ""
    return f"sha256 {adapter.weights_sha256[:_SHOWN]}, {price}{extracts}"


def _show(adapters: tuple[RegisteredAdapter, ...]) -> None:
    console = Console(highlight=False)
    if not adapters:
        console.print("no adapter is registered")
        return
    table = Table("name", "holder", "licence", Column("price", justify="right"), "takes out", "sha256", box=None)
    for one in adapters:
        price = f"{one.price} {one.currency}" if one.price is not None else "none"
        cells = (one.name, one.holder, one.licence, price, one.extracts, one.weights_sha256[:_SHOWN])
        table.add_row(*map(plain, cells))
    console.print(table)


def _show_history(entries: "tuple[AdapterEntry, ...]") -> None:
    console = Console(highlight=False)
    if not entries:
        console.print("nothing was ever registered")
    for one in entries:
        said = f"row {one.sequence}, {one.at:%Y-%m-%d %H:%M} UTC: {one.adapter.name} of {one.adapter.holder} "
        console.print(plain(f"{said}{one.change}: {_told(one.adapter)}"), soft_wrap=True)
