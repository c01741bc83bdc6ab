"""Find out whether what a person names as a source are fingerprints that other machines have made."""

from collections.abc import Sequence
from pathlib import Path

from guardrail.errors import IndexDamaged
from guardrail.index import ShardList, read_shard_list
from guardrail.index.shard_list import LIST
from guardrail.index.shards import specification_of

__all__ = ["find_shard_list"]

_FINISHED = "fingerprints that are finished; run the same --ray command again"


def find_shard_list(locations: Sequence[str]) -> ShardList | None:
    """The fingerprints in a folder or at a URL; None where pictures are meant.

    Raises:
        IndexDamaged: fingerprints lie there that were never finished, or their list cannot be read.
    """
    if len(locations) != 1 or locations[0].endswith((".tar", ".parquet")):
        return None
    location = locations[0]
    if "://" in location or (Path(location) / LIST).is_file():
        found = read_shard_list(location)
        if found is None:
            raise IndexDamaged(location, f"no {LIST}", _FINISHED)
        return found
    first = next(iter(sorted(Path(location).glob("*.parquet"))), None) if Path(location).is_dir() else None
    if first is not None and specification_of(str(first)) is not None:
        raise IndexDamaged(location, f"no {LIST}", _FINISHED)
    return None
