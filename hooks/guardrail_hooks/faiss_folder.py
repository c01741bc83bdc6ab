"""Index backend `folder`: an index in a folder, searched exactly with faiss."""

from collections.abc import Callable, Mapping

from guardrail.hookspecs import hookimpl
from guardrail.index import FolderIndex
from guardrail.protocols import IndexBackend


@hookimpl
def register_index_backends() -> Mapping[str, Callable[[str, str], IndexBackend]]:
    """Offer the backend of plain paths."""
    return {"folder": FolderIndex}
