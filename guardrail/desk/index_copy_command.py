"""`guardrail index copy`: put an index onto a Milvus server, for many machines."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from guardrail.desk.console import AsJson, plain, print_json, progress_of

if TYPE_CHECKING:
    from guardrail.index.milvus import Copied

__all__ = ["copy"]


def copy(
    source: Annotated[Path, typer.Argument(help="Folder of the index to copy.")],
    location: Annotated[
        str,
        typer.Argument(
            metavar="URL",
            help="milvus://HOST:PORT/DATABASE, or milvus+tls://... for an encrypted connection. "
            "User:password or an API key go into the variable GUARDRAIL_MILVUS_TOKEN, never into the URL.",
        ),
    ],
    structure: Annotated[
        str,
        typer.Option(
            help="Search structure of a new index's vectors: FLAT (exact), IVF_FLAT, IVF_SQ8, HNSW, GPU_BRUTE_FORCE, "
            "GPU_CAGRA, GPU_IVF_PQ."
        ),
    ] = "FLAT",
    rebuild: Annotated[
        bool,
        typer.Option("--rebuild", help="Fill a new set of collections and switch to it, although there is an index."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Copy an index to a Milvus server. Interrupted, the same command goes on where it stopped.

    A new index is searched from the moment it is whole. Where there is one, works are added to it, and those of the
    same bank and id replaced; with --rebuild it is filled anew while the old one is searched, and then switched.

    Example: guardrail index copy my-index milvus://milvus.example.org:19530/works

    Exit codes: 0 copied, 1 not, or not all: run it again.
    """
    from guardrail.index import FolderIndex  # when a command runs, not before: they load faiss and pymilvus
    from guardrail.index.milvus import CopySource, copy_index

    opened = FolderIndex(source)
    pinned = opened.pinned()
    background = pinned.background.vectors if pinned.background is not None else None
    batches = CopySource(pinned.header, background, pinned.export_batches())
    with progress_of("copying") as progress:
        copied = copy_index(batches, location, structure, rebuild=rebuild, progress=progress)
    if as_json:
        print_json(_document(copied))
    else:
        counts = f"{copied.added} added, {copied.replaced} replaced, {copied.unchanged} as they were"
        said = f"{location}: {copied.header.works} works ({counts}); snapshot {copied.header.snapshot[:12]}"
        Console(highlight=False).print(plain(said), soft_wrap=True)


def _document(copied: "Copied") -> dict[str, Any]:
    counts = {name: getattr(copied, name) for name in ("added", "replaced", "unchanged", "build")}
    return counts | {"discarded": list(copied.discarded), "index": copied.header.model_dump(mode="json")}
