"""Clusters of works that show one picture: found once, then kept up with what is added and withdrawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from guardrail.index.clusters_cache import Links, read_links, write_links
from guardrail.index.clusters_near import Likeness, new_links
from guardrail.index.search import Background
from guardrail.index.store.state import State
from guardrail.index.structures import Structures
from guardrail.records import Limits

__all__ = ["Clusters", "Duplicates", "clusters_of_links", "find_clusters", "known_clusters"]

_Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Clusters:
    """Which works of a state show one picture.

    Attributes:
        rows: int64 (n,), ascending: every row that counts.
        picture: int64 (n,): the smallest row with the very same pixels.
        cluster: int64 (n,): the smallest row of its cluster; its own where it has no near-duplicate.
        pending: how many works were not compared yet (0, but for `known_clusters`).
    """

    rows: _Rows
    picture: _Rows
    cluster: _Rows
    pending: int = 0

    def of(self, row: int) -> tuple[int, ...]:
        """The rows of a row's cluster, itself among them, ascending; none for a row that does not count."""
        at = int(np.searchsorted(self.rows, row))
        if at == len(self.rows) or int(self.rows[at]) != row:
            return ()
        return tuple(self.rows[self.cluster == self.cluster[at]].tolist())

    def groups(self, at_least: int = 2) -> tuple[tuple[int, ...], ...]:
        """The clusters of so many rows or more, largest first, then by their smallest row."""
        order = np.argsort(self.cluster, kind="stable")
        _, starts, sizes = np.unique(self.cluster[order], return_index=True, return_counts=True)
        chosen = np.flatnonzero(sizes >= at_least)
        chosen = chosen[np.argsort(-sizes[chosen], kind="stable")]
        return tuple(tuple(self.rows[order[starts[at] : starts[at] + sizes[at]]].tolist()) for at in chosen.tolist())

    def pictures(self, rows: tuple[int, ...]) -> int:
        """How many of some rows differ in a pixel or more: 1 where all are the very same picture."""
        return len(np.unique(self.picture[np.searchsorted(self.rows, np.array(rows, np.int64))]))


class Duplicates:
    """The near-duplicates among the works of a state: `index.pinned().duplicates.of(row)` names all of a picture."""

    def __init__(self, state: State, structures: Structures, limits: Limits, background: Background | None) -> None:
        self._state, self._structures, self._likeness = state, structures, Likeness(limits, background)
        self._found: Clusters | None = None

    def clusters(self, progress: Callable[[int, int], None] = lambda done, total: None) -> Clusters:
        """All clusters, see `find_clusters`; sought once."""
        if self._found is None:
            self._found = find_clusters(self._state, self._structures, self._likeness, progress)
        return self._found

    def known(self) -> Clusters | None:
        """The clusters as far as they were found before, without a search; None where none were sought."""
        return self._found or known_clusters(self._state, self._likeness)

    def of(self, row: int) -> tuple[int, ...]:
        """The rows that show the same picture as a row, itself among them, ascending: the works of all its owners."""
        return self.clusters().of(row)


def find_clusters(
    state: State,
    structures: Structures,
    likeness: Likeness,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Clusters:
    """The clusters of a state. Works that were compared before, by the same limits, are not compared again.

    Args:
        state: the index; all rows that were not withdrawn count, whatever their bank, standing or dates.
        structures: its search structures.
        likeness: what makes two works near-duplicates.
        progress: called with (works asked for, works in all), each twice.

    Returns:
        The same clusters whatever was known before: they follow from the rows alone. See `new_links` for the one
        exception, and `clusters_of_links` for what a cluster is.
    """
    rows = np.flatnonzero(state.alive)
    picture = _first_with_the_same(state, rows)
    pictures, works = np.unique(picture, return_counts=True)
    before = read_links(state, likeness)
    known = before.among(pictures)
    fresh = np.setdiff1d(pictures, known.rows, assume_unique=True)
    pairs = np.concatenate([known.pairs, new_links(state, structures, likeness, known.rows, fresh, progress)])
    links = Links(pictures, pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))])
    if not np.array_equal(before.rows, links.rows):
        write_links(state, likeness, links)
    return Clusters(rows, picture, _spread(picture, pictures, clusters_of_links(links, works)))


def known_clusters(state: State, likeness: Likeness) -> Clusters | None:
    """The clusters as far as they are known, without a search; None where nothing is."""
    before = read_links(state, likeness)
    if not len(before.rows):
        return None
    rows = np.flatnonzero(state.alive)
    picture = _first_with_the_same(state, rows)
    pictures, works = np.unique(picture, return_counts=True)
    known = before.among(pictures)
    cluster = _spread(picture, pictures, clusters_of_links(Links(pictures, known.pairs), works))
    return Clusters(rows, picture, cluster, int(np.isin(picture, known.rows, invert=True).sum()))


def clusters_of_links(links: Links, works: _Rows) -> _Rows:
    """Clusters in which every work is a near-duplicate of one and the same, the centre.

    Whoever has most near-duplicates becomes the centre of a cluster of those that are in none yet. So a chain, each of
    whose links is alike and whose ends are not, falls into pieces.

    Args:
        links: pictures, and which are near-duplicates.
        works: int64 (n,), how many works show each picture.

    Returns:
        int64 (n,): for each picture the smallest of its cluster.

    Source: Aslam, Pelekhov and Rus 2004, "The star clustering algorithm for static and dynamic information
    organization", section 3 (off-line star). We differ in breaking ties by row, so that clusters follow from the
    links alone, and in counting works, not pictures.
    """
    names = np.arange(len(links.rows))
    both = np.searchsorted(links.rows, np.concatenate([links.pairs, links.pairs[:, ::-1]]))
    both = both[np.argsort(both[:, 0], kind="stable")]
    starts = np.searchsorted(both[:, 0], np.arange(len(names) + 1))
    weight = works + np.bincount(both[:, 0], works[both[:, 1]], len(names)).astype(np.int64)
    linked = np.flatnonzero(np.diff(starts))
    free = np.ones(len(names), np.bool_)
    for centre in linked[np.argsort(-weight[linked], kind="stable")].tolist():
        if free[centre]:
            around = both[starts[centre] : starts[centre + 1], 1]
            members = np.append(around[free[around]], centre)
            free[members], names[members] = False, members.min()
    return links.rows[names]


def _spread(picture: _Rows, pictures: _Rows, clusters: _Rows) -> _Rows:
    """From pictures to works: a cluster is named by its smallest row, which is that of a picture."""
    return clusters[np.searchsorted(pictures, picture)]


def _first_with_the_same(state: State, rows: _Rows) -> _Rows:
    """For each row the smallest with the very same pixels, or else file; its own where neither is known."""
    first = np.arange(len(state.alive))
    if not len(rows):
        return rows
    both = state.take("digests", rows)
    for which in (0, 1):  # file, then pixels, which say more
        known = np.flatnonzero(both[:, which].any(axis=1))
        if not len(known):
            continue
        named = np.ascontiguousarray(both[known, which]).view("V32")[:, 0]
        _, at, place = np.unique(named, return_index=True, return_inverse=True)
        first[rows[known]] = first[rows[known[at]]][place]
    return first[rows]
