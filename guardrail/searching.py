"""The indexes of a guard: the one it was given, and those of the adapters that its settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from guardrail import judge
from guardrail import plugins as tools
from guardrail.carriers import Fingerprints
from guardrail.errors import IndexMismatch, SettingsInvalid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from guardrail.protocols import IndexBackend
    from guardrail.records import GenerationContext, IndexHeader, Neighbour
    from guardrail.settings import Settings

__all__ = ["Indexes", "Searched", "clip_prints", "search_all"]


class Searched(NamedTuple):
    """One index as one batch sees it; `adapter` is empty for the index of the guard itself."""

    adapter: str
    backend: IndexBackend


class Indexes:
    """Opens the indexes once, and pins for each batch those that its run asks for.

    Args:
        hooks: the plugins.
        settings: name the index, and those of adapters.

    Raises:
        SettingsInvalid: no index is named.
        IndexMissing, IndexDamaged: one cannot be used.
        IndexMismatch: an adapter's index holds other fingerprints than the guard's.
    """

    def __init__(self, hooks: Any, settings: Settings) -> None:
        if not settings.index:
            raise SettingsInvalid("the settings or the call", "no index is named; give one with --index or index = ...")
        self._settings = settings
        self.main: IndexBackend = tools.open_index(hooks, settings.index, settings.search_device)
        self._built_for: IndexHeader = self.main.header
        self._of_adapters: dict[str, IndexBackend] = {}
        for name, facts in settings.adapters.items():
            if facts.index:
                self._of_adapters[name] = tools.open_index(hooks, facts.index, settings.search_device)
                self._alike(name, facts.index)

    def pinned(self, context: GenerationContext | None) -> tuple[Searched, ...]:
        """The index, and that of every adapter that is active, each as it is now.

        Raises:
            IndexMismatch, IndexMissing, IndexDamaged: one changed into something that cannot be searched alike.
        """
        main = tools.pinned_alike(self.main, self._built_for, self._settings.index)
        active = judge.active_adapter_indexes(context, self._settings.adapters)
        return (Searched("", main), *(Searched(one.adapter, self._alike(one.adapter, one.location)) for one in active))

    def _alike(self, adapter: str, location: str) -> IndexBackend:
        pinned = tools.pinned_alike(self._of_adapters[adapter], self._built_for, location)
        made, asked = pinned.header.normalisation, self._built_for.normalisation
        if made != asked:
            raise IndexMismatch(location, f"similarities normalised by {made}", f"normalised by {asked}")
        return pinned


def search_all(
    searched: tuple[Searched, ...], prints: Fingerprints, limit: int
) -> tuple[tuple[tuple[Neighbour, ...], ...], ...]:
    """The neighbours of N images in each index, index by index.

    Raises:
        ValueError: an index gave another number of answers than there are images.
    """
    found = tuple(_of_its_own_bank(one, one.backend.search(prints, limit)) for one in searched)
    for answers in found:
        if len(answers) != len(prints):
            raise ValueError(f"{len(answers)} answers of an index for {len(prints)} images")
    return found


def _of_its_own_bank(searched: Searched, found: tuple[tuple[Neighbour, ...], ...]) -> tuple[tuple[Neighbour, ...], ...]:
    """Works of an adapter's index in a bank of its name: two indexes may call different works the same."""
    if not searched.adapter:
        return found
    return tuple(
        tuple(
            near.model_copy(
                update={"work": near.work.model_copy(update={"bank": f"{searched.adapter}:{near.work.bank}"})}
            )
            for near in answers
        )
        for answers in found
    )


def clip_prints(vectors: NDArray[np.float32], header: IndexHeader) -> Fingerprints:
    """Fingerprints of N pictures of which only the CLIP vectors are known; what is near by other signals means nothing.

    Args:
        vectors: float32 (N, E), unit length.
        header: of the index to be searched.
    """
    count = len(vectors)
    copy = np.zeros((count, header.embedders["copy"].dimensions), np.float32)
    copy[:, 0] = 1
    return Fingerprints(
        failures=(None,) * count,
        file_sha256=(None,) * count,
        pixels_sha256=(None,) * count,
        pdq=np.zeros((count, 8, 32), np.uint8),
        pdq_quality=np.zeros(count, np.int64),
        phash=np.zeros((count, 8, 8), np.uint8),
        copy=copy,
        clip=np.asarray(vectors, np.float32),
    )
