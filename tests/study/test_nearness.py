"""Comparing what is kept of pictures: against brute force."""

import numpy as np

from guardrail.study.nearness import least_bits, most_alike


def test_least_bits_agrees_with_brute_force():
    chance = np.random.default_rng(0)
    views, hashes = chance.integers(0, 256, (8, 32), np.uint8), chance.integers(0, 256, (30, 32), np.uint8)
    hashes[7] = views[3]
    owners = np.repeat(np.arange(10), 3)
    bits, view = least_bits(views, hashes, owners, 11)
    every = np.unpackbits(views[:, None] ^ hashes[None], axis=2).sum(axis=2).reshape(8, 10, 3)
    assert bits.tolist() == [*every.min(axis=(0, 2)).tolist(), 256]
    assert (bits[2], view[2]) == (0, 3)


def test_most_alike_agrees_with_brute_force():
    chance = np.random.default_rng(1)
    looks, vectors = (chance.normal(size=(count, 16)).astype(np.float32) for count in (3, 20))
    alike, look = most_alike(looks, vectors)
    every = vectors @ looks.T
    assert np.array_equal(alike, every.max(axis=1))
    assert np.array_equal(look, every.argmax(axis=1))
