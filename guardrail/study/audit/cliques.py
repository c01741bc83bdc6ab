"""Generations that come again and again from different seeds: cliques of the graph of who is near whom."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import networkx
import numpy as np
from numpy.typing import NDArray

__all__ = ["CLIQUE_AT_LEAST", "cliques"]

CLIQUE_AT_LEAST = 10  # generations; Carlini et al. 2023, section 4.2: such a clique predicts memorisation
_LOOKED_AT = 5_000  # maximal cliques of one component looked at before the largest of them is taken; about 1 s


def cliques(near: NDArray[np.bool_], at_least: int = CLIQUE_AT_LEAST) -> tuple[tuple[int, ...], ...]:
    """Disjoint cliques of generations that are all near one another, the largest first.

    Args:
        near: bool (N, N), symmetric; its diagonal does not count.
        at_least: the smallest clique, >= 2.

    Returns:
        Rows, ascending in each clique. The largest clique of each connected part is taken, its members are left out,
        and so on. Where a part has more than 5,000 maximal cliques, the largest of the first 5,000 is taken, so that a
        clique is then at least as large as said. Deterministic.

    Source: Carlini et al. 2023, section 4.2: of 500 generations for a caption, a clique of 10 or more by tile l2
    predicts that a training picture is memorised; we differ in taking all captions together, because the same picture
    for two captions is a sign, too.
    """
    graph = networkx.Graph()
    graph.add_edges_from((int(one), int(other)) for one, other in np.argwhere(np.triu(near, k=1)))
    found: list[tuple[int, ...]] = []
    while True:
        graph = networkx.k_core(graph, at_least - 1)  # every member of a clique has that many neighbours in it
        largest = list(_largest_of_parts(graph, at_least))
        if not largest:
            return tuple(sorted(found, key=lambda clique: (-len(clique), clique)))
        for clique in largest:
            graph.remove_nodes_from(clique)
        found += largest


def _largest_of_parts(graph: networkx.Graph, at_least: int) -> Iterator[tuple[int, ...]]:
    for part in networkx.connected_components(graph):
        each = networkx.find_cliques(graph.subgraph(sorted(part)))
        largest = max(islice(each, _LOOKED_AT), key=lambda clique: (len(clique), [-row for row in sorted(clique)]))
        if len(largest) >= at_least:
            yield tuple(sorted(largest))
