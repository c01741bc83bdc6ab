"""The Merkle tree of RFC 6962 over the ledger's rows: leaves in, a root and short proofs out."""

import hashlib
from collections.abc import Iterable, Sequence
from hashlib import sha256

__all__ = ["EMPTY_ROOT", "LEAF", "Frontier", "inclusion_path", "leaf_hash", "node_hash", "root_from_path", "root_of"]

LEAF = b"\x00"  # put before a leaf's bytes, RFC 6962 section 2.1
_NODE = b"\x01"  # put before two hashes
_DIGEST_BYTES = 32  # of SHA-256
EMPTY_ROOT = hashlib.sha256().digest()


def leaf_hash(leaf: bytes) -> bytes:
    """The hash of a leaf's bytes, 32 bytes. Source: RFC 6962, section 2.1."""
    return sha256(LEAF + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees, 32 bytes. Source: RFC 6962, section 2.1."""
    return sha256(_NODE + left + right).digest()


class Frontier:
    """What is needed of a tree to append to it: the roots of its complete subtrees, largest first.

    Appending n leaves costs n leaf hashes and fewer than n hashes of nodes; a tree of N leaves has at most log2 N + 1
    such roots.

    Args:
        size: number of leaves.
        roots: of the complete subtrees, one for each bit that is set in `size`, largest first.

    Raises:
        ValueError: there are not that many roots.
    """

    def __init__(self, size: int = 0, roots: Sequence[bytes] = ()) -> None:
        if size < 0 or len(roots) != size.bit_count() or any(len(root) != _DIGEST_BYTES for root in roots):
            raise ValueError(f"found {len(roots)} roots for a tree of {size} leaves")
        self.size = size
        self._roots = list(roots)

    @classmethod
    def from_bytes(cls, size: int, packed: bytes) -> "Frontier":
        """The one that `to_bytes` wrote.

        Raises:
            ValueError: it is none of a tree of that size.
        """
        return cls(size, [packed[at : at + _DIGEST_BYTES] for at in range(0, len(packed), _DIGEST_BYTES)])

    def to_bytes(self) -> bytes:
        """Its roots one after another, 32 bytes each."""
        return b"".join(self._roots)

    def extend(self, hashes: Iterable[bytes]) -> None:
        """Append leaves by their hashes."""
        roots, size = self._roots, self.size
        for digest in hashes:
            size += 1
            roots.append(digest)
            merged = size
            while not merged & 1:
                right = roots.pop()
                roots[-1] = sha256(_NODE + roots[-1] + right).digest()
                merged >>= 1
        self.size = size

    def root(self) -> bytes:
        """The root of the whole tree, 32 bytes; of an empty one, the hash of nothing."""
        if not self._roots:
            return EMPTY_ROOT
        root = self._roots[-1]
        for left in reversed(self._roots[:-1]):
            root = node_hash(left, root)
        return root


def root_of(hashes: Iterable[bytes]) -> bytes:
    """The root of the tree over leaf hashes."""
    frontier = Frontier()
    frontier.extend(hashes)
    return frontier.root()


def inclusion_path(hashes: Sequence[bytes], index: int) -> list[bytes]:
    """The hashes by which a leaf leads to the root, lowest first.

    Args:
        hashes: of all leaves, 32 bytes each.
        index: of the leaf, from 0.

    Raises:
        IndexError: there is no such leaf.

    Source: RFC 6962, section 2.1.1; bottom up instead of recursive.
    """
    if not 0 <= index < len(hashes):
        raise IndexError(f"found {len(hashes)} leaves and no leaf {index}")
    path, level = [], list(hashes)
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            path.append(level[sibling])
        pairs = [node_hash(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
        level = pairs + level[len(pairs) * 2 :]
        index >>= 1
    return path


def root_from_path(digest: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root that a leaf leads to.

    Args:
        digest: the leaf's hash.
        index: of the leaf, from 0.
        size: number of leaves of the tree.
        path: the hashes beside its way up, lowest first.

    Raises:
        ValueError: no path of that length belongs to such a leaf.

    Source: RFC 9162, section 2.1.3.2.
    """
    if not 0 <= index < size:
        raise ValueError(f"found index {index} in a tree of {size} leaves")
    at, last, root = index, size - 1, digest
    for beside in path:
        if last == 0:
            raise ValueError(f"found {len(path)} hashes, too many for leaf {index} of {size}")
        if at & 1 or at == last:
            root = node_hash(beside, root)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            root = node_hash(root, beside)
        at, last = at >> 1, last >> 1
    if last:
        raise ValueError(f"found {len(path)} hashes, too few for leaf {index} of {size}")
    return root
