"""`guardrail index find`: search a bank by words."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from guardrail.desk.console import AsJson, SettingsFile, plain, print_json, read_settings

__all__ = ["find"]


def find(
    target: Annotated[Path, typer.Argument(help="Folder of the index.")],
    words: Annotated[str, typer.Argument(help="What to look for, in a few English words.")],
    take: Annotated[int, typer.Option(min=1, help="How many works to list.")] = 10,
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """List the works of an index that words describe best: a way to look a bank through, never evidence.

    Example: guardrail index find my-index "a red fox" --take 5

    Exit codes: 0, or 1 where there is no such index or its embedder knows no words.
    """
    from guardrail.errors import WordsUnknown
    from guardrail.fingerprint import resolve_device
    from guardrail.index import FolderIndex
    from guardrail.plugins import build_plugins, make_embedder
    from guardrail.protocols import WordEmbedder

    index, settings = FolderIndex(target), read_settings(settings_file)
    specs, plugins = index.header.embedders, build_plugins(())
    device = resolve_device(settings.device)
    for role in ("clip", "copy"):
        if role not in specs:
            continue
        embedder = make_embedder(plugins, specs[role].name, device, settings.weights_dir)
        if isinstance(embedder, WordEmbedder) and embedder.spec == specs[role]:
            found = index.nearest_to(role, embedder.embed_words([words])[0], take)
            break
    else:
        raise WordsUnknown(str(target), ", ".join(spec.name for spec in specs.values()))
    if as_json:
        works = [{"work": work.model_dump(mode="json"), "similarity": round(near, 4)} for work, near in found]
        print_json({"words": words, "embedder": specs[role].name, "works": works})
        return
    table = Table("similarity", "work", "title", "by", "bank", box=None)
    for work, near in found:
        table.add_row(f"{near:.3f}", plain(work.work_id), plain(work.title), plain(work.creator), plain(work.bank))
    Console(highlight=False).print(table)
