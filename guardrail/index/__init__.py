"""Fingerprints in, neighbours out: builds, checks and searches an index; the only room that imports faiss."""

from guardrail.index.build import Builder, BuildReport, build_index, find_images
from guardrail.index.folder import FolderIndex, verify_index
from guardrail.index.recipe import Recipe
from guardrail.index.works import WorkRow, read_works

__all__ = [
    "BuildReport",
    "Builder",
    "FolderIndex",
    "Recipe",
    "WorkRow",
    "build_index",
    "find_images",
    "read_works",
    "verify_index",
]
