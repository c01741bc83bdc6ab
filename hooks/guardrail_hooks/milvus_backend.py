"""Index backend `milvus`: an index on a Milvus server or cluster, for many machines at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guardrail.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from guardrail.protocols import IndexBackend


@hookimpl
def register_index_backends() -> Mapping[str, Callable[[str, str], IndexBackend]]:
    """Offer `milvus://host:port/database` and, over an encrypted connection, `milvus+tls://host:port/database`."""
    return {"milvus": _milvus, "milvus+tls": _milvus}


def _milvus(location: str, device: str) -> IndexBackend:
    del device  # it is searched where the server is
    from guardrail.index.milvus import open_milvus  # when an index is opened, not when backends are listed

    return open_milvus(location)
