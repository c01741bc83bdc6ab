"""Join index and keys to exchange hash lists: what leaves is signed, and what comes in is trusted or refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from guardrail import act
from guardrail.act.detached import sign_digest, signer_of
from guardrail.desk.making import make_builder
from guardrail.errors import HashListUntrusted, HashListUnusable, IndexMissing, KeysMissing
from guardrail.index import FolderIndex, Recipe
from guardrail.index.interchange import (
    Dialect,
    ExportReport,
    HashList,
    ImportReport,
    ListSigner,
    Seal,
    Survey,
    Trusted,
    Wanted,
    export_list,
    find_former,
    guess_dialect,
    import_foreign,
    import_list,
    is_hash_list,
)
from guardrail.index.layout import MANIFEST
from guardrail.index.store.create import create_store
from guardrail.settings import Settings

__all__ = ["UNSIGNED", "Incoming", "Outgoing", "export_index", "import_file"]

UNSIGNED = "unsigned"
_FOREIGN_BANK = "imported"
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """How a list leaves.

    Attributes:
        bank: only works of this bank, or None.
        vectors: whether vectors leave too.
        since: a former list, or the snapshot that it was made of; None for a full list.
        keys: folder of the keys to sign with; None to leave it unsigned.
        overwrite: whether a file of that name is replaced.
    """

    bank: str | None = None
    vectors: bool = False
    since: str | None = None
    keys: Path | None = None
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class Incoming:
    """How a list is taken.

    Attributes:
        trust: PEM files of root certificates, or folders with a `root.pem`; whoever signs under one is trusted.
        unsigned: whether a list is taken whoever signed it, or nobody.
        bank: the bank that all its works are put into, or None for those that it names.
        dialect: how a list of others is written; None to guess.
        create: whether an index is made where there is none.
    """

    trust: Sequence[Path] = ()
    unsigned: bool = False
    bank: str | None = None
    dialect: Dialect | None = None
    create: bool = False


def export_index(
    target: Path, file: Path, outgoing: Outgoing, progress: Progress = lambda done, total: None
) -> ExportReport:
    """Write the works of an index as a hash list; see `index.interchange.export_list`.

    Raises:
        KeysMissing, KeysUnusable: there is nothing to sign with.
    """
    seal = Seal()
    if outgoing.keys is not None:
        signing = act.load_signing(outgoing.keys)
        signer = ListSigner(name=signing.name, chain=signing.chain.decode())
        seal = Seal(signer, partial(sign_digest, signing=signing))
    index = FolderIndex(target).pinned()
    former = find_former(outgoing.since, file.parent) if outgoing.since is not None else None
    wanted = Wanted(outgoing.bank, outgoing.vectors, former)
    return export_list(index, file, wanted, seal, overwrite=outgoing.overwrite, progress=progress)


def import_file(
    target: Path,
    file: Path,
    incoming: Incoming,
    settings: Settings,
    progress: Callable[[str], Progress] = lambda what: lambda done, total: None,
) -> tuple[ImportReport, Trusted]:
    """Put the works of a hash list into an index, of ours or of others; and under whom it was trusted.

    Args:
        target: the index, a folder.
        file: the list.
        incoming: how it is taken.
        settings: the keys' folder, whose anchor is trusted where `incoming` names none; for a new index, the device.
        progress: gives what to call with (done, total), for each of the two readings.

    Raises:
        HashListUntrusted: nobody signed it who is trusted.
        HashListUnusable, IndexMissing, IndexDamaged, IndexLocked, IndexUnwritable: see `index.interchange`.
    """
    if incoming.dialect is None and is_hash_list(file):
        listed = HashList(file)
        survey = listed.survey(progress("checking"), incoming.bank)
        trusted = _trusted(listed, survey, incoming, settings)
        index = _open(target, incoming, settings, listed)
        return import_list(index, listed, survey, trusted, bank=incoming.bank, progress=progress("importing")), trusted
    dialect = incoming.dialect or guess_dialect(file)
    if not incoming.unsigned:
        raise HashListUntrusted(str(file), f"a list of others ({dialect}), which carries no signature", "a signed one")
    index = _open(target, incoming, settings, None)
    bank = incoming.bank or _FOREIGN_BANK
    return import_foreign(index, file, dialect, bank, progress("importing")), Trusted("", UNSIGNED)


def _trusted(listed: HashList, survey: Survey, incoming: Incoming, settings: Settings) -> Trusted:
    if incoming.unsigned:
        return Trusted("", UNSIGNED)
    signer = listed.head.signer
    if survey.signature is None or signer is None:
        raise HashListUntrusted(str(listed.path), "no signature", "one under a root certificate that is trusted")
    anchors = _anchors(incoming.trust, settings)
    digest, now = bytes.fromhex(survey.sha256), datetime.now(UTC)
    try:
        anchor = signer_of(digest, survey.signature, signer.chain.encode(), anchors, now)
    except ValueError as error:
        raise HashListUntrusted(str(listed.path), str(error), "a signature that holds, under a trusted root") from error
    return Trusted(signer.name, anchor)


def _anchors(trust: Sequence[Path], settings: Settings) -> list[bytes]:
    """The root certificates that are named, or that of our own keys; none where we have none."""
    if not trust:
        try:
            return list(act.load_anchors(settings.keys_dir))
        except KeysMissing:
            return []
    anchors: list[bytes] = []
    for path in trust:
        if path.is_dir():
            anchors += act.load_anchors(path)
            continue
        try:
            anchors.append(path.read_bytes())
        except OSError as error:
            raise KeysMissing(str(path.parent), path.name) from error
    return anchors


def _open(target: Path, incoming: Incoming, settings: Settings, listed: HashList | None) -> FolderIndex:
    """The index, made first where it may be: like the one that the list came from, or as shipped."""
    if incoming.create and not (target / MANIFEST).exists():
        recipe = Recipe()
        if listed is not None:
            embedders = listed.head.embedders
            if "copy" not in embedders:
                expected = "one of a copy descriptor, to make an index by"
                raise HashListUnusable(str(listed.path), "no copy embedder", expected, "build the index first")
            like = {"embedder": embedders["copy"].name, "clip": embedders["clip"].name if "clip" in embedders else ""}
            recipe = recipe.model_copy(update=like | listed.head.sampling.model_dump())
        builder = make_builder(settings, recipe)
        create_store(target, builder.header, [])
    try:
        return FolderIndex(target)
    except IndexMissing as error:
        raise IndexMissing(str(target), f"{error.args[1]}; to make an empty one, pass --create") from error
