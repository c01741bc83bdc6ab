"""Gradients with a common direction and different lengths, as those of images are; for tests of naming and shares."""

from functools import cached_property

import numpy as np

from guardrail.records import Work
from guardrail.study.attribution.hubs import Baseline
from guardrail.study.attribution.pulls import measured, without_self

COUNTERS = 192


class World:
    """Gradients of N training images and D decoys; pictures are asked about by gradients of their own."""

    def __init__(self, training=120, decoys=60, seed=0, tailed=False):
        self.chance = np.random.default_rng(seed)
        self.basis = self.chance.normal(size=(COUNTERS, COUNTERS)) * np.linspace(0.3, 0.05, COUNTERS)[:, None]
        self.tailed, self.damped = tailed, 0.1
        self.rows = self.fresh(training + decoys)
        self.decoys = np.arange(training + decoys) >= training
        self.labels = np.arange(training + decoys)

    def fresh(self, count):
        """Gradients of images that owe nothing to any row."""
        if self.tailed:
            plain = self.chance.standard_t(3, size=(count, COUNTERS))
        else:
            plain = self.chance.normal(size=(count, COUNTERS))
        lengths = np.exp(self.chance.normal(0, 0.25, (count, 1)))
        return (plain @ self.basis + 2 * self.basis[0]) * lengths

    def copy(self, row, copies):
        """Make the next rows near-duplicates of a row, of one label."""
        off = self.chance.normal(size=(copies, COUNTERS)) @ self.basis
        self.rows[row : row + copies] = self.rows[row] + 0.03 * off
        self.labels[row : row + copies] = row

    def asked(self, *owed, parts=4, noise=0.2):
        """Gradients of the parts of a picture's draws: of one that is made of some rows, or of none.

        A weight of 1 is a pull as long as that of most images, apart from what all have in common.
        """
        common = self.rows[self.decoys].mean(axis=0) if self.decoys.any() else self.rows.mean(axis=0)
        apart = self.rows - common
        lengths = np.linalg.norm(apart, axis=1)
        mean = self.fresh(1)[0]
        if owed:
            mean = common + 0.3 * (mean - common)
            mean += np.median(lengths) * sum(weight * apart[row] / lengths[row] for row, weight in owed)
        return mean + noise * np.sqrt(parts) * self.chance.normal(size=(parts, COUNTERS)) @ self.basis

    @property
    def damping(self):
        return self.damped * float((self.rows**2).sum(axis=1).mean())

    def measured(self, parts):
        """By the plain version."""
        return measured(self.rows, self.decoys, parts, self.damping)

    @cached_property
    def solved(self):
        """The inverse of the Gram matrix; rows are not changed afterwards."""
        return np.linalg.inv(self.rows @ self.rows.T + self.damping * np.eye(len(self.rows)))

    def influence(self, parts):
        """Of all rows on the whole picture, as `measured` has it."""
        return self.solved @ (self.rows @ parts.mean(axis=0))

    def baseline(self, **settings):
        asked = np.flatnonzero(self.decoys)
        references = without_self(self.rows[asked] @ self.rows.T @ self.solved, asked)
        return Baseline.of(references, self.decoys, self.labels, **settings)

    def works(self, **holders):
        """Works of the training images: holders by `_ROW`, all others of the bank alone."""
        count = int((~self.decoys).sum())
        return [Work(work_id=str(row), bank="stock", rights_holder=holders.get(f"_{row}", "")) for row in range(count)]
