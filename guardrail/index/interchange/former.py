"""The lists that went out before: what they hold together, so that a delta says only what changed."""

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from guardrail.errors import HashListUnusable
from guardrail.index.interchange.form import Former, ListedWork, WithdrawnWork
from guardrail.index.interchange.reading import HashList, Survey, is_hash_list
from guardrail.index.store.columns import key_prefix

__all__ = ["FormerLists", "find_former"]

_SHORTEST_SNAPSHOT = 8  # hex digits that name a snapshot
_GONE = 0


class FormerLists:
    """A full list and the deltas on it, in order.

    Args:
        lists: them.
        surveys: of each, what a survey found.
    """

    def __init__(self, lists: Sequence[HashList], surveys: Sequence[Survey]) -> None:
        self._lists, self._surveys = tuple(lists), tuple(surveys)
        keys, digests = array("Q"), array("Q")
        for one, survey in zip(self._lists, self._surveys, strict=True):
            for item in one.items(survey.sha256):
                if item.entry is not None:
                    keys.append(key_prefix(item.entry.bank, item.entry.work_id))
                    digests.append(item.digest if isinstance(item.entry, ListedWork) else _GONE)
        self._keys, self._digests = _last_said(np.array(keys, np.uint64), np.array(digests, np.uint64))

    @property
    def last(self) -> Former:
        """What a delta on them says that it goes on from."""
        return Former(sha256=self._surveys[-1].sha256, snapshot=self._lists[-1].head.snapshot)

    def require_origin(self, origin: str) -> None:
        """Require lists of this index and bank.

        Raises:
            HashListUnusable: they are another's.
        """
        if self._lists[-1].head.origin != origin:
            found = f"a list of the origin {self._lists[-1].head.origin[:12]}"
            told = "export a full list, or name the bank that the former list was of"
            raise HashListUnusable(str(self._lists[-1].path), found, f"one of {origin[:12]}", told)

    def digest(self, key: int) -> int:
        """The digest of the line that was last said of a work; 0 where there is none, or it was withdrawn."""
        at = int(np.searchsorted(self._keys, np.uint64(key)))
        return int(self._digests[at]) if at < len(self._keys) and int(self._keys[at]) == key else _GONE

    def withdrawn(self, present: NDArray[np.uint64]) -> Iterator[WithdrawnWork]:
        """The works that they have and that are no more.

        Args:
            present: uint64 (n,), ascending: the keys of all that are there.
        """
        gone = set(np.setdiff1d(self._keys[self._digests != _GONE], present).tolist())
        for one, survey in zip(self._lists, self._surveys, strict=True):
            if not gone:
                return
            for item in one.items(survey.sha256):
                if isinstance(item.entry, ListedWork):
                    key = key_prefix(item.entry.bank, item.entry.work_id)
                    if key in gone:
                        gone.remove(key)
                        yield WithdrawnWork(bank=item.entry.bank, work_id=item.entry.work_id)


def _last_said(keys: NDArray[np.uint64], digests: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    found, back = np.unique(keys[::-1], return_index=True)
    return found, digests[::-1][back]


def find_former(said: str, folder: Path) -> FormerLists:
    """The lists up to a former one.

    Args:
        said: the file of a list, or the first 8 or more digits of the snapshot that a list in `folder` was made of.
        folder: where lists are kept. A delta goes on from another list, which is looked for beside it.

    Raises:
        HashListUnusable: it is not there, one that it goes on from is not, or one is damaged.
    """
    path = Path(said)
    last = HashList(path) if path.is_file() else _of_snapshot(said, folder)
    surveyed = {last.path: last.survey(_unheard)}
    chain = [last]
    while (since := chain[0].head.since) is not None:
        chain.insert(0, _of_digest(since.sha256, last.path.parent, surveyed))
    return FormerLists(chain, [surveyed[one.path] for one in chain])


def _unheard(done: int, total: int) -> None:
    del done, total


def _lists_in(folder: Path) -> Iterator[HashList]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix in (".jsonl", ".parquet") and not path.name.startswith(".") and is_hash_list(path):
            try:
                yield HashList(path)
            except HashListUnusable:
                continue  # it is none of ours, or of a later version


def _of_snapshot(said: str, folder: Path) -> HashList:
    found = [one for one in _lists_in(folder) if one.head.snapshot.startswith(said)]
    if len(said) < _SHORTEST_SNAPSHOT or not found:
        expected = f"a list, or {_SHORTEST_SNAPSHOT} or more digits of the snapshot of one in {str(folder)!r}"
        raise HashListUnusable(
            said, "no such file and no such snapshot", expected, "name the file, or export a full list"
        )
    return max(found, key=lambda one: one.head.made_at)


def _of_digest(sha256: str, folder: Path, surveyed: dict[Path, Survey]) -> HashList:
    """The list of a digest; whatever is read on the way is remembered."""
    for one in _lists_in(folder):
        if one.path not in surveyed:
            try:
                surveyed[one.path] = one.survey(_unheard)
            except HashListUnusable:
                continue  # damaged, so not the one
        if surveyed[one.path].sha256 == sha256:
            return one
    found, expected = f"no list of sha256 {sha256[:12]}...", "the one that the delta goes on from"
    raise HashListUnusable(str(folder), found, expected, "put it there, or export a full list")
