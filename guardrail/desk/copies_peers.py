"""Other people's fingerprints beside ours in the same run: imagehash, pdqhash, and any embedder by its name."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from guardrail.desk.copies_choice import as_pixels
from guardrail.plugins import build_plugins, make_embedder
from guardrail.settings import Settings

__all__ = ["Peer", "make_peers"]

_IMAGEHASH_SIDE_BITS = 16  # Thorn's table compares hashes of 256 bits


class Peer(NamedTuple):
    """Somebody else's fingerprint: its version; pictures in, one row each out; how near rows are, higher is nearer."""

    about: str
    rows: Callable[[Sequence[Image.Image]], NDArray[Any]]
    nearness: Callable[[NDArray[Any], NDArray[Any]], NDArray[np.float32]]


def make_peers(names: Sequence[str], settings: Settings, device: str) -> Mapping[str, Peer]:
    """The hashes that are installed, and the embedders that were named.

    `phash16` and `dhash16` are imagehash's hashes of 256 bits, `pdqhash` is the package of that name.
    Hashes look at a picture as it stands, as their packages do: no turned views.

    Args:
        names: embedders as for an index, such as `onnx:FILE`; `none` alone for no peer at all.
        settings: where weights lie.
        device: a torch device name.

    Raises:
        EmbedderUnknown, WeightsUnusable, ExtraMissing: an embedder cannot be had.
    """
    if list(names) == ["none"]:
        return {}
    hashes = version("imagehash")
    peers: dict[str, Peer] = {
        "phash16": Peer(hashes, partial(_imagehash, "phash"), _bits_apart),
        "dhash16": Peer(hashes, partial(_imagehash, "dhash"), _bits_apart),
    }
    if importlib.util.find_spec("pdqhash"):
        peers["pdqhash"] = Peer(version("pdqhash"), _pdqhash, _bits_apart)
    plugins = build_plugins()
    for name in names:
        embedder = make_embedder(plugins, name, device, settings.weights_dir)
        scheme, mark, rest = name.partition(":")
        label = scheme + mark + rest.rpartition("/")[2]
        peers[label] = Peer(str(embedder.spec), partial(_vectors, embedder.embed), _cosines)
    return peers


def _imagehash(kind: str, pictures: Sequence[Image.Image]) -> NDArray[np.uint8]:
    import imagehash

    hashed = getattr(imagehash, kind)
    return np.stack([np.packbits(hashed(picture, hash_size=_IMAGEHASH_SIDE_BITS).hash) for picture in pictures])


def _pdqhash(pictures: Sequence[Image.Image]) -> NDArray[np.uint8]:
    import pdqhash

    return np.stack([np.packbits(pdqhash.compute(np.array(picture))[0]) for picture in pictures])


def _vectors(embed: Callable[[Sequence[Any]], NDArray[np.float32]], pictures: Sequence[Image.Image]) -> NDArray[Any]:
    return embed([as_pixels(picture) for picture in pictures])


def _bits_apart(queries: NDArray[Any], works: NDArray[Any]) -> NDArray[np.float32]:
    """Minus the Hamming distances of uint8 rows: (Q, B) and (W, B) in, float32 (Q, W) out."""
    return -np.stack([np.bitwise_count(query ^ works).sum(axis=1) for query in queries]).astype(np.float32)


def _cosines(queries: NDArray[Any], works: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(queries @ works.T, np.float32)
