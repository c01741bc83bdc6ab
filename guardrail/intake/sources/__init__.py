"""Where pictures come from in bulk: folders, files, tar shards, tables and addresses, behind one `Source`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from guardrail.errors import NothingToIndex, SettingsInvalid
from guardrail.intake.sources.folder import FilesSource, FolderSource, find_images
from guardrail.intake.sources.places import Address, Content, Place, Unread, read_place
from guardrail.intake.sources.shards import find_shards, is_remote
from guardrail.intake.sources.tables import Columns, DatasetSource, ParquetSource, dataset_shards
from guardrail.intake.sources.tar import TarSource
from guardrail.intake.sources.web import WebLimits, fetch
from guardrail.protocols import Source

__all__ = [
    "Address",
    "Columns",
    "Content",
    "DatasetSource",
    "FilesSource",
    "FolderSource",
    "ParquetSource",
    "Place",
    "SourceOptions",
    "TarSource",
    "Unread",
    "WebLimits",
    "fetch",
    "find_images",
    "open_source",
    "read_place",
]

_PICTURE_COLUMNS = ("image", "url", "name")
_FACT_COLUMNS = (
    "work_id",
    "bank",
    "title",
    "creator",
    "rights_holder",
    "licence",
    "source",
    "disposition",
    "opted_out_at",
    "expires_at",
    "multiplicity",
)


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How a source is read.

    Attributes:
        columns: see `Columns`; the facts also name fields of `.json` files in tar shards.
        limits: what is spent on addresses.
    """

    columns: Columns = field(default_factory=Columns)
    limits: WebLimits = field(default_factory=WebLimits)

    @classmethod
    def of(cls, columns: Sequence[str], *, private: bool = False) -> "SourceOptions":
        """Options as a person writes them: `image=jpg`, `title=caption`.

        Raises:
            SettingsInvalid: no such thing is read from a column.
        """
        said = dict(column.partition("=")[::2] for column in columns)
        known = (*_PICTURE_COLUMNS, *_FACT_COLUMNS)
        for kind, name in said.items():
            if kind not in known or not name:
                raise SettingsInvalid(f"{kind}={name}", f"not one of {', '.join(known)} and the name of a column")
        facts = {kind: name for kind, name in said.items() if kind in _FACT_COLUMNS}
        chosen = {kind: said.get(kind, "") for kind in _PICTURE_COLUMNS}
        return cls(Columns(**chosen, facts=facts), WebLimits(private=private))


def open_source(locations: Sequence[str], options: SourceOptions | None = None) -> Source:
    """The source of some locations: by what they are called, or by what a folder holds.

    Args:
        locations: one folder of images; one folder that `datasets.save_to_disk` wrote; or any number of image files,
            of tar shards (`*.tar`), or of parquet files (`*.parquet`), the latter two as paths or fsspec URLs with
            braces and wildcards.
        options: columns and limits.

    Raises:
        NothingToIndex: there is no such folder.
        SettingsInvalid: they are of different kinds, or no file fits.
        ExtraMissing: a filesystem needs a package that is not installed.
    """
    options = options or SourceOptions()
    kinds = {_kind(location) for location in locations}
    if len(kinds) != 1:
        raise SettingsInvalid(", ".join(locations), f"sources of different kinds ({', '.join(sorted(kinds))})")
    kind = kinds.pop()
    if kind == "tar":
        return TarSource(find_shards(locations), options.columns.facts)
    if kind == "parquet":
        return ParquetSource(find_shards(locations), options.columns, options.limits)
    if kind == "file":
        return FilesSource([Path(location) for location in locations])
    if len(locations) > 1:
        raise SettingsInvalid(", ".join(locations), "more than one folder; give one at a time")
    return _open_folder(Path(locations[0]), options)


def _kind(location: str) -> str:
    for ending in ("tar", "parquet"):
        if location.endswith(f".{ending}"):
            return ending
    if is_remote(location):
        raise SettingsInvalid(location, "an address that does not end in .tar or .parquet; name the shards")
    return "file" if Path(location).is_file() else "folder"


def _open_folder(folder: Path, options: SourceOptions) -> Source:
    """A folder: a dataset if it describes itself as one, shards if it holds nothing else, and otherwise of images."""
    if not folder.is_dir():
        raise NothingToIndex(str(folder), "no such folder")
    if arrows := dataset_shards(folder):
        return DatasetSource(find_shards([str(path) for path in arrows]), options.columns, options.limits)
    if next(iter(FolderSource(folder)), None) is None:
        shards = [str(path) for ending in ("tar", "parquet") for path in sorted(folder.glob(f"*.{ending}"))]
        if shards:
            return open_source(shards, options)  # which refuses shards of both kinds
    return FolderSource(folder)
