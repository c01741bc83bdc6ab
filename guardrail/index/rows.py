"""From shards to the rows of an index, twice over them: once for what must be known before, once for the rows."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrail.carriers import IndexRows
from guardrail.index.chunks import Shards
from guardrail.index.recipe import Recipe
from guardrail.index.works import described_work
from guardrail.records import Sampling, Work

__all__ = ["Survey", "Titled"]

_ARRAYS = ("pdq", "phash", "copy", "tiles", "clip", "pixels")
_DIGESTS = ("file_sha256", "pixels_sha256")


@dataclass(slots=True)
class Survey:
    """What a first pass over the shards found.

    Attributes:
        works: how many there will be.
        unreadable: pictures that become no work, by name, and why.
        faint: files of works with so little in them that blank pictures look like them.
    """

    works: int = 0
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    faint: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Titled:
    """Shards, and what says which work each of their pictures is.

    Attributes:
        shards: the fingerprints.
        table: works by file; it counts more than what the source says.
        recipe: bank and disposition of those that nothing is said of.
        sampling: how many tiles there are.
    """

    shards: Shards
    table: Mapping[str, Work]
    recipe: Recipe
    sampling: Sampling

    def survey(self, quality_at_least: int) -> Survey:
        """Look at all rows once; those that become no work do not count from then on.

        Args:
            quality_at_least: PDQ quality below which a work is faint.
        """
        found = Survey(unreadable=list(self.shards.faults))
        done = self.shards.done
        for columns in self.shards.rows(("file", "error", "facts", "pdq_quality")):
            rows = zip(*(columns[name] for name in ("file", "error", "facts", "pdq_quality")), strict=True)
            for file, error, facts, quality in rows:
                fault = error or self._fault(file, facts)
                if fault:
                    found.unreadable.append((file, fault))
                    done.leave_out(file)
                    continue
                found.works += 1
                if quality < quality_at_least:
                    found.faint.append(file)
        found.unreadable += [(file, "it was listed and never fingerprinted") for file in done.nowhere()]
        found.unreadable.sort()
        return found

    def _fault(self, file: str, facts: str) -> str:
        """Why a picture that has fingerprints can be no work; empty where it can."""
        try:
            work = self.work(file, facts)
        except ValueError as error:
            return f"what its source says of the work cannot be used: {error}"
        if self.shards.done.claim(f"{work.bank}\0{work.work_id}"):
            return ""
        return f"another picture is {work.bank}/{work.work_id}"

    def work(self, file: str, facts: str) -> Work:
        """The work that a picture shows.

        Raises:
            ValueError: the source says something of it that cannot be used.
        """
        if file in self.table:
            return self.table[file]
        unsaid = {"bank": self.recipe.bank, "disposition": self.recipe.disposition}
        return described_work(file, unsaid | json.loads(facts))

    def batches(self) -> Iterator[IndexRows]:
        """The rows of the index, a few hundred at a time."""
        for columns in self.shards.rows(("file", "facts", *_DIGESTS, *_ARRAYS, "preview")):
            arrays = {name: columns[name] for name in _ARRAYS if name in columns}
            if "tiles" in arrays:
                whole = arrays["copy"]
                arrays["tiles"] = arrays["tiles"].reshape(len(whole), self.sampling.tiles - 1, whole.shape[1])
            both = zip(columns["file"], columns["facts"], strict=True)
            works = tuple(self.work(file, facts) for file, facts in both)
            of_files, of_pixels = (tuple(columns[name]) for name in _DIGESTS)
            yield IndexRows(works, tuple(columns["file"]), of_files, of_pixels, arrays, tuple(columns["preview"]))

    def copy_vectors(self) -> Iterator[NDArray[Any]]:
        """The copy descriptors of the works: float16 (n, D), a few hundred at a time."""
        return (np.asarray(columns["copy"]) for columns in self.shards.rows(("copy",)))
