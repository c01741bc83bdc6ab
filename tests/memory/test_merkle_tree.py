"""The tree of RFC 6962, against published values and against a plain version of the RFC's own words."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.memory.tree import Frontier, inclusion_path, leaf_hash, root_from_path, root_of

# Leaves, roots and a path of the reference implementation of certificate transparency (its Merkle tree tests).
LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
PATH_OF_FIRST = [
    "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
    "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
]


def plain_root(leaves):
    """RFC 6962, section 2.1, word by word."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return hashlib.sha256(b"\1" + plain_root(leaves[:split]) + plain_root(leaves[split:])).digest()


def plain_path(index, leaves):
    """RFC 6962, section 2.1.1, word by word."""
    if len(leaves) <= 1:
        return []
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    if index < split:
        return [*plain_path(index, leaves[:split]), plain_root(leaves[split:])]
    return [*plain_path(index - split, leaves[split:]), plain_root(leaves[:split])]


def hashes(leaves):
    return [leaf_hash(leaf) for leaf in leaves]


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_the_published_ones(size):
    assert root_of(hashes(map(bytes.fromhex, LEAVES[:size]))).hex() == ROOTS[size - 1]


def test_path_is_the_published_one():
    path = inclusion_path(hashes(map(bytes.fromhex, LEAVES)), 0)
    assert [one.hex() for one in path] == PATH_OF_FIRST
    assert root_from_path(leaf_hash(b""), 0, 8, path).hex() == ROOTS[-1]


@pytest.mark.parametrize("size", [*range(0, 18), 31, 32, 33, 100])
def test_roots_and_paths_are_those_of_the_plain_version(size):
    leaves = [bytes([at % 256, at // 256]) for at in range(size)]
    known, root = hashes(leaves), plain_root(leaves)
    assert root_of(known) == root
    for index in range(size):
        path = inclusion_path(known, index)
        assert path == plain_path(index, leaves)
        assert root_from_path(known[index], index, size, path) == root


@given(st.lists(st.integers(0, 9), max_size=6))
def test_leaves_may_be_appended_in_any_portions(portions):
    leaves = [bytes([at]) for at in range(sum(portions))]
    frontier, at = Frontier(), 0
    for portion in portions:
        frontier = Frontier.from_bytes(frontier.size, frontier.to_bytes())
        frontier.extend(hashes(leaves[at : at + portion]))
        at += portion
    assert (frontier.size, frontier.root()) == (len(leaves), plain_root(leaves))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9])
def test_no_changed_path_leads_to_the_root(size):
    leaves = [bytes([at]) for at in range(size)]
    known, root = hashes(leaves), plain_root(leaves)
    for index in range(size):
        path = inclusion_path(known, index)
        others = [[*path, b"x" * 32], path[:-1], path[::-1], [b"x" * 32, *path[1:]]]
        for other in (one for one in others if one != path):
            try:
                assert root_from_path(known[index], index, size, other) != root
            except ValueError:
                continue
        for place in (one for one in range(size + 1) if one != index):
            try:
                assert root_from_path(known[index], place, size, path) != root
            except ValueError:
                continue


@pytest.mark.parametrize(("size", "packed"), [(1, b""), (0, b"x" * 32), (3, b"x" * 32), (1, b"x" * 31), (-1, b"")])
def test_frontier_of_another_size_is_refused(size, packed):
    with pytest.raises(ValueError, match="leaves"):
        Frontier.from_bytes(size, packed)


@pytest.mark.parametrize("index", [-1, 3])
def test_there_is_no_path_of_a_leaf_that_is_not_there(index):
    with pytest.raises(IndexError):
        inclusion_path(hashes([b"a", b"b", b"c"]), index)
