"""`guardrail keys init|rotate|show`."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from guardrail import act
from guardrail.desk.console import AsJson, SettingsFile, plain, print_json, read_settings
from guardrail.errors import KeysUnusable
from guardrail.records import CertificateFacts, KeysReport

__all__ = ["EXIT_SOON", "EXIT_UNUSABLE", "keys_app"]

EXIT_SOON = 10  # fewer days left than `_SOON_DAYS`
EXIT_UNUSABLE = 11  # nothing can be signed with these keys
_SOON_DAYS = 30.0
_MOMENT = "%Y-%m-%d %H:%M UTC"

KeysFolder = Annotated[Path | None, typer.Option("--dir", help="Folder of the keys; default: the settings'.")]

keys_app = typer.Typer(name="keys", help="Signing keys.", no_args_is_help=True)


@keys_app.command()
def init(
    folder: KeysFolder = None,
    name: Annotated[str, typer.Option(help="Name in the certificates: who signs.")] = "guardrail development",
    settings_file: SettingsFile = None,
) -> None:
    """Make development keys: a root of our own and a signing certificate under it. They are never overwritten.

    With a password in GUARDRAIL_KEY_PASSWORD the private keys are encrypted, and opened with it from then on.

    Example: guardrail keys init --dir keys

    Exit codes: 0 made, 1 not made.
    """
    target = folder or read_settings(settings_file).keys_dir
    act.make_development_keys(target, common_name=name)
    Console(highlight=False).print(
        f"development keys are in {target}; give root.pem to whoever is to recognise your images, and nobody the rest",
        soft_wrap=True,
    )


@keys_app.command()
def rotate(
    folder: KeysFolder = None,
    root: Annotated[bool, typer.Option("--root", help="Make a new root too; the old one stays an anchor.")] = False,
    name: Annotated[str, typer.Option(help="Name in the new certificate; default: as before.")] = "",
    settings_file: SettingsFile = None,
) -> None:
    """Replace the signing certificate by a fresh one, for 365 days; files signed before stay ours.

    The old private key is destroyed. Without --root the root key must be in the folder. It may be stopped at any point:
    the folder can be signed with, and the next rotation tidies up.

    Example: guardrail keys rotate --dir keys

    Exit codes: 0 replaced, 1 not replaced.
    """
    target = folder or read_settings(settings_file).keys_dir
    act.rotate_keys(target, name, new_root=root)
    found = act.describe_keys(target, datetime.now(UTC))
    told = "; give the new root.pem to whoever is to recognise your images, beside the old one" if root else ""
    Console(highlight=False).print(
        plain(f"{found.leaf.name!r} signs from now on, until {found.leaf.not_after:{_MOMENT}}{told}"), soft_wrap=True
    )


@keys_app.command()
def certify(
    public_key: Annotated[Path, typer.Argument(help="PEM or DER file of the public key.", dir_okay=False)],
    name: Annotated[str, typer.Option(help="Name in the certificate: who signs.")],
    out: Annotated[Path, typer.Option(help="File for the certificate, PEM; it must not be there yet.")],
    folder: KeysFolder = None,
    settings_file: SettingsFile = None,
) -> None:
    """Issue a signing certificate under our root, for 365 days, for a key that is kept by a key service or in a token.

    Example: guardrail keys certify kms-public.der --name "Anna's studio" --out chain.pem

    Exit codes: 0 issued, 1 not issued.
    """
    certificate = act.certify_key(folder or read_settings(settings_file).keys_dir, _content(public_key), name)
    try:
        with out.open("xb") as file:
            file.write(certificate)
    except OSError as error:
        raise KeysUnusable(str(out), str(error), "a new file in a folder that can be written") from error
    Console(highlight=False).print(plain(f"the certificate of {name!r} is in {out}"), soft_wrap=True)


@keys_app.command()
def show(folder: KeysFolder = None, settings_file: SettingsFile = None, as_json: AsJson = False) -> None:
    """Show who signs, until when, under which anchors, and whether the certificate keeps to the C2PA profile.

    Example: guardrail keys show --json | jq .days_left

    Exit codes: 0 all well, 10 fewer than 30 days left, 11 nothing can be signed with them (expired, a key that is
    missing or readable by others, a certificate outside the profile), 1 no keys that could be looked at.
    """
    found = act.describe_keys(folder or read_settings(settings_file).keys_dir, datetime.now(UTC))
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        _print(found)
    raise typer.Exit(EXIT_UNUSABLE if found.unusable else EXIT_SOON if found.days_left < _SOON_DAYS else 0)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeysUnusable(str(path), str(error), "a file we may read") from error


def _print(found: KeysReport) -> None:
    lines = [_line("signs", found.leaf), *(_line("anchor", anchor) for anchor in found.anchors)]
    lines += [
        f"{found.days_left:.1f} days left; renew it with: guardrail keys rotate",
        f"profile: {'; '.join(found.faults) or 'as C2PA asks for'}",
        "root key: " + ("here" if found.root_key else "elsewhere; bring it back to rotate, or rotate with --root"),
    ]
    console = Console(highlight=False)
    for line in [*lines, *([found.unusable] if found.unusable else [])]:
        console.print(plain(line), soft_wrap=True)


def _line(what: str, one: CertificateFacts) -> str:
    return f"{what}: {one.name!r} until {one.not_after:{_MOMENT}}, {one.file}, sha256 {one.sha256}"
