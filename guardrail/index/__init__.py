"""Fingerprints in, neighbours out: builds, checks and searches an index; the only room that imports faiss."""

from typing import TYPE_CHECKING

from guardrail.lazy import lazy_names

if TYPE_CHECKING:
    from guardrail.index.build import Builder, BuildReport, build_from_shards, build_index
    from guardrail.index.clusters import Clusters, Duplicates
    from guardrail.index.folder import FolderIndex
    from guardrail.index.pinned import PinnedIndex
    from guardrail.index.recipe import Recipe
    from guardrail.index.shard_list import ShardList, read_shard_list, write_shard_list
    from guardrail.index.taking import Taken, shard_rows, take
    from guardrail.index.verify import verify_index
    from guardrail.index.works import WorkRow, read_works

__all__ = [
    "BuildReport",
    "Builder",
    "Clusters",
    "Duplicates",
    "FolderIndex",
    "PinnedIndex",
    "Recipe",
    "ShardList",
    "Taken",
    "WorkRow",
    "build_from_shards",
    "build_index",
    "read_shard_list",
    "read_works",
    "shard_rows",
    "take",
    "verify_index",
    "write_shard_list",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "guardrail.index.build": (
            "BuildReport",
            "Builder",
            "build_from_shards",
            "build_index",
        ),
        "guardrail.index.clusters": (
            "Clusters",
            "Duplicates",
        ),
        "guardrail.index.folder": ("FolderIndex",),
        "guardrail.index.pinned": ("PinnedIndex",),
        "guardrail.index.recipe": ("Recipe",),
        "guardrail.index.shard_list": (
            "ShardList",
            "read_shard_list",
            "write_shard_list",
        ),
        "guardrail.index.taking": (
            "Taken",
            "shard_rows",
            "take",
        ),
        "guardrail.index.verify": ("verify_index",),
        "guardrail.index.works": (
            "WorkRow",
            "read_works",
        ),
    },
)
